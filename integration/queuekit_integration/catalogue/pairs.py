"""PAIR: a transport paired with a store loses nothing between the two, and runs nothing twice after a recorded success."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from queuekit import Job
from queuekit.clock import SystemClock
from queuekit.contract import Dead, DispatchTimeout, Done, DriverRejected, DriverUnavailable, Message
from queuekit.ids import new_id
from queuekit.pairing import Paired
from queuekit.pairing.build import kind_for
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario

LEASE = 0.6
WITHIN = 0.4


class CrashError(BaseException):
    """The process dies here."""


@dataclass
class Side:
    """One half of a pair, which ends its process before or after one of its verbs."""

    driver: Any
    verb: str | None = None
    when: str = ""
    skip: int = 0
    """Calls of the verb to let pass first."""
    fired: bool = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.driver, name)
        return self._dying(real) if name == self.verb and not self.fired else real

    def take(self, *args: Any, **kwargs: Any) -> Any:
        """Pass it on: the pair looks for this method, and for the next two, on the class."""
        return self.__getattr__("take")(*args, **kwargs)

    def let_go(self, *args: Any, **kwargs: Any) -> Any:
        """Pass it on."""
        return self.__getattr__("let_go")(*args, **kwargs)

    def settle_and_lend(self, *args: Any, **kwargs: Any) -> Any:
        """Pass it on."""
        return self.__getattr__("settle_and_lend")(*args, **kwargs)

    def _dying(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.skip:
                self.skip -= 1
                return real(*args, **kwargs)
            self.fired = True
            if self.when == "after":
                real(*args, **kwargs)
            raise CrashError

        return call


POINTS = (
    ("dispatch: before the store accepts", "store", "admit", "before", 0),
    ("dispatch: accepted, not published", "store", "admit", "after", 0),
    ("dispatch: before the ticket leaves", "transport", "send", "before", 0),
    ("dispatch: published, not noted", "transport", "send", "after", 0),
    ("claim: before the outbox", "store", "outbox", "before", 0),
    ("claim: outbox read, not published", "store", "outbox", "after", 0),
    ("claim: before the ticket arrives", "transport", "claim", "before", 0),
    ("claim: ticket taken, not lent", "transport", "claim", "after", 0),
    ("claim: before lending", "store", "lend", "before", 0),
    ("claim: lent, not acknowledged", "store", "lend", "after", 0),
    ("claim: before acknowledging", "transport", "settle", "before", 0),
    ("claim: acknowledged, not started", "transport", "settle", "after", 0),
    ("settle: before the commit", "store", "settle", "before", 0),
    ("settle: committed, follow-up not published", "store", "settle", "after", 0),
    ("follow-up: outbox read, not published", "store", "outbox", "after", 1),
    ("follow-up: published", "transport", "send", "after", 1),
)
"""Every step between store and transport, by name: which half, which verb, before or after it, after how many calls."""


@dataclass
class Life:
    """What one job went through."""

    point: str
    message: Message
    follow_up: Message
    accepted: bool = False
    runs: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    """Runs of each job when its success had been recorded."""


def _pair(transport: Any, store: Any) -> Paired:
    pair = Paired(transport, store, clock=SystemClock(), interval=0.0, within=WITHIN)
    pair.open()
    return pair


def _crash(h: Harness, point: tuple[str, str, str, str, int], queue: str) -> Life:
    """Take one job through its life in a process that ends at this point."""
    name, half, verb, when, skip = point
    parts = h.parts()
    assert parts is not None
    sides = {side: Side(driver) for side, driver in zip(("transport", "store"), parts, strict=True)}
    pair = _pair(sides["transport"], sides["store"])
    pair.prepare([queue])
    life = Life(name, h.message("job", queue=queue), h.message("follow-up", queue=queue))
    sides[half].verb, sides[half].when, sides[half].skip = verb, when, skip
    try:
        pair.send([life.message])
        life.accepted = True
        for _ in range(2):
            _run_one(pair, life, queue)
    except CrashError:
        pass
    assert sides[half].fired, f"{name}: the crash did not fire"
    for driver in parts:  # the process is gone: what it held goes back by connection or by lease
        driver.close()
    return life


def _run_one(pair: Paired, life: Life, queue: str) -> None:
    """Claim and finish one job, as a worker does."""
    found = wait_until(lambda: pair.claim([queue], limit=1, lease=LEASE), f"{life.point}: a job to claim")
    _finish(pair, life, found[0])


def _finish(pair: Paired, life: Life, delivery: Any) -> None:
    id = delivery.message.id
    life.runs[id] += 1
    follow_ups = (life.follow_up,) if id == life.message.id else ()
    [settlement] = pair.settle([Done(delivery, follow_ups=follow_ups)])
    if settlement == "applied":
        life.recorded[id] = life.runs[id]


@scenario("PAIR-01", suite="contract", needs=("pair",), timing=True)
def scenario_pair_01_crash_between_store_and_transport(h: Harness) -> None:
    """End the process at every step between store and transport: all that was accepted runs, and its success is recorded once."""
    lives = {f"q{number}": _crash(h, point, f"q{number}") for number, point in enumerate(POINTS)}
    parts = h.parts()
    assert parts is not None
    pair = _pair(*parts)
    records = {life.point: pair.get([life.message.id, life.follow_up.id]) for life in lives.values()}
    before = {
        point: [record is not None and record.state == "completed" for record in pair_]
        for point, pair_ in records.items()
    }
    expected = {life.point: life for life in lives.values() if records[life.point][0] is not None}
    assert len(expected) == len(POINTS) - 1, "all but the job that was never accepted are known"

    def done() -> bool:
        for delivery in pair.claim(list(lives), limit=10, lease=LEASE):
            _finish(pair, lives[delivery.message.queue], delivery)
        ended = [pair.get([life.message.id, life.follow_up.id]) for life in expected.values()]
        return all(record is not None and record.state == "completed" for both in ended for record in both)

    wait_until(done, "every accepted job and its follow-up to be completed")
    time.sleep(LEASE + WITHIN)  # whatever could come a second time comes now
    assert pair.claim(list(lives), limit=10, lease=LEASE) == []
    for life in expected.values():
        for id, was_recorded in zip((life.message.id, life.follow_up.id), before[life.point], strict=True):
            assert life.runs[id] >= 1, f"{life.point}: lost"
            assert life.recorded[id] in {0, life.runs[id]}, f"{life.point}: it ran again after its success was recorded"
            assert not (was_recorded and life.runs[id] > 1), f"{life.point}: a recorded success ran again"
    pair.close()


EXCHANGES = (
    ("exchange: before the tickets are taken", "transport", "take", "before"),
    ("exchange: tickets taken, nothing settled", "transport", "take", "after"),
    ("exchange: before the commit", "store", "settle_and_lend", "before"),
    ("exchange: settled and lent, not acknowledged", "store", "settle_and_lend", "after"),
    ("exchange: before acknowledging", "transport", "let_go", "before"),
    ("exchange: acknowledged, not started", "transport", "let_go", "after"),
)
"""Every step of an exchange that settles one job and lends the next: which half, which verb, before or after it."""


def _crash_in_exchange(h: Harness, point: tuple[str, str, str, str], queue: str) -> list[str]:
    """Let two jobs arrive, run the first, and end the process while it is settled and the second is lent; return their ids."""
    name, half, verb, when = point
    parts = h.parts()
    assert parts is not None
    transport, store = parts
    sides = {"transport": Side(transport), "store": Side(store)}
    pair: Any = kind_for(transport, store)(
        cast("Any", sides["transport"]), cast("Any", sides["store"]), clock=SystemClock(), interval=0.0, within=WITHIN
    )
    pair.open()
    pair.prepare([queue])
    jobs = [h.message("first", queue=queue), h.message("second", queue=queue)]
    pair.send(jobs)
    first = wait_until(lambda: pair.claim([queue], limit=1, lease=LEASE, wait=1.0), f"{name}: the first job")
    outcomes = [Done(first[0])]
    side = sides[half]
    side.verb, side.when = verb, when
    with contextlib.suppress(CrashError):
        wait_until(lambda: pair.exchange(outcomes, [queue], limit=1, lease=LEASE)[1], f"{name}: the crash")
    assert side.fired, f"{name}: the crash did not fire"
    for driver in parts:  # the process is gone: what it held goes back by connection or by lease
        driver.close()
    return [job.id for job in jobs]


@scenario("PAIR-05", suite="contract", needs=("pair", "exchange"), timing=True)
def scenario_pair_05_crash_while_settling_and_lending_in_one_go(h: Harness) -> None:
    """End the process at every step of an exchange: both jobs are completed, and none runs again after its success was recorded."""
    lives = {f"q{number}": _crash_in_exchange(h, point, f"q{number}") for number, point in enumerate(EXCHANGES)}
    parts = h.parts()
    assert parts is not None
    pair = _pair(*parts)
    recorded = {id for ids in lives.values() for id in _completed(pair, ids)}
    again: list[str] = []

    def done() -> bool:
        for delivery in pair.claim(list(lives), limit=10, lease=LEASE):
            again.append(delivery.message.id)
            pair.settle([Done(delivery)])
        return all(len(_completed(pair, ids)) == len(ids) for ids in lives.values())

    wait_until(done, "every job to be completed")
    time.sleep(LEASE + WITHIN)  # whatever could come a second time comes now
    assert pair.claim(list(lives), limit=10, lease=LEASE) == []
    assert not recorded.intersection(again), "it ran again after its success was recorded"
    assert len(again) == len(set(again)), "one ran twice although the first run's success was recorded"
    pair.close()


def _completed(pair: Paired, ids: list[str]) -> list[str]:
    return [record.id for record in pair.get(ids) if record is not None and record.state == "completed"]


@scenario("PAIR-02", suite="contract", needs=("pair",), timing=True)
def scenario_pair_02_a_ticket_that_comes_twice_runs_once(h: Harness) -> None:
    parts = h.parts()
    assert parts is not None
    transport, store = parts
    twice = Side(transport)
    pair = _pair(twice, store)
    pair.prepare(["default"])
    sent: list[Message] = []
    real = transport.send

    def send(messages: Any, *, patience: Any = None) -> None:
        sent.extend(messages)
        real(messages, patience=patience)
        real(messages)

    cast("Any", twice).send = send
    messages = [h.message(str(number)) for number in range(5)]
    pair.send(messages)
    assert len(sent) == 5, "the tickets were not published"
    ran: list[str] = []

    def all_ran() -> bool:
        for delivery in pair.claim(["default"], limit=10, lease=10):
            ran.append(delivery.message.id)
            assert pair.settle([Done(delivery)]) == ["applied"]
        return len(ran) >= 5

    wait_until(all_ran, "the jobs to run")
    time.sleep(WITHIN)
    assert pair.claim(["default"], limit=10, lease=10, wait=0.2) == [], "a second ticket was lent"
    assert sorted(ran) == sorted(message.id for message in messages)
    pair.close()


@scenario("PAIR-03", needs=("pair",), timing=True)
def scenario_pair_03_dispatch_while_the_transport_is_away(h: Harness) -> None:
    """While the transport does not answer, jobs are accepted by the store; they run when it is back."""
    parts = h.parts()
    assert parts is not None
    transport, store = parts
    away = Side(transport)
    pair = _pair(away, store)
    pair.prepare(["default"])

    troubles: list[Exception] = [
        DispatchTimeout("the caller's patience ended on the way"),
        DriverUnavailable("injected"),
    ]

    def fail(*_: Any, **__: Any) -> None:
        raise troubles[0] if len(troubles) == 1 else troubles.pop(0)

    cast("Any", away).send = fail
    message = h.message("accepted")
    pair.send([message])
    [record] = pair.get([message.id])
    assert record is not None
    assert record.state == "pending"
    assert pair.claim(["default"], limit=1, lease=10, wait=0.2) == []
    cast("Any", away).send = transport.send
    [delivery] = wait_until(lambda: pair.claim(["default"], limit=1, lease=10, wait=0.2), "the job to be published")
    assert delivery.message.id == message.id
    assert pair.settle([Done(delivery)]) == ["applied"]
    pair.close()


@scenario("PAIR-04", needs=("pair", "transactional"), timing=True)
def scenario_pair_04_outbox_in_the_callers_transaction(h: Harness) -> None:
    """Carry a job of the application's own transaction after the commit, and not before."""
    queue = h.queue()
    queue.open()
    ran: list[str] = []
    queue.register("t", lambda payload: ran.append(payload))
    queue.start_workers(1)
    connection = h.database()
    rolled_back, committed = new_id(), new_id()
    queue.dispatch(Job("t", "never", id=rolled_back), connection=connection)
    connection.rollback()
    queue.dispatch(Job("t", "once", id=committed), connection=connection)
    time.sleep(0.6)
    assert ran == [], "it ran before the commit"
    connection.commit()
    connection.close()
    wait_until(lambda: ran, "the committed job to run")
    queue.drain(20)
    assert ran == ["once"]


