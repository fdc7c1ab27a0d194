"""FLT-01 to FLT-04, FLT-15, FLT-18, FLT-20 to FLT-22, FLT-24: servers, workers, clocks, disks and limits that fail.

Each one ends alike: heal, work everything off, judge the whole history, and ask the backend what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit import AmbiguousDispatch, DispatchTimeout, DriverUnavailable, Job, Queue
from queuekit.contract import Done, Driver
from queuekit_integration.chaos import Chaos, seed_of_this_run
from queuekit_integration.checker import Plan
from queuekit_integration.faults import ShiftedClock, SmallDisk, few_files, little_memory
from queuekit_integration.harness import Harness, WorkerProcess, wait_until
from queuekit_integration.load import Load
from queuekit_integration.registry import scenario
from queuekit_integration.servers import Server

DOWN = 0.7
"""Seconds that a server is away: long enough for several tries to reach it."""


def short(number: int) -> Job:
    """Return a job of ten milliseconds, for worker processes."""
    return Job("slow", {"seconds": 0.01, "tag": str(number)})


def server_of(h: Harness) -> Server:
    assert h.server is not None
    return h.server


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def away(h: Harness, end: Callable[[], None], *, fault: str, seconds: float = DOWN) -> None:
    """End the server in some way, stay away for a while, start it again."""
    end()
    h.fired(fault)
    time.sleep(seconds)
    server_of(h).start()


@scenario("FLT-01", needs=("server", "processes", "count", "outlives"), faults=("kill",), timing=True)
def scenario_flt_01_broker_kill9_restart_idle(h: Harness) -> None:
    queue = h.queue()
    worker = h.spawn_worker(lease=2.0)
    h.load(queue, 5, short).wait()
    h.wait_for_starts(5)
    away(h, server_of(h).kill, fault="kill")
    ids = h.load(queue, 10, short).wait()
    wait_until(
        lambda: {s["job"] for s in h.starts()} >= set(ids), "jobs of after the restart to start in the old worker"
    )
    h.finish(Plan(dispatches=15, faults=("kill",), workers=(worker.pid,)))


@scenario("FLT-01-LOAD", needs=("server", "processes", "count", "lasting", "outlives"), faults=("kill",), timing=True)
def scenario_flt_01_broker_kill9_under_load(h: Harness) -> None:
    queue = h.queue()
    workers = [h.spawn_worker(lease=2.0) for _ in range(2)]
    load = h.load(queue, 150, short, pause=0.005)
    for number in range(2):
        h.wait_for_starts(30 * (number + 1))
        away(h, server_of(h).kill, fault="kill")
    ids = load.wait()
    assert load.errors, "no dispatch met the outage"
    h.finish(Plan(dispatches=150, faults=("kill",), workers=tuple(w.pid for w in workers)))
    assert {s["job"] for s in h.starts()} >= set(ids)


@scenario("FLT-01-NEW", needs=("server", "outlives"), faults=("kill",), timing=True)
def scenario_flt_01_broker_kill9_after_the_first_accept(h: Harness) -> None:
    """Kill the server in the instant in which it has accepted the first job of a queue, of a priority, of a delay."""
    firsts = [("queue", h.message("queue", queue="fresh"))]
    if h.can("priority"):
        firsts.append(("priority", h.message("priority", queue="fresh", priority=9)))
    if h.can("delay"):
        firsts.append(("delay", h.message("delay", queue="fresh", delay=1.0)))
    for what, message in firsts:
        h.driver(virtual=False).send([message])
        server_of(h).kill()
        h.fired("kill")
        server_of(h).start()
        complete_until(h.driver(virtual=False), "fresh", what)


def complete_until(driver: Driver, queue: str, body: str) -> None:
    """Claim and complete what is there until a job with this body was among it."""

    def came() -> bool:
        found = driver.claim([queue], limit=5, lease=30)
        driver.settle([Done(delivery) for delivery in found])
        return body in {delivery.message.body for delivery in found}

    wait_until(came, f"the first job of a new {body}", seconds=30)


@scenario("FLT-02", needs=("server", "processes", "count", "lasting", "outlives"), faults=("stop",), timing=True)
def scenario_flt_02_broker_graceful_restart(h: Harness) -> None:
    queue = h.queue()
    worker = h.spawn_worker(lease=2.0)
    load = h.load(queue, 100, short, pause=0.005)
    h.wait_for_starts(20)
    server_of(h).stop()
    h.fired("stop")
    time.sleep(0.3)  # what was in hand is finished by then
    before = cpu_seconds(worker.pid)
    time.sleep(2.0)
    spent = cpu_seconds(worker.pid) - before
    server_of(h).start()
    load.wait()
    assert load.errors, "no dispatch met the outage"
    assert spent < 0.5, f"a worker without its backend burnt {spent} s of CPU in 2 s"
    h.finish(Plan(dispatches=100, faults=("stop",), workers=(worker.pid,)))


@scenario("FLT-03", needs=("server", "processes", "count", "fenced"), faults=("freeze",), timing=True)
def scenario_flt_03_broker_sigstop(h: Harness) -> None:
    _, worker, load = _hang(h)
    load.wait()
    h.finish(Plan(dispatches=60, faults=("freeze",), workers=(worker.pid,)))


@scenario("FLT-03-KEPT", needs=("server", "processes", "count"), faults=("freeze",), timing=True)
def scenario_flt_03_broker_sigstop_keeps_jobs(h: Harness) -> None:
    """Ask only whether every job ran and none is left: without fencing, what was on its way may be applied late."""
    queue, _, load = _hang(h)
    ids = load.wait()
    wait_until(lambda: {s["job"] for s in h.starts()} >= set(ids), "every accepted job to start", seconds=40)
    wait_until(lambda: queue.stats().pending + queue.stats().in_flight == 0, "every job to end", seconds=40)


def _hang(h: Harness) -> tuple[Queue, WorkerProcess, Load]:
    """Let the server hang under load for as long as a call waits for it, and wake it up."""
    queue = h.queue()
    worker = h.spawn_worker(lease=2.0)
    load = h.load(queue, 60, short, pause=0.005)
    h.wait_for_starts(10)
    server_of(h).freeze()
    h.fired("freeze")
    asked = time.monotonic()
    with pytest.raises(DriverUnavailable):
        h.queue().stats()
    took = time.monotonic() - asked
    assert took < h.silence + 2, f"a call hung for {took:.1f} s on a server that says nothing"
    server_of(h).thaw()
    return queue, worker, load


@scenario("CTX-12", needs=("server", "count", "unique_ids"), faults=("freeze",), timing=True)
def scenario_ctx_12_dispatch_deadline(h: Harness) -> None:
    queue = h.queue()
    queue.dispatch(Job("t"))
    server_of(h).freeze()
    asked = time.monotonic()
    with pytest.raises((AmbiguousDispatch, DispatchTimeout)) as caught:
        queue.dispatch(Job("t"), timeout=1.0)
    took = time.monotonic() - asked
    server_of(h).thaw()
    assert 0.9 <= took <= 1.5, f"a dispatch with a second's patience took {took:.2f} s"
    queue.dispatch(Job("t", id=caught.value.job_id))
    assert queue.stats().pending == 2, "the job that was dispatched again under its id is another one"


@scenario("FLT-04", needs=("server", "count"), faults=("stop",), timing=True)
def scenario_flt_04_broker_down_at_start(h: Harness) -> None:
    server_of(h).stop()
    h.fired("stop")
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    with pytest.raises(DriverUnavailable):
        queue.dispatch(Job("t", 0))
    worker = queue.worker(concurrency=1, lease=2.0).start()
    assert not worker.ready(0.5), "a worker is ready without its backend"
    server_of(h).start()
    assert worker.ready(20), "a worker that was started first never found its backend"
    assert h.ended(queue.dispatch(Job("t", 1))).state == "completed"
    assert ran == [1], "a dispatch that was refused ran all the same"
    worker.stop(5)


@scenario("FLT-15", needs=("processes", "count"), timing=True)
def scenario_flt_15_worker_frozen_then_killed(h: Harness) -> None:
    queue = h.queue()
    frozen = h.spawn_worker(lease=1.0, concurrency=2)
    handles = h.dispatch_recorded(queue, [Job("slow", {"seconds": 1.0})] * 4)
    h.wait_for_starts(2)
    h.kill_recorded(frozen, freeze=True)
    other = h.spawn_worker(lease=1.0, concurrency=2)
    h.kill_recorded(frozen)
    h.all_done(queue, handles)
    twice = [handle.id for handle in handles if len(h.starts(handle.id)) == 2]
    assert len(twice) == 2, "what the frozen worker held, and only that, starts again"
    h.judge(queue, Plan(dispatches=4, redelivery=True, faults=("freeze", "kill"), workers=(other.pid,)))


@scenario("FLT-18", needs=("processes", "count", "delay"), timing=True)
def scenario_flt_18_clock_skew_worker(h: Harness) -> None:
    queue = h.queue()
    early, late = (h.spawn_worker(lease=1.0, concurrency=2, clock=clock) for clock in (300.0, -3600.0))
    jobs = [Job("slow", {"seconds": 0.05}, delay=0.0 if i % 2 else 0.5) for i in range(40)]
    handles = h.dispatch_recorded(queue, [*jobs, Job("slow", {"seconds": 2.5})])
    for handle in handles:
        assert h.ended(handle, seconds=30).state == "completed"
    assert len(h.starts()) == 41, "a clock that is wrong cost a lease"
    h.judge(queue, Plan(dispatches=41, workers=(early.pid, late.pid)))


@scenario("SCH-17", needs=("processes", "count", "delay"), timing=True)
def scenario_sch_17_worker_clock_skew(h: Harness) -> None:
    queue = h.queue()
    h.spawn_worker(lease=1.0, clock=3600.0)
    [handle] = h.dispatch_recorded(queue, [Job("note", delay=1.0)])
    asked = time.monotonic_ns()
    assert h.ended(handle).state == "completed"
    [start] = h.starts()
    assert start["t"] - asked >= 0.9e9, "a worker whose clock is an hour ahead ran a job early"
    h.judge(queue, Plan(dispatches=1))


@scenario("CTX-08-CLOCK", needs=("processes", "server_clock", "count", "delay", "browse"), timing=True)
def scenario_ctx_08_deadlines_go_by_the_backends_clock(h: Harness) -> None:
    """Judge deadlines on workers whose clocks are an hour off, and set them by a dispatcher whose clock is."""
    queue = h.queue()
    ahead = h.spawn_worker(lease=1.0, clock=3600.0)
    [in_time] = h.dispatch_recorded(queue, [Job("note", deadline=60.0)])
    assert in_time.wait(20).state == "completed", "a worker whose clock is ahead gave a job up that was in time"
    ahead.terminate()
    late = queue.dispatch(Job("note", deadline=1.0))
    time.sleep(1.1)
    h.spawn_worker(lease=1.0, clock=-3600.0)
    assert late.wait(20).reason == "deadline", "a worker whose clock is behind started a job past its deadline"
    elsewhere = Queue(h.driver(virtual=False), namespace=h.namespace, clock=ShiftedClock(-3600.0))
    assert elsewhere.dispatch(Job("note", deadline=60.0)).wait(20).state == "completed", "it was late from the start"


@scenario("FLT-20", needs=("server", "count", "unique_ids"), timing=True)
def scenario_flt_20_disk_full_broker(h: Harness) -> None:
    with SmallDisk(256 << 20) as disk:
        server = h.private_server(folder=disk.path)
        queue = h.queue(through=h.proxy(server))
        stored = [queue.dispatch(Job("t", "x" * 10_000)).id for _ in range(10)]
        assert disk.fill()
        refused = _dispatch_until_refused(queue, stored)
        assert refused.retryable, "a disk that is full is trouble that passes"
        disk.free()
        server.heal()
        wait_until(lambda: _accepts(queue, stored), "the server to take jobs again once there is room")
        counted = queue.stats().pending
        assert counted in {len(stored), len(stored) + isinstance(refused, AmbiguousDispatch)}, "an accepted job is gone"
        queue.close()


def _dispatch_until_refused(queue: Queue, stored: list[str]) -> DriverUnavailable | AmbiguousDispatch:
    for _ in range(3000):
        try:
            stored.append(queue.dispatch(Job("t", "x" * 100_000)).id)
        except (DriverUnavailable, AmbiguousDispatch) as error:
            return error
    raise AssertionError("the disk was never full")


def _accepts(queue: Queue, stored: list[str]) -> bool:
    try:
        stored.append(queue.dispatch(Job("t")).id)
    except DriverUnavailable:
        return False
    return True


@scenario("FLT-21", needs=("server", "processes", "count"), faults=("proxy",), timing=True)
def scenario_flt_21_fd_limit_client(h: Harness) -> None:
    """Take a worker's connections away while it may open no file: it says so, burns nothing, and recovers."""
    queue, proxy = h.queue(), h.proxy()
    worker = h.spawn_worker(through=proxy, lease=2.0)
    h.load(queue, 5, short).wait()
    h.wait_for_starts(5)
    with few_files(worker.pid, more=0):
        assert proxy.reset_all()
        h.fired("files")
        h.load(queue, 20, short).wait()
        before = cpu_seconds(worker.pid)
        time.sleep(1.5)
        spent = cpu_seconds(worker.pid) - before
    assert worker.process.poll() is None, "the worker died of having no files"
    assert spent < 0.6, f"a worker that may open no file burnt {spent} s of CPU in 1.5 s"
    h.finish(Plan(dispatches=25, faults=("files",), workers=(worker.pid,)))


