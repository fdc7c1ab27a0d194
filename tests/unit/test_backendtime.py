"""Deadlines go by the backend's clock where it has one."""

from __future__ import annotations

from typing import Any

from queuekit.backendtime import AWAY, FRESH, BackendTime
from queuekit.clock import VirtualClock
from queuekit.errors import DriverUnavailable


class Ahead:
    """A backend whose clock is an hour ahead, and which can be away."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked = 0
        self.away = False

    def server_time(self) -> float:
        """Return its time."""
        self.asked += 1
        if self.away:
            raise DriverUnavailable("away")
        return self.clock.time() + 3600


def times(features: frozenset[str] = frozenset({"server_clock"})) -> tuple[Any, VirtualClock, BackendTime]:
    """Return a backend, this machine's clock, and what is tested."""
    clock = VirtualClock()
    backend: Any = Ahead(clock)
    return backend, clock, BackendTime(backend, features, clock)


def test_it_asks_once_and_counts_on_by_the_monotonic_clock():
    backend, clock, time = times()
    assert time.now() == clock.time() + 3600
    expected = time.now() + 10
    clock.advance(10)
    clock.step(-500)
    assert time.now() == expected, "a step of this machine's clock moved a deadline"
    assert backend.asked == 1


def test_it_asks_again_after_a_while():
    backend, clock, time = times()
    time.now()
    clock.advance(FRESH)
    time.now()
    assert backend.asked == 2


def test_a_backend_that_is_away_is_no_reason_to_fail():
    backend, clock, time = times()
    backend.away = True
    assert time.now() == clock.time()
    backend.away = False
    clock.advance(AWAY)
    assert time.now() == clock.time() + 3600
    backend.away = True
    clock.advance(FRESH)
    assert time.now() == clock.time() + 3600, "what was known is forgotten"


def test_a_backend_that_is_away_is_not_asked_by_every_job():
    """Each question takes as long as the driver waits for an answer."""
    backend, clock, time = times()
    backend.away = True
    for _ in range(10):
        time.now()
    assert backend.asked == 1
    clock.advance(AWAY)
    time.now()
    assert backend.asked == 2


def test_a_backend_without_a_clock_is_not_asked():
    backend, clock, time = times(frozenset())
    assert time.now() == clock.time()
    assert backend.asked == 0
