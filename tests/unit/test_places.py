"""Places are bounded, waited for, and never lost."""

from __future__ import annotations

import threading
import time

import pytest

from queuekit.places import Places
from queuekit_integration.faults import interrupted_at_every_step


def nobody() -> None:
    """Look at nobody's patience."""


def test_so_many_are_let_in_and_the_next_one_waits_until_one_leaves() -> None:
    places = Places(2)
    first, second = places.take(0, look=nobody), places.take(0, look=nobody)
    assert first is not None
    assert second is not None
    assert places.take(0, look=nobody) is None
    threading.Timer(0.1, lambda: places.leave(first)).start()
    begin = time.monotonic()
    third = places.take(10, look=nobody)
    assert third is not None
    assert time.monotonic() - begin < 5
    assert places.take(0.1, look=nobody) is None


def test_whoever_waits_is_looked_at_and_may_be_turned_away() -> None:
    places = Places(1)
    held = places.take(0, look=nobody)

    def look() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        places.take(10, look=look)
    assert held is not None


def test_a_place_that_nobody_has_any_more_is_free() -> None:
    places = Places(1)
    assert places.take(0, look=nobody) is not None
    assert places.take(0, look=nobody) is not None


def test_no_interruption_at_any_step_loses_a_place() -> None:
    places = Places(1)

    def use() -> None:
        place = places.take(0, look=nobody)
        assert place is not None
        places.leave(place)

    for _ in interrupted_at_every_step(use, ["queuekit/places.py", "tests/unit/test_places.py"]):
        place = places.take(0, look=nobody)
        assert place is not None
        places.leave(place)


def test_many_threads_share_few_places() -> None:
    places, inside, most = Places(3), [0], [0]
    lock = threading.Lock()

    def visit() -> None:
        for _ in range(200):
            place = places.take(30, look=nobody)
            assert place is not None
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.0001)
            with lock:
                inside[0] -= 1
            places.leave(place)

    threads = [threading.Thread(target=visit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
