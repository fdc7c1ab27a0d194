"""Handlers in processes, handlers that cannot be stopped, and workers around them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from queuekit import (
    Backoff,
    Cancel,
    ConfigurationError,
    DriverUnavailable,
    Event,
    Job,
    JobContext,
    JobFailed,
    Queue,
    UnsupportedError,
)
from queuekit.worker.verdict import Stopped


def in_process(ctx: JobContext, n: int) -> dict[str, Any]:
    ctx.progress(50, step="half")
    return {"n": n, "pid": os.getpid(), "attempt": ctx.attempt, "id": ctx.id}


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def completes(ctx: JobContext) -> None:
    ctx.complete(connection=None)


def spins() -> None:
    while True:
        sum(range(1000))


def raises(kind: str) -> None:
    if kind == "cancel":
        raise Cancel("enough")
    raise ValueError("in the child")


@pytest.fixture
def queue() -> Iterator[Queue]:
    with Queue("memory://") as made:
        yield made


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_process_handler_runs_elsewhere_and_answers(queue: Queue) -> None:
    queue.register("p", in_process, executor="process")
    queue.start_workers(2)
    handle = queue.dispatch(Job("p", {"n": 3}))
    result = handle.result(30)
    assert (result["n"], result["attempt"], result["id"]) == (3, 1, handle.id)
    assert result["pid"] != os.getpid()
    assert handle.info().progress == 50


def test_a_process_that_dies_costs_an_attempt_and_not_the_worker(queue: Queue) -> None:
    queue.register("dies", dies, executor="process", retries=1, backoff=Backoff.constant(0))
    queue.register("p", in_process, executor="process")
    queue.start_workers(1)
    info = queue.dispatch(Job("dies")).wait(30)
    assert (info.state, info.reason, info.attempt) == ("failed", "worker_lost", 2)
    assert queue.dispatch(Job("p", {"n": 1})).wait(30).state == "completed"


def test_a_process_that_runs_too_long_is_killed(queue: Queue) -> None:
    queue.register("spins", spins, executor="process", retries=0, timeout=1)
    queue.start_workers(1)
    info = queue.dispatch(Job("spins")).wait(30)
    assert (info.state, info.reason) == ("failed", "timeout")


@pytest.mark.parametrize(("kind", "state", "reason"), [("cancel", "cancelled", "enough"), ("error", "failed", "error")])
def test_what_a_process_handler_raises_counts(queue: Queue, kind: str, state: str, reason: str) -> None:
    queue.register("raises", raises, executor="process", retries=0)
    queue.start_workers(1)
    info = queue.dispatch(Job("raises", {"kind": kind})).wait(30)
    assert (info.state, info.reason) == (state, reason)


def test_shutdown_returns_the_ids_of_what_it_cannot_interrupt(queue: Queue) -> None:
    leave, inside = threading.Event(), threading.Event()

    @queue.job(name="stubborn")
    def stubborn() -> str:
        inside.set()
        while not leave.is_set():
            try:
                time.sleep(0.01)
            except Stopped:
                continue
        return "finished late"

    handle = stubborn.dispatch()
    queue.start_workers(1)
    assert inside.wait(20)
    assert queue.shutdown(timeout=0.1) == [handle.id]
    leave.set()
    assert handle.result(20) == "finished late"


def test_a_job_that_ran_too_long_says_so_with_its_timeout(queue: Queue) -> None:
    queue.register("spins", spins, retries=0, timeout=0.1)
    queue.start_workers(1)
    handle = queue.dispatch(Job("spins"))
    with pytest.raises(JobFailed, match=r"\(timeout\): JobTimeout: the attempt ran longer than its timeout of 0.1 s$"):
        handle.result(20)


def test_a_failed_job_says_no_more_than_is_known(queue: Queue) -> None:
    @queue.job(name="silent", retries=0)
    def silent() -> None:
        raise ValueError

    handle = silent.dispatch()
    queue.start_workers(1)
    with pytest.raises(JobFailed, match=r"\(silent\) failed \(error\): ValueError$"):
        handle.result(20)


def test_a_handler_that_does_not_end_after_its_timeout_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queuekit.worker.timeouts.GRACE", 0.1)
    events: list[Event] = []
    leave = threading.Event()
    with Queue("memory://", observers=[events.append]) as queue:

        @queue.job(name="deaf", timeout=0.1, retries=0)
        def deaf() -> None:
            while not leave.is_set():
                try:
                    while not leave.is_set():  # wherever in here the interruption comes, it is swallowed
                        time.sleep(0.01)
                except Exception:
                    continue

        worker = queue.start_workers(1)
        handle = deaf.dispatch()
        until(lambda: any(e.kind == "attempt_stuck" for e in events))
        until(worker.stuck.is_set)
        assert handle.state == "running", "its slot and lease stay held"
        leave.set()
        handle.wait(20)


def test_settle_sync_is_stored_before_the_thread_goes_on(queue: Queue) -> None:
    queue.register("t", lambda: "ok")
    queue.start_workers(1)
    assert queue.dispatch(Job("t", settle="sync")).result(20) == "ok"


def test_completing_in_a_transaction_is_refused_where_no_connection_can_be_used(tmp_path: Any) -> None:
    """As early as it is known: at registration, or where the handler asks for what nobody declared."""
    with Queue(f"sqlite:///{tmp_path}/jobs.db") as queue:

        async def asynchronous() -> None: ...

        for handler, options in ((asynchronous, {}), (dies, {"executor": "process"})):
            with pytest.raises(ConfigurationError, match="plain function"):
                queue.register("t", handler, settle="transaction", **options)
        queue.register("undeclared", completes, retries=0)
        queue.register("in_process", completes, executor="process", retries=0)
        queue.start_workers(1)
        assert "settle=" in queue.dispatch(Job("undeclared", {})).wait(20).errors[-1].message
        with Queue(f"sqlite:///{tmp_path}/jobs.db") as stranger:  # who knows nothing of the handler
            handle = stranger.dispatch(Job("in_process", {}, settle="transaction"))
            assert "plain function" in handle.wait(20).errors[-1].message
    with Queue("memory://") as queue, pytest.raises(UnsupportedError, match="SQL engine"):
        queue.register("t", lambda: None, settle="transaction")


def test_a_refused_connection_leaves_the_job_to_the_worker(tmp_path: Any) -> None:
    with Queue(f"sqlite:///{tmp_path}/jobs.db") as queue:

        @queue.job(name="t", settle="transaction")
        def wrong(ctx: JobContext) -> str:
            with pytest.raises(ConfigurationError, match="is refused"):
                ctx.complete(connection=object())
            return "settled as usual"

        queue.start_workers(1)
        assert wrong.dispatch().result(20) == "settled as usual"


def test_a_job_that_woke_its_claim_is_settled_by_the_next_one(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pump waits for a quick handler although the driver has just raised its flag: else it keeps the interpreter from it."""
    driver: Any = queue.driver
    seen: list[str] = []
    claim, exchange = driver.claim, driver.exchange

    def claiming(*arguments: Any, **options: Any) -> Any:
        seen.append("claim")
        found = claim(*arguments, **options)
        if found:
            options[
                "wakeup"
            ].set()  # as a driver does whose thread hears of a job; memory's own may have been too early
            seen.append("lent")
        return found

    def exchanging(*arguments: Any, **options: Any) -> Any:
        seen.append("exchange")
        return exchange(*arguments, **options)

    monkeypatch.setattr(driver, "claim", claiming)
    monkeypatch.setattr(driver, "exchange", exchanging)
    queue.register("t", lambda: None)
    queue.start_workers(1)
    for _ in range(20):
        queue.dispatch(Job("t")).wait(10)
        time.sleep(0.005)
    after = [second for first, second in pairwise(seen) if first == "lent"][5:]
    assert after.count("exchange") > len(after) / 2, "claims went between a job and its settlement"


