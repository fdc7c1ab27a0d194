"""A backend with a longest delay and a longest lease: long delays travel in hops, attempts end in time."""

from __future__ import annotations

import msgspec
import pytest

from queuekit import Backoff, Event, Job, Queue, Retry, Snooze, UnsupportedError, VirtualClock, current_job
from queuekit.contract import Query
from queuekit.memory import MemoryDriver
from queuekit.memory.driver import LIMITS
from queuekit.worker.inline import run_due

LONGEST = 900.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def queue(clock: VirtualClock) -> Queue:
    limits = msgspec.structs.replace(LIMITS, longest_delay=LONGEST, longest_lease=1800.0)
    return Queue(MemoryDriver(clock=clock, limits=limits), clock=clock)


def travelled(queue: Queue, clock: VirtualClock, seconds: float) -> None:
    """Let time pass in steps, with a worker that looks at each."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        clock.advance(min(60.0, end - clock.monotonic()))
        run_due(queue)


def test_a_delay_beyond_the_longest_runs_at_its_time_as_attempt_1(queue: Queue, clock: VirtualClock) -> None:
    ran: list[tuple[float, int]] = []
    events: list[Event] = []
    queue.register("t", lambda: None)
    queue.observe(events.append)
    queue.register("late", lambda: ran.append((clock.monotonic(), 0)))
    begin = clock.monotonic()
    handle = queue.dispatch(Job("late", delay=7200.0))
    [record] = queue.driver.browse(Query()).records  # type: ignore[attr-defined]
    assert record.due_at == pytest.approx(clock.time() + LONGEST), "the backend was asked for more than it can"
    travelled(queue, clock, 7199)
    assert ran == []
    assert handle.state == "scheduled"
    travelled(queue, clock, 2)
    assert len(ran) == 1
    assert ran[0][0] - begin >= 7200
    assert handle.info().attempt == 1, "a hop used up an attempt"
    assert [event.attempt for event in events if event.kind == "started"] == [1]


def test_a_delay_within_the_longest_makes_no_hop(queue: Queue) -> None:
    queue.register("t", lambda: None)
    body = queue.dispatch(Job("t", delay=LONGEST)).info()
    [record] = queue.driver.browse(Query()).records  # type: ignore[attr-defined]
    assert body.state == "scheduled"
    assert '"due"' not in record.body


@pytest.mark.parametrize(
    "signal", [Retry(after=5000), Snooze(5000), ValueError("by its backoff")], ids=["retry", "snooze", "backoff"]
)
def test_a_retry_or_snooze_beyond_the_longest_travels_in_hops(
    queue: Queue, clock: VirtualClock, signal: BaseException
) -> None:
    starts: list[float] = []

    @queue.job(name="t", retries=3, backoff=Backoff.constant(5000, jitter=0))
    def flaky() -> None:
        starts.append(clock.monotonic())
        if len(starts) == 1:
            raise signal

    handle = flaky.dispatch()
    run_due(queue)
    travelled(queue, clock, 4999)
    assert len(starts) == 1
    travelled(queue, clock, 100)
    assert len(starts) == 2
    assert starts[1] - starts[0] >= 5000
    assert handle.state == "completed"


def test_an_attempt_longer_than_the_longest_lease_is_refused_at_registration_and_dispatch(queue: Queue) -> None:
    with pytest.raises(UnsupportedError, match=r"timeout=1800 .* at most 1710"):
        queue.register("t", lambda: None, timeout=1800)
    queue.register("t", lambda: None, timeout=1700)
    with pytest.raises(UnsupportedError, match="pair it with a store"):
        queue.dispatch(Job("t", timeout=4000))


def test_an_attempt_without_a_timeout_ends_before_the_longest_lease(queue: Queue, clock: VirtualClock) -> None:
    deadlines: list[float] = []

    @queue.job(name="t")
    async def job() -> None:

        deadlines.append(current_job().deadline.timestamp() - clock.time())  # type: ignore[union-attr]

    job.dispatch()
    run_due(queue)
    assert deadlines == [pytest.approx(1710, abs=1)]