@scenario("FLT-22", needs=("processes", "count"), timing=True)
def scenario_flt_22_memory_limit_worker(h: Harness) -> None:
    queue = h.queue()
    worker = h.spawn_worker(lease=2.0)
    h.load(queue, 3, short).wait()
    h.wait_for_starts(3)
    with little_memory(worker.pid, more=96 << 20):
        [big] = h.dispatch_recorded(queue, [Job("eat", {"size": 1 << 30})])
        info = h.ended(big)
        assert (info.state, info.errors[-1].partition(":")[0]) == ("failed", "MemoryError")
        h.fired("memory")
        h.load(queue, 10, short).wait()
        wait_until(lambda: len(h.starts()) == 14, "small jobs to run in the worker that had no memory for a large one")
    h.finish(Plan(dispatches=14, faults=("memory",), workers=(worker.pid,)))


@scenario("FLT-24", needs=("server", "processes", "count"), faults=("proxy",), timing=True)
def scenario_flt_24_random_mix_seeded(h: Harness) -> None:
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    steady = h.spawn_worker(lease=1.0)
    h.load(queue, 5, short).wait()
    h.wait_for_starts(5)  # of its own: later the other one may do all the work while this one waits for its backend
    chaos = Chaos(h, proxy, seed_of_this_run())
    load = h.load(queue, 150, short, pause=0.02)
    chaos.run(6.0)
    h.heal()
    proxy.heal()
    ids = load.wait()
    h.finish(Plan(dispatches=155, workers=(steady.pid,)))
    assert {s["job"] for s in h.starts()} >= set(ids)


