"""CTX and WRK: cancellation, deadlines, context, worker life."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

from queuekit import (
    Backoff,
    ConfigurationError,
    DispatchCancelled,
    DispatchTimeout,
    Event,
    Job,
    JobContext,
    current_job,
)
from queuekit.worker.inline import run_due
from queuekit_integration import handlers
from queuekit_integration.harness import Harness, drive, wait_until
from queuekit_integration.registry import scenario


@scenario("CTX-01", needs=("control", "browse"))
def scenario_ctx_01_cancel_queued(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda: ran.append(1))
    handle = queue.dispatch(Job("t"))
    assert handle.cancel() is True
    run_due(queue)
    assert ran == []
    assert (handle.state, handle.info().reason) == ("cancelled", "cancelled")


@scenario("CTX-02", needs=("control", "browse", "delay"))
def scenario_ctx_02_cancel_scheduled(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda: ran.append(1))
    handle = queue.dispatch(Job("t", delay=5))
    assert handle.state == "scheduled"
    assert handle.cancel() is True
    h.advance(10)
    run_due(queue)
    assert ran == []
    assert handle.info().state == "cancelled"


@scenario("CTX-03", needs=("control", "browse"), timing=True)
def scenario_ctx_03_cancel_running_cooperative(h: Harness) -> None:
    queue = h.queue()
    inside = threading.Event()

    @queue.job(name="watch", retries=5)
    def watch(ctx: JobContext) -> None:
        inside.set()
        wait_until(lambda: ctx.cancelled, "the handler to be told")
        raise RuntimeError("stopped on request")

    @queue.job(name="sleep", retries=5)
    async def sleep() -> None:
        inside.set()
        await asyncio.sleep(60)

    queue.start_workers(2)
    for job in (watch, sleep):
        inside.clear()
        handle: Any = job.dispatch()
        assert inside.wait(20)
        assert handle.cancel() is True
        info = handle.wait(10)
        assert (info.state, info.attempt) == ("cancelled", 1), "a cancelled job was retried"


@scenario("CTX-04", needs=("control", "browse", "processes"), timing=True)
def scenario_ctx_04_cancel_running_across_processes(h: Harness) -> None:
    queue = h.queue()
    h.spawn_worker(lease=1.0)
    handle = queue.dispatch(Job("until_cancelled"))
    wait_until(h.starts, "the job to start")
    assert handle.cancel() is True
    assert handle.wait(10).state == "cancelled"


@scenario("CTX-05", needs=("control", "browse"))
def scenario_ctx_05_cancel_finished_is_noop(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("t", lambda: "done")
    handle = queue.dispatch(Job("t"))
    run_due(queue)
    assert handle.cancel() is False
    assert (handle.state, handle.result(1)) == ("completed", "done")


@scenario("CTX-06", needs=("control", "browse"))
def scenario_ctx_06_cancel_races_completion(h: Harness) -> None:
    queue = h.queue()
    ends: dict[str, list[str]] = {}

    def count(event: Event) -> None:
        if event.kind in {"completed", "failed", "cancelled"} and event.job_id:
            ends.setdefault(event.job_id, []).append(event.kind)

    queue.observe(count)
    ran: set[str] = set()

    @queue.job(name="quick")
    def quick(ctx: JobContext) -> None:
        ran.add(ctx.id)

    queue.start_workers(4)
    handles = []
    for _ in range(200):
        handle = quick.dispatch()
        handle.cancel()
        handles.append(handle)
    for handle in handles:
        state = handle.wait(20).state
        assert state in {"completed", "cancelled"}
        assert (state == "completed") == (handle.id in ran), "the two sides disagree"
        assert len(ends.get(handle.id, [])) <= 1


@scenario("CTX-07", timing=True)
def scenario_ctx_07_timeout_per_job(h: Harness) -> None:
    queue = h.queue()

    @queue.job(name="spin", timeout=0.3, retries=0)
    def spin() -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)

    @queue.job(name="rest", timeout=0.3, retries=0)
    async def rest() -> None:
        await asyncio.sleep(20)

    queue.register("burn", handlers.never_end, executor="process", timeout=0.3, retries=0)
    queue.start_workers(2)
    for handle in (spin.dispatch(), rest.dispatch(), queue.dispatch(Job("burn"))):
        info = h.ended(handle)
        assert (info.state, info.reason) == ("failed", "timeout")


@scenario("CTX-08")
def scenario_ctx_08_deadline_passes_while_queued(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda: ran.append(1))
    deadline = 10 if h.virtual else 0.2
    handle = queue.dispatch(Job("t", deadline=deadline))
    h.advance(deadline * 1.1)
    run_due(queue)
    assert ran == []
    ending = h.ended(handle)
    assert (ending.state, ending.reason) == ("failed", "deadline")


@scenario("CTX-09")
def scenario_ctx_09_context_propagates(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[dict[str, str]] = []

    @queue.job(name="t", retries=2, backoff=Backoff.constant(h.brief(2)))
    def job(ctx: JobContext) -> None:
        assert current_job().id == ctx.id
        seen.append(ctx.headers)
        if ctx.attempt == 1:
            raise ValueError("no")

    headers = {"traceparent": "00-abc-def-01", "locale": "de_AT"}
    handle = job.using(headers=headers).dispatch()
    drive(h, queue, 10, 10, job=handle)
    assert seen == [headers, headers]


@scenario("CTX-10")
def scenario_ctx_10_header_limits(h: Harness) -> None:
    """Send more headers than any broker has room for, with names and values that none would allow: all arrive at each attempt."""
    queue = h.queue(virtual=True)
    seen: list[dict[str, str]] = []

    @queue.job(name="t", retries=1, backoff=Backoff.constant(h.brief(1)))
    def job(ctx: JobContext) -> None:
        seen.append(ctx.headers)
        if ctx.attempt == 1:
            raise ValueError("once")

    headers = {f"x-header-{number}": "v" * number for number in range(40)}
    headers |= {"": "no name", "ü \u0000 😀": 'quotes " and \\', "AWS.reserved": "x", "x" * 300: "long"}
    handle = job.using(headers=headers).dispatch()
    drive(h, queue, 1.1, 1.1, job=handle)
    assert seen == [headers, headers]
    bad: list[Any] = [{"a": 1}, {1: "a"}, "text", {"a": "\ud800"}, {"\ud800": "a"}]
    for wrong in bad:
        with pytest.raises(ConfigurationError, match="headers"):
            job.using(headers=wrong).dispatch()


@scenario("CTX-11")
def scenario_ctx_11_dispatch_cancelled_by_caller(h: Harness) -> None:
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))

    async def main() -> None:
        handles = await asyncio.gather(*(queue.dispatch_async(Job("t", i)) for i in range(100)))
        assert len({handle.id for handle in handles}) == 100
        task = asyncio.create_task(queue.dispatch_async(Job("t", 100)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await queue.dispatch_async(Job("t", 101))

    asyncio.run(main())
    queue.start_workers(2)
    queue.drain(20)
    assert set(range(100)) | {101} <= set(ran) <= set(range(102))


@scenario("CTX-13", needs=("count",))
def scenario_ctx_13_nested_dispatch_in_handler(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[str] = []

    @queue.job(name="child")
    def child() -> None:
        ran.append("child")

    @queue.job(name="parent", retries=0)
    def parent() -> None:
        ran.append("parent")
        child.dispatch()
        raise ValueError("no")

    parent.dispatch()
    run_due(queue)
    assert ran == ["parent", "child"]


@scenario("CTX-14", needs=("count",))
def scenario_ctx_14_context_not_leaked_between_jobs(h: Harness) -> None:
    queue = h.queue()
    marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="clean")
    seen: list[str] = []

    @queue.job(name="t")
    def job(i: int) -> None:
        seen.append(marker.get())
        marker.set(f"set by {i}")

    queue.dispatch_many(job.job(i) for i in range(20))
    queue.start_workers(1)
    queue.drain(20)
    assert seen == ["clean"] * 20


@scenario("dispatch_context_cancellation")
def scenario_dispatch_context_cancellation(h: Harness) -> None:
    queue = h.queue()
    ran: list[str] = []
    queue.register("t", lambda payload: ran.append(payload))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(DispatchCancelled):
        queue.dispatch(Job("t", "precanceled"), cancel=cancel)
    with pytest.raises(DispatchTimeout):
        queue.dispatch(Job("t", "too late"), timeout=0)
    queue.dispatch(Job("t", "healthy"), timeout=5, cancel=threading.Event())
    queue.start_workers(1)
    queue.drain(20)
    assert ran == ["healthy"]


@scenario("startworkers_idempotent", needs=("count",))
def scenario_startworkers_idempotent(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda: None)
    first = queue.start_workers(4)
    assert queue.start_workers(4) is first
    with pytest.raises(ConfigurationError, match="workers run already"):
        queue.start_workers(5)
    queue.dispatch(Job("t"))
    queue.drain(20)


@scenario("worker_ready_probe")
def scenario_worker_ready_probe(h: Harness) -> None:
    queue = h.queue()
    worker = queue.worker(concurrency=1)
    assert worker.ready(0) is False
    worker.start()
    assert worker.ready(10) is True
    assert worker.stop(5) == []


@scenario("shutdown_idempotent")
def scenario_shutdown_idempotent(h: Harness) -> None:
    queue = h.queue()
    assert queue.shutdown() == []
    queue.start_workers(2).ready(10)
    threads = [threading.Thread(target=queue.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert queue.shutdown() == []
    queue.close()
    queue.close()


@scenario("repeated_startup_shutdown_cycles", needs=("count",))
def scenario_repeated_startup_shutdown_cycles(h: Harness) -> None:
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    queue.start_workers(2).ready(10)
    queue.shutdown(5)  # what the driver itself needs threads for, it has now
    before = threading.active_count()
    for i in range(15):
        queue.start_workers(2)
        queue.dispatch(Job("t", i))
        queue.shutdown(5)
    queue.start_workers(2)
    queue.drain(20)
    queue.shutdown(5)
    assert sorted(ran) == list(range(15)), "each ran once, however often the workers stopped"
    wait_until(lambda: threading.active_count() <= before, "all threads of the stopped workers to end")


@scenario("WRK-01", needs=("processes", "count"), timing=True)
def scenario_wrk_01_graceful_drain(h: Harness) -> None:
    queue = h.queue()
    worker = h.spawn_worker(concurrency=4, lease=2.0)
    handles = queue.dispatch_many(Job("slow", {"seconds": 0.8}) for _ in range(24))
    wait_until(lambda: len(h.starts()) == 4, "four jobs to run")
    assert worker.terminate() == 0
    assert len(h.starts()) == 4, "a job was started during the drain"
    states = [h.standing(handle).state for handle in handles]
    assert (states.count("completed"), states.count("pending")) == (4, 20)
    assert all(h.standing(handle).attempt == 0 for handle in handles if h.standing(handle).state == "pending")


@scenario("WRK-09", needs=("pause", "browse", "count"), timing=True)
def scenario_wrk_09_pause_resume_worker(h: Harness) -> None:
    queue = h.queue()
    inside, leave = threading.Event(), threading.Event()
    ran: list[int] = []

    @queue.job(name="hold")
    def hold(i: int) -> None:
        inside.set()
        assert leave.wait(20)
        ran.append(i)

    first = hold.dispatch(0)
    queue.start_workers(1)
    assert inside.wait(20)
    queue.pause("default")
    others = [hold.dispatch(i) for i in range(1, 4)]
    leave.set()
    assert first.wait(20).state == "completed", "what ran when the queue was paused must finish"
    time.sleep(0.5)
    assert ran == [0], "a job of a paused queue was started"
    queue.resume("default")
    for handle in others:
        handle.wait(20)
    assert ran == [0, 1, 2, 3]


@scenario("WRK-12")
def scenario_wrk_12_unregistered_job(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])
    handle = queue.dispatch(Job("nobody_knows", retries=0))
    run_due(queue)
    assert h.standing(handle).state == "scheduled"
    assert h.standing(handle).attempt == 0, "an attempt was used"
    assert any(e.kind == "unknown_type" for e in events)
    h.advance(1.1)
    run_due(queue)
    h.advance(1.1)
    run_due(queue)
    assert h.standing(handle).state == "scheduled", "the second wait must be longer than the first"
    queue.register("nobody_knows", lambda: "known now")
    drive(h, queue, 10, 10, job=handle)
    h.returned(handle, "known now")


@scenario("WRK-12-DAY", needs=("browse", "delay"))
def scenario_wrk_12_unregistered_job_fails_after_a_day(h: Harness) -> None:
    queue = h.queue(virtual=True)
    handle = queue.dispatch(Job("nobody_knows"))
    passed = 0.0
    while handle.state == "scheduled" or passed == 0:
        run_due(queue)
        h.advance(300)  # the longest wait between two tries
        passed += 300
        assert passed < 30 * 3600, "it should have been given up"
    assert (handle.state, handle.info().reason) == ("failed", "unknown_type")
    assert passed >= 23.5 * 3600


@scenario("WRK-14", needs=("count",))
def scenario_wrk_14_concurrency_honoured_and_reached(h: Harness) -> None:
    queue = h.queue()
    together, most = 0, 0
    lock = threading.Lock()

    @queue.job(name="t")
    def job() -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.05)
        with lock:
            together -= 1

    queue.dispatch_many(job.job() for _ in range(40))
    queue.start_workers(8)
    queue.drain(20)
    assert most == 8


@scenario("shutdown_during_active_handler")
def scenario_shutdown_during_active_handler(h: Harness) -> None:
    queue = h.queue()
    inside, leave = threading.Event(), threading.Event()

    @queue.job(name="hold")
    def hold() -> str:
        inside.set()
        assert leave.wait(20)
        return "finished"

    handle = hold.dispatch()
    queue.start_workers(1)
    assert inside.wait(20)
    stopper = threading.Thread(target=queue.shutdown)
    stopper.start()
    leave.set()
    stopper.join(20)
    assert not stopper.is_alive()
    h.returned(handle, "finished")


@scenario("WRK-02")
def scenario_wrk_02_grace_exceeded_returns_jobs(h: Harness) -> None:
    queue = h.queue()
    inside = threading.Event()

    @queue.job(name="endless", retries=0)
    def endless() -> None:
        inside.set()
        while True:
            time.sleep(0.01)

    handle = endless.dispatch()
    queue.start_workers(1)
    assert inside.wait(20)
    assert queue.shutdown(timeout=0.2) == []
    info = h.standing(handle)
    assert (info.state, info.attempt) == ("pending", 0), "the job must be given back at once, no attempt used"


@scenario("WRK-17", needs=("count",))
def scenario_wrk_17_exit_hooks_order(h: Harness) -> None:
    calls: list[str] = []

    def middleware(ctx: JobContext, call_next: Any) -> Any:
        calls.append("middleware in")
        try:
            return call_next()
        finally:
            calls.append("middleware out")

    queue = h.queue(middleware=[middleware])
    queue.on_worker_start(lambda: calls.append("worker start"))
    queue.on_worker_stop(lambda: calls.append("worker stop"))
    queue.on_job_start(lambda ctx: calls.append(f"job start {ctx.type}"))
    queue.on_job_end(lambda ctx: calls.append("job end"))

    @queue.job(name="t", retries=0)
    def job() -> None:
        calls.append("handler")
        raise ValueError("no")

    job.dispatch()
    queue.start_workers(1)
    queue.drain(20)
    queue.shutdown(5)
    assert calls == [
        "worker start",
        "job start t",
        "middleware in",
        "handler",
        "middleware out",
        "job end",
        "worker stop",
    ]
