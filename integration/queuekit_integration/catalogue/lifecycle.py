"""WRK: how workers start, stop, are interrupted and die."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from queuekit import Backoff, Job
from queuekit.contract import Delivery, DriverUnavailable
from queuekit_integration import handlers
from queuekit_integration.harness import Harness, WorkerProcess, wait_until
from queuekit_integration.registry import scenario


def half_way(h: Harness, *, seconds: float, **settings: Any) -> tuple[Any, WorkerProcess]:
    """Start a worker process whose signals are `Queue.run`'s, and two jobs of which one runs; return handles and worker."""
    queue = h.queue()
    worker = h.spawn_worker(signals=True, concurrency=1, lease=1.0, **settings)
    handles = [queue.dispatch(Job("stubborn", {"seconds": seconds})), queue.dispatch(Job("note"))]
    h.wait_for_starts(1)
    return handles, worker


@scenario("WRK-03", needs=("processes", "browse", "lease"), timing=True)
def scenario_wrk_03_second_signal_hard(h: Harness) -> None:
    """Send SIGTERM twice: the worker leaves at once although a handler runs, and its jobs run elsewhere."""
    (running, waiting), worker = half_way(h, seconds=1.8, grace=60)
    worker.process.terminate()
    time.sleep(0.3)
    assert worker.process.poll() is None, "one signal asks for good order, and a handler runs"
    begin = time.monotonic()
    worker.process.terminate()
    worker.end(seconds=10)
    assert time.monotonic() - begin < 2
    assert running.state == "running"
    h.spawn_worker(lease=1.0)
    assert h.ended(waiting).state == "completed"
    assert h.ended(running).state == "completed"
    assert [start["attempt"] for start in h.starts(running.id)] == [1, 2]


@scenario("WRK-04", needs=("processes",), timing=True)
def scenario_wrk_04_sigint_same_as_term(h: Harness) -> None:
    """Send SIGINT: what runs may end, nothing new starts, and the process leaves with 0."""
    (running, waiting), worker = half_way(h, seconds=0.6)
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert h.standing(running).state == "completed"
    waits = h.standing(waiting)
    assert (waits.state, waits.attempt) == ("pending", 0)


@scenario("WRK-05", needs=("count", "order"), timing=True)
def scenario_wrk_05_prefetched_returned_on_stop(h: Harness) -> None:
    """Stop a worker that holds more than it runs: another takes the rest at once, while the handler still runs."""
    queue, other = h.queue(), h.queue()
    other.open()
    inside, leave = threading.Event(), threading.Event()
    queue.register("quick", lambda: None)

    @queue.job(name="long")
    def long() -> None:
        inside.set()
        assert leave.wait(20)

    queue.dispatch_many(Job("quick") for _ in range(60))
    queue.dispatch_many([Job("long"), *(Job("quick") for _ in range(10))])
    worker = queue.worker(concurrency=1).start()
    assert inside.wait(20)
    held = queue.stats().in_flight
    assert held > 1, "the worker held nothing beyond what it ran"
    stopper = threading.Thread(target=worker.stop, args=(20,))
    stopper.start()
    found: list[Delivery] = []

    def all_found() -> bool:
        found.extend(other.driver.claim(["default"], limit=20, lease=30))
        return len(found) >= 10

    wait_until(all_found, "the rest to be lent to another", seconds=2)
    leave.set()
    stopper.join(20)
    assert len(found) == 10
    assert {delivery.attempt for delivery in found} == {1}, "what had not started was charged an attempt"


@scenario("WRK-06", needs=("count",), timing=True)
def scenario_wrk_06_start_stop_stress(h: Harness) -> None:
    """Start and stop a hundred workers in a row, under load: nothing is lost, doubled or left behind."""
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    with queue.worker(concurrency=2) as first:
        first.ready(10)  # what the driver itself needs threads for, it has now
    before = threading.active_count()
    for i in range(100):
        queue.dispatch(Job("t", i))
        worker = queue.worker(concurrency=2).start()
        if i % 2:
            worker.ready(10)
        assert worker.stop(10) == []
    with queue.worker(concurrency=2):
        queue.drain(20)
    assert sorted(ran) == list(range(100))
    wait_until(lambda: threading.active_count() <= before, "the threads of a hundred workers to end")


@scenario("WRK-07", needs=(), timing=True)
def scenario_wrk_07_stop_during_connect(h: Harness) -> None:
    """Stop a worker whose backend cannot be reached: it ends within a second."""
    queue = h.queue()
    driver: Any = queue.driver
    tries: list[float] = []

    def unreachable() -> None:
        tries.append(time.monotonic())
        raise DriverUnavailable("injected")

    driver.open = unreachable
    worker = queue.worker(concurrency=2).start()
    wait_until(lambda: len(tries) >= 2, "the worker to try again")
    assert worker.ready(0) is False
    begin = time.monotonic()
    assert worker.stop(10) == []
    assert time.monotonic() - begin < 1
    del driver.open


@scenario("WRK-08", needs=(), timing=True)
def scenario_wrk_08_stop_while_blocked_in_poll(h: Harness) -> None:
    """Stop an idle worker, in the middle of its waiting: it ends within a second."""
    queue = h.queue()
    for pause in (0.0, 0.3, 0.7):
        worker = queue.worker(concurrency=2).start()
        assert worker.ready(20)
        time.sleep(pause)
        begin = time.monotonic()
        assert worker.stop(10) == []
        assert time.monotonic() - begin < 1


@scenario("WRK-11", timing=True)
def scenario_wrk_11_child_crash_respawn(h: Harness) -> None:
    """End the process under its handler: the attempt is charged, and a new process serves the next jobs."""
    queue = h.queue()
    queue.register("leaves", handlers.leave_at_once, executor="process", retries=1, backoff=Backoff.constant(0))
    queue.register("which", handlers.note_process, executor="process")
    queue.start_workers(1)
    path = h.folder / "processes"
    h.ended(queue.dispatch(Job("which", {"path": str(path)})), seconds=30)
    info = h.ended(queue.dispatch(Job("leaves")), seconds=30)
    assert (info.state, info.reason, info.attempt) == ("failed", "worker_lost", 2)
    h.ended(queue.dispatch(Job("which", {"path": str(path)})), seconds=30)
    assert len({*path.read_text().split(), str(os.getpid())}) == 3


@scenario("WRK-13", needs=("processes", "registry"), timing=True)
def scenario_wrk_13_registry_heartbeat_and_death(h: Harness) -> None:
    """Kill a worker: it is listed while it lived, and no more after three leases without a sign of life."""
    queue = h.queue()
    lease = 0.4
    worker = h.spawn_worker(lease=lease, concurrency=3)
    [seen] = queue.workers()
    assert (seen.pid, seen.concurrency) == (worker.pid, 3)
    time.sleep(3 * lease + 0.3)
    assert len(queue.workers()) == 1, "a live worker was struck off"
    worker.kill()
    begin = time.monotonic()
    wait_until(lambda: queue.workers() == [], "the dead worker to be struck off", seconds=3 * lease + 2)
    assert time.monotonic() - begin < 3 * lease + 1