@scenario("PAIR-06", suite="contract", needs=("pair",), timing=True)
def scenario_pair_06_open_while_the_transport_is_away(h: Harness) -> None:
    """Open a pair while its transport does not answer: jobs are accepted, claims say why they fail, and all runs when it is back."""
    parts = h.parts()
    assert parts is not None
    transport, store = parts
    away: Any = Side(transport)
    error: Exception = DriverRejected("wrong credentials")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    verbs = ("open", "prepare", "send", "claim")
    for verb in verbs:
        setattr(away, verb, fail)
    pair = Paired(away, cast("Any", store), clock=SystemClock(), interval=0.0, within=WITHIN)
    with pytest.raises(DriverRejected):
        pair.open()
    error = DriverUnavailable("injected")
    pair.open()
    pair.prepare(["default"])
    message = h.message("accepted")
    pair.send([message])
    [record] = pair.get([message.id])
    assert record is not None
    assert record.state == "pending"
    with pytest.raises(DriverUnavailable):
        pair.claim(["default"], limit=1, lease=10, wait=0.2)
    for verb in verbs:
        delattr(away, verb)
    [delivery] = wait_until(lambda: pair.claim(["default"], limit=1, lease=10, wait=0.2), "the job to be published")
    assert delivery.message.id == message.id
    assert pair.settle([Done(delivery)]) == ["applied"]
    pair.close()