@scenario("ORD-06", needs=("processes", "key", "count"), timing=True)
def scenario_ord_06_order_under_worker_kill(h: Harness) -> None:
    queue = h.queue()
    first = h.spawn_worker(lease=1.0, concurrency=2)
    second = h.spawn_worker(lease=1.0, concurrency=2)
    jobs = [Job("slow", {"seconds": 0.03}, key=f"k{number % 6}") for number in range(30)]
    jobs += [Job("until_released", key=f"k{number % 6}") for number in range(30)]
    h.dispatch_recorded(queue, jobs)
    wait_until(lambda: {s["pid"] for s in h.starts()} >= {first.pid, second.pid}, "both workers to be at it")
    wait_until(lambda: _frozen_in_handler(h, first), "the first worker to be caught in a handler")
    h.kill_recorded(first)
    (h.folder / "release").touch()
    h.finish(Plan(dispatches=60, redelivery=True, faults=("kill",), workers=(first.pid, second.pid)))


def _frozen_in_handler(h: Harness, worker: WorkerProcess) -> bool:
    """Freeze a worker; whether a handler runs in it then. If none does, it goes on."""
    worker.freeze()
    notes = [note for note in h.notes() if note["pid"] == worker.pid]
    running = {note["job"] for note in notes if note["f"] == "start"} - {
        note["job"] for note in notes if note["f"] == "end"
    }
    if not running:
        worker.thaw()
    return bool(running)
