"""A move neither loses what it cannot bring over nor takes a backend for another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from queuekit import ConfigurationError, UnsupportedError
from queuekit.contract import Again, Count, Delivery, Done, Driver, Limits, Message, Query, State, Unique, VirtualClock
from queuekit.ids import new_id
from queuekit.memory import Broker, MemoryDriver
from queuekit.move import Moved, move
from queuekit.pairing import pair
from queuekit.sqlite import SqliteDriver


class Carrier:
    """A transport: the verbs of a memory driver alone, and whether it is asked about the same broker."""

    def __init__(self, broker: Broker, *, name: str = "carrier") -> None:
        self._driver = MemoryDriver(broker=broker)
        self.limits = Limits(name=name, unique_ids=False)
        self.open, self.close, self.prepare = self._driver.open, self._driver.close, self._driver.prepare
        self.send = self._driver.send
        self.settle, self.extend = self._driver.settle, self._driver.extend
        self.broker = broker
        self.open()

    def claim(
        self, queues: Sequence[str], *, limit: int, lease: float, wait: float = 0.0, **rest: Any
    ) -> list[Delivery]:
        """Lend what is due: nobody moves the clock for one that waits."""
        assert wait >= 0
        return self._driver.claim(queues, limit=limit, lease=lease, **rest)


class Comparing(Carrier):
    """One that can tell whose queues it has."""

    def same_queue(self, other: Driver, queue: str) -> bool:
        assert queue == "default"
        return isinstance(other, Comparing) and other.broker is self.broker


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def here(clock: VirtualClock) -> Iterator[MemoryDriver]:
    driver = MemoryDriver(broker=Broker(clock))
    driver.open()
    yield driver
    driver.close()


@pytest.fixture
def there(clock: VirtualClock) -> Iterator[MemoryDriver]:
    driver = MemoryDriver(broker=Broker(clock))
    driver.open()
    yield driver
    driver.close()


def message(body: str = "{}", *, scope: str | None = None, on_conflict: str = "return") -> Message:
    unique = None if scope is None else msgspec.convert({"scope": scope, "on_conflict": on_conflict}, Unique)
    return Message(new_id(), "default", "t", body, unique=unique)


def moved(source: Driver, target: Driver, clock: VirtualClock) -> Moved:
    [result] = move(source, target, clock=clock, queues=["default"], timeout=0)
    return result


def waiting(driver: MemoryDriver) -> list[str]:
    return [record.id for record in driver.browse(Query(states=("pending", "scheduled"), limit=1000)).records]


# ----------------------------------------------------------------------------------------- one and the same backend


def test_a_move_to_the_same_backend_is_refused_and_leaves_all_as_it_was(
    here: MemoryDriver, clock: VirtualClock
) -> None:
    here.send([message() for _ in range(6)])
    with pytest.raises(ConfigurationError, match=r"^A and B are the same backend in the same namespace.* another"):
        move(here, MemoryDriver(broker=here.broker), clock=clock, called=("A", "B"))
    assert len(waiting(here)) == 6
    assert here.paused() == [], "the probe was left behind"


def test_a_file_is_the_same_by_any_path_and_namespaces_of_it_are_two(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    source = SqliteDriver(tmp_path / "jobs.db")
    alias = SqliteDriver(tmp_path / "link.db")
    shop = SqliteDriver(tmp_path / "jobs.db", namespace="shop")
    for driver in (source, alias, shop):
        driver.open()
    source.send([message() for _ in range(3)])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        moved(source, alias, clock)
    assert (source.count()[0].pending, source.paused()) == (3, [])
    assert moved(source, shop, clock) == Moved(queue="default", moved=3, left=0, paused=True)
    assert shop.count()[0].pending == 3
    for driver in (source, alias, shop):
        driver.close()


def test_the_probe_is_taken_back_when_the_target_does_not_answer(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> list[str]:
        assert here.paused(), "nothing was probed"
        raise KeyboardInterrupt

    monkeypatch.setattr(there, "paused", interrupted)
    with pytest.raises(KeyboardInterrupt):
        moved(here, there, clock)
    assert here.paused() == []


def test_a_transport_is_asked_whether_the_target_has_the_same_queues(here: MemoryDriver, clock: VirtualClock) -> None:
    source, target = Comparing(here.broker), Comparing(Broker(clock))
    here.send([message()])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        moved(source, Comparing(here.broker), clock)
    assert len(waiting(here)) == 1
    assert moved(source, target, clock).moved == 1


def test_a_transport_and_a_pair_on_it_share_their_queues(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock
) -> None:
    source = Comparing(here.broker)
    both = pair(Comparing(here.broker), there, clock=clock)
    both.open()
    for one, other in ((source, both), (both, source)):
        with pytest.raises(ConfigurationError, match="are the same backend"):
            moved(one, other, clock)
    both.close()


def test_a_pair_and_its_store_are_the_same(here: MemoryDriver, there: MemoryDriver, clock: VirtualClock) -> None:
    both = pair(Comparing(here.broker), there, clock=clock)
    both.open()
    there.send([message()])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        moved(both, there, clock)
    assert len(waiting(there)) == 1
    both.close()


def test_two_transports_of_a_kind_that_cannot_tell_are_refused(here: MemoryDriver, clock: VirtualClock) -> None:
    here.send([message()])
    with pytest.raises(UnsupportedError, match=r"same carrier cannot be told.* no same_queue\(\)"):
        moved(Carrier(here.broker), Carrier(Broker(clock)), clock)
    assert len(waiting(here)) == 1
    assert moved(Carrier(here.broker), Carrier(Broker(clock), name="another"), clock).moved == 1


# ------------------------------------------------------------------------------------------- what the target refuses


def test_a_job_whose_scope_is_held_in_the_target_stays_until_it_is_free(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock
) -> None:
    holder, held, other = message("holder", scope="s"), message("held", scope="s"), message("other")
    there.send_unique([holder])
    here.send_unique([held, other])
    expected = Moved(queue="default", moved=1, left=1, paused=True, refused={held.id: holder.id})
    assert moved(here, there, clock) == expected
    assert (waiting(here), waiting(there)) == ([held.id], [holder.id, other.id])
    [delivery] = there.claim(["default"], limit=1, lease=10)
    there.settle([Done(delivery)])
    assert moved(here, there, clock) == Moved(queue="default", moved=1, left=0, paused=True)
    assert (waiting(here), waiting(there)) == ([], [other.id, held.id])


def test_jobs_behind_many_that_are_refused_go_over(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock
) -> None:
    scopes = [str(number) for number in range(450)]
    there.send_unique([message(scope=scope) for scope in scopes])
    here.send_unique([message(scope=scope) for scope in scopes])
    here.send([last := message()])
    result = moved(here, there, clock)
    assert (result.moved, result.left, len(result.refused)) == (1, 450, 450)
    assert waiting(there)[-1] == last.id


def test_a_move_replaces_no_job_of_the_target(here: MemoryDriver, there: MemoryDriver, clock: VirtualClock) -> None:
    there.send_unique([newer := message("newer", scope="s")])
    here.send_unique([older := message("older", scope="s", on_conflict="replace")])
    assert moved(here, there, clock).refused == {older.id: newer.id}
    [record] = there.browse(Query()).records
    assert (record.id, record.body) == (newer.id, "newer")


def test_a_job_that_the_target_has_already_is_no_refusal(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock
) -> None:
    once = message(scope="s")
    here.send_unique([once])
    there.send_unique([once])
    assert moved(here, there, clock) == Moved(queue="default", moved=1, left=0, paused=True)
    assert (waiting(here), waiting(there)) == ([], [once.id])


def test_a_retry_that_comes_back_during_the_move_is_moved(
    here: MemoryDriver, there: MemoryDriver, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.send([first := message(), last := message()])
    [running] = here.claim(["default"], limit=1, lease=10)
    real = here.delete

    def fails_meanwhile(ids: list[str]) -> list[State | None]:
        if last.id in ids:
            here.settle([Again(running)])
        return real(ids)

    monkeypatch.setattr(here, "delete", fails_meanwhile)
    assert moved(here, there, clock) == Moved(queue="default", moved=2, left=0, paused=True)
    assert waiting(there) == [last.id, first.id]


def test_a_transport_keeps_what_is_refused(here: MemoryDriver, there: MemoryDriver, clock: VirtualClock) -> None:
    source = Comparing(here.broker)
    assert not isinstance(source, Count)
    there.send_unique([holder := message(scope="s")])
    here.send_unique([held := message(scope="s"), other := message()])
    expected = Moved(queue="default", moved=1, left=None, paused=False, refused={held.id: holder.id})
    assert moved(source, there, clock) == expected
    assert (waiting(here), waiting(there)) == ([held.id], [holder.id, other.id])
    assert here.get([held.id])[0].attempt == 0, "it was charged"  # type: ignore[union-attr]  # it is there
