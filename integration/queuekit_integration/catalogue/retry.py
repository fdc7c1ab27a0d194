"""RTY: retry, backoff, dead letters."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import pytest

from queuekit import Backoff, Event, Fail, Job, JobContext, Retry, Snooze
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, drive
from queuekit_integration.registry import scenario


@scenario("RTY-01")
def scenario_rty_01_retries_until_success(h: Harness) -> None:
    queue = h.queue()
    attempts: list[int] = []

    @queue.job(name="flaky", retries=5, backoff=Backoff.constant(0.01))
    def flaky(ctx: JobContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            message = f"no {ctx.attempt}"
            raise ValueError(message)
        return "ok"

    handle = flaky.dispatch()
    queue.start_workers(2)
    h.returned(handle, "ok")
    assert attempts == [1, 2, 3]
    assert h.standing(handle).errors == ("ValueError: no 1", "ValueError: no 2")
    if h.lookup:
        assert [error.attempt for error in handle.info().errors] == [1, 2]


@scenario("RTY-02")
def scenario_rty_02_max_attempts_then_dead(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])
    starts: list[int] = []

    @queue.job(name="never", retries=2, backoff=Backoff.constant(h.brief(1)))
    def never(ctx: JobContext) -> None:
        starts.append(ctx.attempt)
        raise ValueError("no")

    handle = never.dispatch()
    drive(h, queue, 60, job=handle)
    assert starts == [1, 2, 3]
    standing = h.standing(handle)
    assert (standing.state, standing.reason) == ("failed", "error")
    assert [e.kind for e in events].count("failed") == 1


@scenario("RTY-03")
def scenario_rty_03_max_attempts_1(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[int] = []

    @queue.job(name="once", retries=0)
    def once(ctx: JobContext) -> None:
        starts.append(ctx.attempt)
        raise ValueError("no")

    handle = once.dispatch()
    drive(h, queue, 10_000, 1000, job=handle)
    assert starts == [1]
    assert h.standing(handle).state == "failed"


@scenario("RTY-04", needs=("delay", "virtual_time"))
def scenario_rty_04_backoff_schedule_exact(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[float] = []

    @queue.job(name="never", retries=5, backoff=Backoff.exponential(base=2, factor=3, max=50))
    def never() -> None:
        starts.append(h.clock.monotonic())
        raise ValueError("no")

    never.dispatch()
    drive(h, queue, 200, 0.5)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    for wait, wanted in zip(waits, [2, 6, 18, 50, 50], strict=True):
        assert wanted <= wait <= wanted + 0.5 + 1e-6, f"waits were {waits}"


@scenario("RTY-05")
def scenario_rty_05_jitter_within_bounds_and_spread(h: Harness) -> None:
    backoff = Backoff.exponential(base=1, factor=2, max=100, jitter=0.5)
    waits = [backoff.wait(3, random.Random(seed)) for seed in range(1000)]
    assert all(4 <= wait <= 6 for wait in waits), "jitter only adds, up to its share"
    assert len({round(wait, 6) for wait in waits}) > 900
    assert backoff.wait(3, random.Random(7)) == backoff.wait(3, random.Random(7))
    assert backoff.wait(10_000, random.Random(1)) <= 150


@scenario("RTY-06")
def scenario_rty_06_custom_backoff_raises(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])

    def broken(attempt: int, error: BaseException) -> float:
        raise RuntimeError("backoff itself is broken")

    @queue.job(name="never", retries=3, backoff=broken)
    def never() -> None:
        raise ValueError("no")

    handle = never.dispatch()
    run_due(queue)
    assert h.standing(handle).state == "scheduled", "the job must be retried by the default backoff"
    assert [e.error for e in events if e.kind == "backoff_failed"] == ["RuntimeError: backoff itself is broken"]


@scenario("RTY-07")
def scenario_rty_07_retry_after_exception_value(h: Harness) -> None:
    queue = h.queue(virtual=True)
    long, short, late = (7, 3, 0.5) if h.virtual else (1.3, 0.3, queue.driver.limits.resolution + 1.0)
    starts: list[tuple[int, float]] = []

    @queue.job(name="later", retries=3)
    def later(ctx: JobContext) -> Any:
        starts.append((ctx.attempt, h.clock.monotonic()))
        if ctx.attempt == 1:
            raise Retry(after=long)
        if ctx.attempt == 2:
            return Retry(after=short)
        return None

    handle = later.dispatch()
    drive(h, queue, 20, 0.5, job=handle)
    assert [attempt for attempt, _ in starts] == [1, 2, 3]
    gaps = [b[1] - a[1] for a, b in itertools.pairwise(starts)]
    assert long <= gaps[0] <= long + late
    assert short <= gaps[1] <= short + late
    assert h.standing(handle).state == "completed"


@scenario("RTY-08")
def scenario_rty_08_snooze_does_not_consume_attempt(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])
    attempts: list[int] = []

    @queue.job(name="not_yet", retries=0)
    def not_yet(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) <= 5:
            raise Snooze(10 if h.virtual else 0.05)

    handle = not_yet.dispatch()
    drive(h, queue, 100, 5, job=handle)
    assert attempts == [1] * 6
    assert [e.kind for e in events].count("snoozed") == 5
    assert h.standing(handle).state == "completed"


@scenario("RTY-09")
def scenario_rty_09_non_retryable_exception(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[int] = []

    @queue.job(name="hopeless", retries=5)
    def hopeless(ctx: JobContext) -> None:
        starts.append(ctx.attempt)
        raise Fail("the account is closed")

    handle = hopeless.dispatch()
    drive(h, queue, 10_000, 1000, job=handle)
    assert starts == [1]
    standing = h.standing(handle)
    assert (standing.state, standing.reason) == ("failed", "the account is closed")


@scenario("RTY-10", needs=("processes",), timing=True)
def scenario_rty_10_crash_counts_as_attempt(h: Harness) -> None:
    queue = h.queue()
    handle = queue.dispatch(Job("die", retries=2))
    for number in range(1, 4):
        worker = h.spawn_worker(lease=0.6)
        h.wait_for_starts(number)
        worker.process.wait(10)
    h.spawn_worker(lease=0.6)
    info = h.ended(handle)
    assert (info.state, info.reason) == ("failed", "worker_lost")
    assert [s["attempt"] for s in h.starts()] == [1, 2, 3]


@scenario("RTY-11")
def scenario_rty_11_exit_kinds(h: Harness) -> None:
    queue = h.queue()

    class Odd(BaseException):
        pass

    def recurse() -> None:
        recurse()

    def exhausted() -> None:
        raise MemoryError

    def leave() -> None:
        raise SystemExit(3)

    def odd() -> None:
        raise Odd

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def cancelled() -> None:
        import asyncio  # noqa: PLC0415 - only here

        raise asyncio.CancelledError

    kinds = {f.__name__: f for f in (recurse, exhausted, leave, odd, interrupt, cancelled)}
    for name, fn in kinds.items():
        queue.register(name, fn, retries=0)
    queue.register("fine", lambda: "fine")
    queue.start_workers(2)
    handles = {name: queue.dispatch(Job(name)) for name in kinds}
    for name, handle in handles.items():
        info = h.ended(handle)
        assert (info.state, info.reason) == ("failed", "error"), f"{name}: {info.state}, {info.reason}"
    h.returned(queue.dispatch(Job("fine")), "fine")  # the worker survived


@scenario("RTY-12", needs=("browse", "delay"))
def scenario_rty_12_dead_letter_holds_payload_and_errors(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("never", _always_fails, retries=2, backoff=Backoff.constant(1))
    payload = {"text": "äöü \u0000 \U0001f600", "list": [1, 2.5, None, True]}
    handle = queue.dispatch(Job("never", {"payload": payload}))
    drive(h, queue, 10)
    [dead] = queue.jobs(state="failed")
    assert dead.id == handle.id
    assert dead.payload == {"payload": payload}
    assert [(e.attempt, e.kind) for e in dead.errors] == [(1, "ValueError"), (2, "ValueError"), (3, "ValueError")]
    assert all("_always_fails" in e.traceback and e.at > 0 for e in dead.errors)


def _always_fails(payload: Any = None) -> None:
    raise ValueError("no")


@scenario("RTY-13", needs=("control", "browse"))
def scenario_rty_13_redrive_from_dead(h: Harness) -> None:
    queue = h.queue(virtual=True)
    broken = True
    attempts: list[int] = []

    @queue.job(name="mendable", retries=0)
    def mendable(ctx: JobContext) -> str:
        attempts.append(ctx.attempt)
        if broken:
            raise ValueError("no")
        return "ok"

    handle = mendable.dispatch()
    run_due(queue)
    assert handle.state == "failed"
    broken = False
    assert handle.retry() is True
    run_due(queue)
    assert handle.result(1) == "ok"
    assert attempts == [1, 1], "a retry starts with fresh attempts"
    assert handle.info().generation == 1
    assert handle.retry() is False, "a completed job cannot be retried"


@scenario("RTY-14")
def scenario_rty_14_retry_deadline(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[float] = []

    wait, deadline = (4, 10) if h.virtual else (1, 2.5)

    @queue.job(name="never", retries=100, backoff=Backoff.constant(wait), deadline=deadline)
    def never() -> None:
        starts.append(h.clock.monotonic())
        raise ValueError("no")

    queue.register("first", lambda: None)
    drive(
        h, queue, 1, job=queue.dispatch(Job("first"))
    )  # a broker's new queue is waited for, and that counts against a deadline
    begin = h.clock.monotonic()
    handle = never.dispatch()
    accepted = h.clock.monotonic()
    drive(h, queue, 40, job=handle)
    assert len(starts) == 3 or (not h.virtual and len(starts) == 2), "real time may be late"
    assert max(starts) - begin <= deadline + accepted - begin
    standing = h.standing(handle)
    assert (standing.state, standing.reason) == ("failed", "deadline")


@scenario("RTY-15")
def scenario_rty_15_error_too_big_is_truncated(h: Harness) -> None:
    queue = h.queue(virtual=True)

    @queue.job(name="loud", retries=0)
    def loud() -> None:
        raise ValueError("x" * 10_000_000 + "\ud800\x00")

    handle = loud.dispatch()
    run_due(queue)
    [said] = h.standing(handle).errors
    assert len(said.encode()) <= 8192 + len("ValueError: ")
    if not h.lookup:
        return
    [error] = handle.info().errors
    assert len(error.message) <= 8192
    assert len(error.traceback) <= 8192
    (error.message + error.traceback).encode()


@scenario("RTY-17", needs=("control", "browse"))
def scenario_rty_17_manual_retry_of_running_refused(h: Harness) -> None:
    queue = h.queue()
    inside, leave = threading.Event(), threading.Event()
    runs: list[int] = []

    @queue.job(name="hold")
    def hold(ctx: JobContext) -> None:
        runs.append(ctx.attempt)
        inside.set()
        assert leave.wait(20)

    handle = hold.dispatch()
    queue.start_workers(2)
    assert inside.wait(20)
    assert handle.retry() is False
    leave.set()
    assert handle.wait(20).state == "completed"
    assert runs == [1]


@scenario("RTY-16", needs=("unique", "browse"))
def scenario_rty_16_retry_keeps_unique_lock(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("never", _always_fails, retries=2, backoff=Backoff.constant(5))
    first = queue.dispatch(Job("never", unique_key="k"))
    run_due(queue)
    assert first.state == "scheduled"
    second = queue.dispatch(Job("never", unique_key="k"))
    assert (second.id, second.created) == (first.id, False)
    drive(h, queue, 20)
    assert first.info().state == "failed"
    assert queue.dispatch(Job("never", unique_key="k")).created


@scenario("RTY-SIGNALS")
def scenario_rty_signals_refuse_nonsense(h: Harness) -> None:
    from queuekit import ConfigurationError  # noqa: PLC0415 - only here

    for bad in (-1, float("nan"), "soon"):
        with pytest.raises(ConfigurationError):
            Retry(after=bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            Snooze(bad)  # type: ignore[arg-type]