def test_a_job_whose_last_progress_cannot_be_sent_is_settled_all_the_same(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker settles it when the backend answers again; it would run once more otherwise, and the worker never stop."""
    ran: list[int] = []
    real, failures = queue.driver.report, iter([DriverUnavailable("away")] * 2)  # type: ignore[attr-defined]

    def report(reports: Any) -> Any:
        for failure in failures:
            raise failure
        return real(reports)

    monkeypatch.setattr(queue.driver, "report", report)

    def handler(ctx: JobContext) -> None:
        ctx.progress(50)
        ran.append(ctx.attempt)

    queue.register("p", handler)
    worker = queue.worker(concurrency=1, lease=1).start()
    handle = queue.dispatch(Job("p"))
    handle.wait(5)
    assert (handle.state, ran) == ("completed", [1])
    assert worker.stop(5) == []


def test_a_job_that_cannot_be_settled_yet_is_not_lent_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a table of finished jobs is locked for a while, and those of unfinished ones are not."""
    ran: list[int] = []

    def handler(ctx: JobContext) -> None:
        ran.append(ctx.attempt)

    with Queue("memory://settling") as queue, Queue("memory://settling") as other:
        for each in (queue, other):
            each.register("p", handler)
        end = time.monotonic() + 3

        def away(name: str) -> Any:
            real = getattr(queue.driver, name)

            def call(outcomes: Any, *arguments: Any, **options: Any) -> Any:
                if outcomes and time.monotonic() < end:
                    raise DriverUnavailable("not now")
                return real(outcomes, *arguments, **options)

            return call

        for name in ("settle", "exchange"):
            monkeypatch.setattr(queue.driver, name, away(name))
        worker = queue.worker(concurrency=1, lease=2.5).start()
        handle = queue.dispatch(Job("p"))
        until(lambda: ran)
        with other.worker(concurrency=1, lease=2.5):
            handle.wait(10)
            assert ran == [1], "another worker ran it again, for nobody renewed its lease"
        worker.stop(5)


def test_a_child_that_died_while_it_was_idle_costs_no_job_its_only_attempt(queue: Queue) -> None:
    queue.register("p", in_process, executor="process", retries=0)
    queue.start_workers(1)
    pid = queue.dispatch(Job("p", {"n": 1})).result(30)["pid"]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert queue.dispatch(Job("p", {"n": 2})).result(30)["n"] == 2


def test_a_job_whose_lease_ends_while_the_backend_is_asked_for_its_time_does_not_start(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is cut off waits for an answer; meanwhile others may have taken the job."""
    ran: list[int] = []

    def handler(ctx: JobContext) -> None:
        ran.append(ctx.attempt)

    def now() -> float:
        queue.driver.extend = away  # type: ignore[method-assign]
        time.sleep(0.5)
        return time.time()

    def away(*_: Any, **__: Any) -> Any:
        raise DriverUnavailable("away")

    queue.register("p", handler, deadline=60)
    queue.dispatch(Job("p"))
    monkeypatch.setattr(queue.backend_time, "now", now)
    worker = queue.worker(concurrency=1, lease=0.3).start()
    until(lambda: worker.done)
    assert ran == []
    worker.stop(0)


TRACED = """
import sys, time
from queuekit import Job, JobFailed, Queue

queue = Queue("memory://")

@queue.job(name="endless", timeout=0.1, retries=0)
def endless() -> None:
    while True:
        time.sleep(0.01)

with queue.worker(concurrency=1):
    try:
        endless.dispatch().result(20)
    except JobFailed:
        pass

def traced() -> None:
    pass

sys.settrace(lambda *_: None)
traced()
sys.settrace(None)
print("went on")
"""


def test_a_process_in_which_a_handler_timed_out_can_be_traced() -> None:
    """By a debugger, or for coverage: CPython 3.11 stands still, deaf to signals, where an exception was taken back; so another process tries it."""
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "went on\n", done.stderr