@scenario("PAIR-07", suite="contract", needs=("pair",), timing=True)
def scenario_pair_07_a_foreign_message_with_an_id_of_its_own(h: Harness) -> None:
    """Put a message with an id that is no UUID onto the transport: it is lent once, as it came, and others run beside it."""
    parts = h.parts()
    assert parts is not None
    transport, store = parts
    pair = _pair(transport, store)
    pair.prepare(["default"])
    job = h.message("job")
    transport.send([Message("order-1", "default", "foreign", "no envelope")])
    pair.send([job])
    lent: list[Any] = []

    def both() -> bool:
        lent.extend(pair.claim(["default"], limit=10, lease=10))
        return len(lent) >= 2

    wait_until(both, "both to be lent")
    assert {delivery.message.body for delivery in lent} == {"no envelope", "job"}
    [strange] = [delivery for delivery in lent if delivery.message.id != job.id]
    assert pair.settle([Dead(strange, "undecodable")]) == ["applied"]
    [record] = pair.get([strange.message.id])
    assert record is not None
    assert (record.state, record.reason, record.body) == ("failed", "undecodable", "no envelope")
    assert pair.claim(["default"], limit=10, lease=10) == [], "it was lent twice"
    pair.close()


@scenario("PAIR-08", needs=("pair", "key", "delay"), timing=True)
def scenario_pair_08_delayed_jobs_with_a_key(h: Harness) -> None:
    """Delay jobs of one key, also behind one that runs at once: none runs early, and each soon after its time, in order."""
    queue = h.queue()
    ran: list[tuple[str, float]] = []
    queue.register("t", lambda payload: ran.append((payload, time.time())))
    queue.open()
    begin = time.time()
    queue.dispatch_many(
        [Job("t", "now", key="k"), Job("t", "later", key="k", delay=0.5), Job("t", "last", key="k", delay=0.5)]
    )
    with queue.worker(concurrency=4):
        wait_until(lambda: len(ran) == 3, "all three to run", seconds=15)
    assert [name for name, _ in ran] == ["now", "later", "last"]
    assert min(at for _, at in ran[1:]) >= begin + 0.5, "a job ran before its time"
