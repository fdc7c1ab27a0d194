"""FLT and FS: faults of worker processes and of the SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time

from queuekit import Job
from queuekit.contract import BackendFull
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


def held_by(h: Harness, pid: int) -> set[str]:
    """Return the jobs that a process started."""
    return {s["job"] for s in h.starts() if s["pid"] == pid}


@scenario("FLT-13", needs=("processes", "count"), timing=True)
def scenario_flt_13_worker_kill9_in_handler(h: Harness) -> None:
    queue = h.queue()
    first = h.spawn_worker(lease=1.0, concurrency=4)
    handles = h.dispatch_recorded(queue, [Job("slow", {"seconds": 0.05})] * 60)

    def running() -> set[str]:
        return {s["job"] for s in h.starts()} - {n["job"] for n in h.notes() if n["f"] == "end"}

    wait_until(lambda: len(h.starts()) >= 10 and running(), "the first worker to be in the middle of it")
    h.kill_recorded(first)
    held = running()
    assert held, "the kill hit no running handler"
    h.spawn_worker(lease=1.0, concurrency=4)
    h.all_done(queue, handles)
    started = [s["job"] for s in h.starts()]
    twice = {job for job in started if started.count(job) > 1}
    assert twice, "nothing was redelivered"
    assert twice <= held_by(h, first.pid), "a job was started again that the killed worker did not hold"
    assert {s["job"] for s in h.starts()} == {handle.id for handle in handles}
    h.judge(queue, Plan(dispatches=60, redelivery=True, faults=("kill",)))


@scenario("FLT-14", needs=("processes", "count", "lease", "fenced"), timing=True)
def scenario_flt_14_worker_sigstop_past_lease(h: Harness) -> None:
    queue = h.queue()
    zombie = h.spawn_worker(lease=1.0, concurrency=1)
    [handle] = h.dispatch_recorded(queue, [Job("slow", {"seconds": 1.5})])
    wait_until(h.starts, "the job to start")
    h.kill_recorded(zombie, freeze=True)
    other = h.spawn_worker(lease=1.0, concurrency=1)
    wait_until(lambda: len(h.starts()) == 2, "the second worker to take the job over")
    zombie.thaw()
    ending = h.ended(handle)
    assert (ending.state, ending.attempt) == ("completed", 2)
    wait_until(
        lambda: any(n["f"] == "end" and n["pid"] == zombie.pid for n in h.notes()), "the zombie's handler to end"
    )
    time.sleep(0.3)
    ends = {n["pid"]: n for n in h.notes() if n["f"] == "end"}
    assert ends[zombie.pid]["lost"] is True, "the zombie was not told"
    assert ends[other.pid]["lost"] is False
    assert h.standing(handle).attempt == 2
    h.judge(queue, Plan(dispatches=1, redelivery=True, faults=("freeze",)))


@scenario("FLT-16", needs=("processes", "count"), timing=True)
def scenario_flt_16_all_workers_die_together(h: Harness) -> None:
    queue = h.queue()
    workers = [h.spawn_worker(lease=1.0, concurrency=2) for _ in range(2)]
    handles = h.dispatch_recorded(queue, [Job("slow", {"seconds": 0.05})] * 60)
    wait_until(lambda: len(h.starts()) >= 8, "work to be under way")
    for worker in workers:
        h.kill_recorded(worker)
    h.spawn_worker(lease=1.0, concurrency=4)
    h.all_done(queue, handles)
    h.judge(queue, Plan(dispatches=60, redelivery=True, faults=("kill",)))


@scenario("FLT-17", needs=("processes", "count"), timing=True)
def scenario_flt_17_rolling_restart_under_load(h: Harness) -> None:
    queue = h.queue()
    old = [h.spawn_worker(lease=2.0, concurrency=2) for _ in range(2)]
    handles = h.dispatch_recorded(queue, [Job("slow", {"seconds": 0.03})] * 120)
    wait_until(lambda: len(h.starts()) >= 8, "work to be under way")
    for worker in old:
        h.spawn_worker(lease=2.0, concurrency=2)
        assert worker.terminate() == 0
    h.all_done(queue, handles)
    started = [s["job"] for s in h.starts()]
    assert len(started) == len(set(started)) == 120, "a graceful restart started a job twice"
    h.judge(queue, Plan(dispatches=120))


@scenario("worker_restart_delay_recovery", needs=("processes", "delay"), timing=True)
def scenario_worker_restart_delay_recovery(h: Harness) -> None:
    queue = h.queue()
    first = h.spawn_worker(lease=1.0)
    [handle] = h.dispatch_recorded(queue, [Job("note", delay=1.5)])
    h.kill_recorded(first)
    if h.lookup:
        assert handle.state == "scheduled"
    second = h.spawn_worker(lease=1.0)
    assert h.ended(handle).state == "completed"
    assert len(h.starts()) == 1
    h.recorder.drain("ok")  # there was this one job
    h.judge_history(Plan(dispatches=1, faults=("kill",), workers=(second.pid,)))


@scenario("FS-01", needs=("file", "count"), timing=True)
def scenario_fs_01_sqlite_busy(h: Harness) -> None:
    queue = h.queue()
    queue.open()
    blocker = sqlite3.connect(str(h.file), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    errors: list[BaseException] = []

    def dispatch() -> None:
        try:
            queue.dispatch(Job("t"), timeout=0.3)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=dispatch)
    thread.start()
    thread.join(10)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert [type(e).__name__ for e in errors] == ["DispatchTimeout"]
    assert queue.stats().pending == 0
    queue.dispatch(Job("t"))
    assert queue.stats().pending == 1


@scenario("FS-03", needs=("file", "count"))
def scenario_fs_03_sqlite_full(h: Harness) -> None:
    queue = h.queue()
    queue.open()
    native = h.native(queue.driver)
    [pages] = native.execute("PRAGMA page_count").fetchone()
    native.execute(f"PRAGMA max_page_count = {pages + 5}")
    stored = 0
    try:
        for _ in range(200):
            queue.dispatch(Job("t", "x" * 10_000))
            stored += 1
    except BackendFull as error:
        assert error.retryable
    else:
        raise AssertionError("the limit was never reached")
    assert queue.stats().pending == stored
    native.execute("PRAGMA max_page_count = 1000000")
    queue.dispatch(Job("t"))
    assert queue.stats().pending == stored + 1


@scenario("FS-02", needs=("file", "processes", "count"), timing=True)
def scenario_fs_02_sqlite_kill9_mid_tx(h: Harness) -> None:
    queue = h.queue()
    h.dispatch_recorded(queue, [Job("slow", {"seconds": 0.002})] * 2000)
    for _ in range(3):
        worker = h.spawn_worker(lease=1.0, concurrency=4)
        before = len(h.starts())
        h.wait_for_starts(before + 20)
        h.kill_recorded(worker)
        connection = sqlite3.connect(str(h.file))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    h.spawn_worker(lease=1.0, concurrency=4)
    queue.drain(60)
    [counts] = queue.stats().queues
    assert counts.completed == 2000
    h.judge(queue, Plan(dispatches=2000, faults=("kill",)))


@scenario("OUTAGE", needs=("count",), timing=True)
def scenario_consume_after_broker_recovery(h: Harness) -> None:
    """Let a backend not answer for a while: nothing is lost, and the worker goes on by itself."""
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    worker = h.work(queue, concurrency=2, lease=2.0)
    h.dispatch_recorded(queue, [Job("t", i) for i in range(20)])
    if not h.can("lasting"):  # what was settled in the last instant may run again
        wait_until(lambda: len(ran) == 20, "jobs of before the outage to run")
        time.sleep(0.5)
    with h.outage(queue):
        time.sleep(0.7)
        ended = len(ran)
        time.sleep(0.3)
        assert len(ran) == ended, "jobs start although the backend does not answer"
    h.load(queue, 20, lambda number: Job("t", 20 + number)).wait()
    wait_until(lambda: len(set(ran)) == 40, "jobs of before and after the outage to run", seconds=30)
    worker.stop(5)
    h.finish(Plan(dispatches=40, faults=("outage",)))
