"""OBS: what observers are told, under errors, under faults, and on every driver alike."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import Any

from queuekit import Backoff, Cancel, Event, Fail, Job, JobContext, Queue, Retry, Snooze
from queuekit.contract import DriverUnavailable
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario

TERMINAL = {"completed", "failed", "cancelled"}
ATTEMPT = ("claimed", "started", "finished")


class Heard:
    """An observer that keeps what it was told, by job."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep one event."""
        self.events.append(event)

    def of(self, job: str) -> tuple[str, ...]:
        """Return the kinds of a job's events, in order."""
        return tuple(event.kind for event in self.events if event.job_id == job)

    def until_settled(self, job: str, times: int) -> tuple[str, ...]:
        """Wait until a job was settled so many times, and return all that was told of it."""
        wait_until(lambda: self.of(job).count("settled") >= times and "dispatched" in self.of(job), "the last event")
        return self.of(job)

    def kinds(self) -> Counter[str]:
        """Return how often each kind was told."""
        return Counter(event.kind for event in self.events)


@scenario("observability_contract_event_sequence", needs=("browse", "delay", "control"), timing=True)
def scenario_observability_contract_event_sequence(h: Harness) -> None:
    """Send a job each way that it may take: a worker tells it in its exact order."""
    heard = Heard()
    queue = h.queue(observers=[heard])
    running = threading.Event()

    @queue.job(name="succeeds")
    def succeeds() -> None: ...

    @queue.job(name="retries", retries=1, backoff=Backoff.constant(0.01))
    def retries(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")

    @queue.job(name="snoozes")
    def snoozes(ctx: JobContext) -> None:
        if not snoozed.is_set():
            snoozed.set()
            raise Snooze(0.01)

    @queue.job(name="times_out", retries=0, timeout=0.2)
    async def times_out() -> None:
        import asyncio  # noqa: PLC0415 - only here

        await asyncio.sleep(20)

    @queue.job(name="is_cancelled", retries=3)
    def is_cancelled(ctx: JobContext) -> None:
        running.set()
        wait_until(lambda: ctx.cancelled, "the handler to be told")
        raise ValueError("stopped on request")

    snoozed = threading.Event()
    wanted = {
        succeeds: (*ATTEMPT, "completed", "settled"),
        retries: (*ATTEMPT, "retrying", "settled", *ATTEMPT, "completed", "settled"),
        snoozes: (*ATTEMPT, "snoozed", "settled", *ATTEMPT, "completed", "settled"),
        times_out: ("claimed", "started", "timed_out", "finished", "failed", "settled"),
        is_cancelled: (*ATTEMPT, "cancelled", "settled"),
    }
    queue.start_workers(2)
    for job, sequence in wanted.items():
        handle: Any = job.dispatch()
        if job is is_cancelled:
            assert running.wait(20)
            assert handle.cancel() is True
        handle.wait(20)
        told = heard.until_settled(handle.id, sequence.count("settled"))
        assert told.count("dispatched") == 1
        worked = tuple(kind for kind in told if kind != "dispatched")  # a worker may be quicker than who dispatches
        assert worked == sequence, f"{job.name}: {told}"


@scenario("observability_contract_error_paths", timing=True)
def scenario_observability_contract_error_paths(h: Harness) -> None:
    """Whatever goes wrong outside of handlers is told too: outages and their end, foreign bodies, unknown types."""
    heard = Heard()
    queue = h.queue(observers=[heard])
    queue.register("odd", object)
    queue.register("broken", _fails, retries=1, backoff=_no_backoff)
    queue.open()
    h.write_garbage(b"no envelope")
    worker = queue.worker(concurrency=1).start()
    assert worker.ready(20)
    unknown = queue.dispatch(Job("nobody_knows"))
    odd, broken = queue.dispatch(Job("odd")), queue.dispatch(Job("broken"))
    h.ended(odd)
    wait_until(lambda: {"unknown_type", "undecodable", "result_error"} <= set(heard.kinds()), "three kinds of trouble")
    wait_until(lambda: "backoff_failed" in heard.of(broken.id), "the broken backoff to be told")
    assert "unknown_type" in heard.of(unknown.id)
    assert "result_error" in heard.of(odd.id)
    _interrupt(queue, heard)
    worker.stop(5)
    assert heard.kinds()["worker_started"] == heard.kinds()["worker_stopped"] == 1


def _fails() -> None:
    raise ValueError("no")


def _no_backoff(attempt: int, error: BaseException) -> float:
    raise RuntimeError("backoff itself is broken")


def _interrupt(queue: Queue, heard: Heard) -> None:
    """Let the backend not answer until that was told, and wait until its return was told as well."""
    driver: Any = queue.driver
    real = {verb: getattr(driver, verb) for verb in ("claim", "exchange", "settle") if hasattr(driver, verb)}

    def silent(*_: Any, **__: Any) -> Any:
        raise DriverUnavailable("injected")

    for verb in real:
        setattr(driver, verb, silent)
    wait_until(lambda: heard.kinds()["driver_unavailable"], "the outage to be told")
    for verb, call in real.items():
        setattr(driver, verb, call)
    wait_until(lambda: heard.kinds()["driver_recovered"] == 1, "its end to be told, once")


@scenario("OBS-03", needs=("count", "lease"), timing=True)
def scenario_obs_03_exactly_one_terminal_event(h: Harness) -> None:
    """Refused calls and lost answers in the middle of the load: still one terminal event a job."""
    heard = Heard()
    queue = h.queue(observers=[heard])
    queue.register("t", lambda payload: None if payload % 5 else Fail("every fifth"))
    handles = queue.dispatch_many(Job("t", i) for i in range(200))
    fired = _shake(queue.driver)
    with queue.worker(concurrency=4, lease=1.0):
        queue.drain(30)
        wait_until(lambda: _ends(heard).total() >= len(handles), "every job's end to be told")
    assert min(fired.values()) >= 1, f"a fault never fired: {fired}"
    assert set(_ends(heard).values()) == {1}, "a job's end was told more than once"
    for handle in handles:
        assert _ends(heard)[handle.id] == 1
    kinds = heard.kinds()
    assert (kinds["completed"], kinds["failed"]) == (160, 40)


def _ends(heard: Heard) -> Counter[str | None]:
    return Counter(event.job_id for event in heard.events if event.kind in TERMINAL)


def _shake(driver: Any) -> dict[str, int]:
    """Refuse some settlements before they are applied, and lose the answers of others; count both."""
    fired = {"refused": 0, "answer lost": 0}
    calls = 0

    def shaken(verb: str) -> Any:
        real = getattr(driver, verb)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls in {1, 4}:
                fired["refused"] += 1
                raise DriverUnavailable("injected: refused")
            answer = real(*arguments, **options)
            if calls in {2, 6}:
                fired["answer lost"] += 1
                raise DriverUnavailable("injected: answer lost")
            return answer

        return call

    for verb in ("settle", "exchange"):
        if hasattr(driver, verb):
            setattr(driver, verb, shaken(verb))
    return fired


@scenario("OBS-06", needs=("count", "control", "delay"))
def scenario_obs_06_metrics_match_history(h: Harness) -> None:
    heard = Heard()
    queue = h.queue(virtual=True, observers=[heard])
    queue.register("ok", lambda: None)
    queue.register("bad", _fails, retries=2, backoff=Backoff.constant(1))
    queue.register("stops", _stops)
    for type_, times in (("ok", 12), ("bad", 5), ("stops", 3)):
        queue.dispatch_many(Job(type_) for _ in range(times))
    waiting = [queue.dispatch(Job("ok", delay=60)) for _ in range(4)]
    assert all(handle.cancel() for handle in waiting[:2])
    for _ in range(4):
        run_due(queue)
        h.advance(1)
    [counts] = queue.stats().queues
    kinds = heard.kinds()
    assert (counts.completed, counts.failed) == (kinds["completed"], kinds["failed"]) == (12, 5)
    assert counts.cancelled == kinds["cancelled"] + 2 == 5, (
        "those cancelled before they ran were never an attempt's end"
    )
    assert (counts.scheduled, counts.pending, counts.running) == (2, 0, 0)
    assert kinds["started"] == kinds["finished"] == kinds["settled"] == 12 + 3 * 5 + 3
    assert kinds["retrying"] == 10


def _stops() -> None:
    raise Cancel("not needed any more")


@scenario("OBS-08", needs=("browse", "control", "delay"))
def scenario_obs_08_sequence_same_on_all_drivers(h: Harness) -> None:
    """One program, here and on the executable specification: the same events in the same order, job by job."""
    here = _program(h, h.queue(virtual=True))
    with Queue(f"memory://{h.namespace}-specification", clock=h.clock) as specification:
        assert here == _program(h, specification)
    told = {kind for job in here.values() for kind, *_ in job}
    assert told >= {"retrying", "snoozed", "failed", "cancelled", "completed", "unknown_type", "released"}, told


def _program(h: Harness, queue: Queue) -> dict[str, list[tuple[Any, ...]]]:
    """Run it; return per label the events' kinds, attempts, reasons and waits."""
    heard = Heard()
    queue.observe(heard)
    labels = {queue.dispatch(job).id: label for label, job in _jobs(queue).items()}
    for _ in range(12):
        run_due(queue)
        h.advance(2)
    told: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for event in heard.events:
        if event.job_id in labels:
            told[labels[event.job_id]].append((event.kind, event.attempt, event.reason, event.error, event.delay))
    return told


def _jobs(queue: Queue) -> dict[str, Job]:
    snoozed: list[int] = []

    @queue.job(name="first_fails", retries=2, backoff=Backoff.constant(3))
    def first_fails(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")

    @queue.job(name="snoozes")
    def snoozes() -> None:
        snoozed.append(1)
        if len(snoozed) <= 2:
            raise Snooze(2)

    @queue.job(name="again")
    def again(ctx: JobContext) -> Any:
        return Retry(after=5) if ctx.attempt == 1 else Fail("enough")

    queue.register("stops", _stops)
    queue.register("typed", _typed, retries=0)
    return {
        "first fails": first_fails.job(),
        "snoozes": snoozes.job(),
        "retries as it says": again.job(),
        "cancels itself": Job("stops"),
        "past its deadline": Job("stops", deadline=1, delay=0.5),
        "unknown": Job("nobody_knows"),
        "delayed": first_fails.using(delay=7).job(),
        "does not fit": Job("typed", {"number": 1}),
    }


def _typed(number: int, other: int = 0) -> int:
    return number // other
