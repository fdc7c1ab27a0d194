"""FP: what befalls the sessions of a SQL server's clients: ended, cancelled, collided, locked out, pooled, failed over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import DriverRejected, DriverUnavailable, Event, Job, JobNotFound, Queue
from queuekit.contract import Done, Driver
from queuekit.drivers import connect
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario
from queuekit_integration.servers import CannotCauseError, ProcessServer, Server
from queuekit_integration.sessions import Sessions

NEEDS = ("sessions", "server", "count", "browse")


def sessions_of(h: Harness) -> Sessions:
    assert h.sessions is not None
    return h.sessions


def with_address(h: Harness, changed: Callable[[str], str]) -> Queue:
    """Return a queue of this cell whose driver of the SQL server, alone or as a store, has other options in its address."""
    store = h.store_url()
    if store is not None:
        return Queue(f"{h.url()}", store=changed(store), namespace=h.namespace)
    return Queue(changed(f"{h.url()}"), namespace=h.namespace)


def noted(number: int) -> Job:
    return Job("note", {"tag": str(number)})


@scenario("FP-01", needs=NEEDS, timing=True)
def scenario_fp_01_pg_terminate_backend(h: Harness) -> None:
    """End all sessions again and again, the listening one too: nothing is lost, and the idle worker hears of new jobs again."""
    queue = h.queue()
    worker = h.spawn_worker(lease=5.0)
    load = h.load(queue, 60, noted, pause=0.02)
    for _ in range(8):
        time.sleep(0.1)
        wait_until(sessions_of(h).end, "a session to hit")  # nothing but use brings one back
    h.fired("terminate")
    load.wait()
    h.wait_for_starts(60)
    time.sleep(1.5)  # the listening session is back by then
    quickest = 9.0
    for number in range(5):
        known, begin = len(h.starts()), time.monotonic()
        h.dispatch_recorded(queue, [noted(100 + number)])
        h.wait_for_starts(known + 1)
        quickest = min(quickest, time.monotonic() - begin)
    assert quickest < 0.5, f"the worker polls ({quickest:.2f} s): it does not listen any more"
    h.finish(Plan(dispatches=65, faults=("terminate",), workers=(worker.pid,)))


@scenario("FP-02", needs=NEEDS, timing=True)
def scenario_fp_02_pg_cancel_backend(h: Harness) -> None:
    """Cancel the worker's statements in mid-flight: no job fails by that, and none is run again."""
    queue = h.queue()
    worker = h.spawn_worker(lease=5.0)
    load = h.load(queue, 60, noted, pause=0.02)
    cancelled = 0
    for _ in range(4):
        time.sleep(0.1)
        with sessions_of(h).locked():
            wait_until(lambda: sessions_of(h).waiting, "a statement to wait", seconds=5)
            cancelled += sessions_of(h).cancel()
    assert cancelled >= 4, "no statement was cancelled"
    h.fired("cancel")
    ids = load.wait()
    h.finish(Plan(dispatches=60, faults=("cancel",), workers=(worker.pid,)))
    for id in ids:
        info = queue.get(id).info()
        assert (info.state, info.attempt, info.errors) == ("completed", 1, ())


@scenario("FP-03", suite="contract", needs=(*NEEDS, "unique", "exchange", "control"))
def scenario_fp_03_serialization_failure(h: Harness) -> None:
    """Let every seventh statement fail as unserializable: the driver repeats it, callers do not notice, attempts count as ever."""
    driver: Any = h.driver()
    with sessions_of(h).colliding(every=7):
        # A transaction of seven statements could never succeed: a pair takes six for the batch.
        messages = [h.message(key=f"k{i % 3}" if i % 4 > 1 else None) for i in range(12)]
        for message in messages[:8]:
            driver.send([message])
        driver.send(messages[8:])
        done = 0
        while done < len(messages):
            lent = driver.claim(["default"], limit=5, lease=10)
            assert lent, f"only {done} were lent"
            assert {delivery.attempt for delivery in lent} == {1}
            assert all(extension.held for extension in driver.extend(lent, lease=10))
            assert driver.settle([Done(delivery) for delivery in lent]) == ["applied"] * len(lent)
            done += len(lent)
        doomed = h.message()
        driver.send([doomed])
        assert driver.cancel([doomed.id]) == ["pending"]
    assert [(counts.completed, counts.cancelled) for counts in driver.count()] == [(12, 1)]


@scenario("FP-04", needs=NEEDS, timing=True)
def scenario_fp_04_deadlock(h: Harness) -> None:
    """Lock two jobs against the settlement of both: the server breaks the deadlock, the driver repeats, nothing is lost."""
    with sessions_of(h).setting(
        "deadlock_timeout", "3s"
    ):  # time to bring it about before the settlement's session looks
        driver: Any = with_address(h, lambda url: url.replace(f"timeout={h.silence}", "timeout=10")).driver
        driver.open()
        _break_deadlock(h, driver)
        driver.close()


def _break_deadlock(h: Harness, driver: Any) -> None:
    driver.send([h.message(), h.message()])
    lent = sorted(driver.claim(["default"], limit=2, lease=60), key=lambda delivery: delivery.message.id)
    ids = [delivery.message.id for delivery in lent]
    answers: list[Any] = []
    settling = threading.Thread(target=lambda: answers.extend(driver.settle([Done(d, result="1") for d in lent])))
    with sessions_of(h).lock_job(ids[1]) as transaction:
        settling.start()
        wait_until(lambda: sessions_of(h).waiting, "the settlement to have the first job, and to wait for the second")
        transaction.lock(ids[0])
    settling.join(20)
    assert answers == ["applied", "applied"]
    assert [(counts.running, counts.completed) for counts in driver.count()] == [(0, 2)]


@scenario("FP-05", needs=NEEDS, timing=True)
def scenario_fp_05_statement_and_lock_timeout(h: Harness) -> None:
    """Let locks and statements time out: a passing error for callers, and a worker that goes on as soon as it can."""
    ran: list[int] = []
    with sessions_of(h).setting("lock_timeout", "100ms"):
        hasty = h.queue()
        hasty.register("t", lambda payload: ran.append(payload))
        worker = hasty.worker(concurrency=2, lease=5.0).start()
        assert worker.ready(20)
        with sessions_of(h).locked():
            _refused_in_time(hasty, most=1.5)
        assert hasty.dispatch(Job("t", 1)).wait(20).attempt == 1
        with sessions_of(h).locked():
            time.sleep(0.5)
        assert hasty.dispatch(Job("t", 2)).wait(20).attempt == 1
        worker.stop(10)
    with sessions_of(h).locked():
        _refused_in_time(h.queue(), most=h.silence + 2)
    assert ran == [1, 2]


def _refused_in_time(queue: Queue, *, most: float) -> None:
    begin = time.monotonic()
    with pytest.raises(DriverUnavailable) as caught:
        queue.dispatch(Job("t", 0))
    assert caught.value.retryable
    assert time.monotonic() - begin < most


@scenario("FP-06", needs=NEEDS, timing=True)
def scenario_fp_06_idle_in_transaction_timeout(h: Harness) -> None:
    """Let the server end whoever idles in a transaction: no transaction of queuekit's is open while a handler runs."""
    events: list[Event] = []
    with sessions_of(h).setting("idle_in_transaction_session_timeout", "100ms"):
        queue = h.queue(observers=[events.append])
        seen: list[int] = []

        def look() -> None:
            for _ in range(5):
                seen.append(sessions_of(h).in_transaction)
                time.sleep(0.1)

        queue.register("look", look, concurrency=("c", 2), rate_limit="100/s")
        queue.start_workers(2)
        handles = [queue.dispatch(Job("look", key=key, unique_key=f"u{key}")) for key in ("a", "b")]
        assert [handle.wait(20).attempt for handle in handles] == [1, 1]
        queue.shutdown(10)
    assert "driver_unavailable" not in {event.kind for event in events}, "a session was ended"
    assert len(seen) == 10
    assert sum(seen) <= 2, f"transactions stand open while handlers run: {seen}"


@scenario("FP-07", needs=(*NEEDS, "processes", "unique_ids"), faults=("kill",), timing=True)
def scenario_fp_07_kill9_one_backend(h: Harness) -> None:
    """Kill -9 one of the server's processes: it ends every session and recovers, and so do all clients."""
    queue = h.queue()
    worker = h.spawn_worker(lease=5.0)
    load = h.load(queue, 80, noted, pause=0.02)
    h.wait_for_starts(20)
    sessions_of(h).crash_one()
    h.fired("crash")
    load.wait()
    assert load.errors, "no dispatch met the crash"
    h.finish(Plan(dispatches=80, faults=("crash",), workers=(worker.pid,)))


@scenario("FP-08", needs=(*NEEDS, "processes", "unique_ids"), faults=("kill",), timing=True)
def scenario_fp_08_immediate_shutdown_recovery(h: Harness) -> None:
    """Shut the server down at once, without a checkpoint: every dispatch that was answered runs after its recovery."""
    server = h.server
    if not isinstance(server, ProcessServer):
        raise CannotCauseError("only a server that runs as a process here can be told to shut down at once")
    queue = h.queue()
    load = h.load(queue, 100, noted, pause=0.002)
    wait_until(lambda: queue.stats().pending >= 30, "some jobs to be accepted")
    server.signal(signal.SIGQUIT)
    h.fired("immediate")
    wait_until(lambda: not server.running, "the server to be gone")
    server.heal()
    ids = load.wait()
    worker = h.spawn_worker(lease=5.0)
    h.finish(Plan(dispatches=100, faults=("immediate",), workers=(worker.pid,)))
    assert {start["job"] for start in h.starts()} >= set(ids)


@scenario("FP-09", suite="contract", needs=NEEDS, timing=True)
def scenario_fp_09_long_snapshot_bloat(h: Harness) -> None:
    """Work off many jobs beside a transaction that keeps vacuum from clearing anything: a claim stays bounded."""
    driver = h.driver(virtual=False)
    before = _claim_seconds(h, driver)
    with sessions_of(h).snapshot():
        for _ in range(6):
            driver.send([h.message() for _ in range(1000)])
            lent = driver.claim(["default"], limit=1000, lease=60)
            assert driver.settle([Done(delivery) for delivery in lent]) == ["applied"] * 1000
        after = _claim_seconds(h, driver)
    assert after < before * 20 + 0.1, f"a claim took {before:.4f} s, and {after:.4f} s after 6,000 jobs"


def _claim_seconds(h: Harness, driver: Driver) -> float:
    """Return how long it takes to lend one job, the best of five."""
    took = []
    for _ in range(5):
        driver.send([h.message()])
        begin = time.monotonic()
        lent = h.claim_one(driver)
        took.append(time.monotonic() - begin)
        driver.settle([Done(lent)])
    return min(took)


@scenario("FP-11", needs=(*NEEDS, "unique", "key", "delay", "unique_ids"), timing=True)
def scenario_fp_11_pgbouncer_transaction_mode(h: Harness) -> None:
    """Work through a pooler that gives a session to each transaction, two for all: order, scopes, delays and results hold."""
    with sessions_of(h).pooled() as address:
        queue = Queue(connect(address, namespace=h.namespace, clock=None), namespace=h.namespace)
        order: list[int] = []
        queue.register("keyed", lambda payload: order.append(payload))
        queue.register("t", lambda payload=0: payload)
        worker = h.work(queue, concurrency=8, lease=5.0)
        jobs = [Job("t", number, delay=0.2 if number % 10 == 0 else None) for number in range(100)]
        jobs += [Job("keyed", number, key="k") for number in range(20)]
        handles = h.dispatch_recorded(queue, jobs)
        unique = [queue.dispatch(Job("t", unique_for=60, delay=60)) for _ in range(3)]
        assert [handle.created for handle in unique] == [True, False, False]
        for handle in handles:
            assert handle.wait(30).state == "completed"
        assert [handle.info().result for handle in handles[:3]] == [0, 1, 2]
        assert order == list(range(20))
        worker.stop(20)
        h.judge(queue, Plan(dispatches=120))
        queue.close()


@scenario("FP-12", needs=(*NEEDS, "processes", "unique_ids"), timing=True)
def scenario_fp_12_table_locked_by_migration(h: Harness) -> None:
    """Lock the jobs' table as a migration does, for longer than verbs wait: all of it is done afterwards, by the same worker."""
    queue = h.queue()
    worker = h.spawn_worker(lease=5.0)
    load = h.load(queue, 40, noted, pause=0.02)
    h.wait_for_starts(10)
    with sessions_of(h).locked():
        h.fired("lock")
        time.sleep(h.silence + 1)
    load.wait()
    h.finish(Plan(dispatches=40, faults=("lock",), workers=(worker.pid,)))


@scenario("FP-13", needs=(*NEEDS, "processes"), timing=True)
def scenario_fp_13_listen_queue_lost(h: Harness) -> None:
    """Send without a notification, as if it were lost: an idle worker that listens finds the job at its next look."""
    worker = h.spawn_worker(lease=5.0)
    silent = with_address(h, lambda url: f"{url}&listen=false")
    time.sleep(0.5)  # the worker waits by now
    begin = time.monotonic()
    h.dispatch_recorded(silent, [noted(1)])
    h.wait_for_starts(1)
    took = time.monotonic() - begin
    assert took < 3.0, f"a job without its notification was found after {took:.1f} s"
    silent.close()
    h.finish(Plan(dispatches=1, workers=(worker.pid,)))


def primary_of(h: Harness) -> Server:
    h.folder.chmod(0o755)  # a server that refuses to be root has to reach its data
    folder = h.folder / "primary"
    folder.mkdir()
    return h.private_server(folder=folder)


def standby_of(h: Harness, primary: Server, *, port: int) -> Server:
    folder = h.folder / "standby"
    folder.mkdir()
    return sessions_of(h).standby(primary, port=port, folder=folder)


def queue_at(h: Harness, server: Server, *, port: int | None = None) -> Queue:
    address = sessions_of(h).url(server, port=port)
    return Queue(connect(address, namespace=h.namespace, clock=None), namespace=h.namespace)


@scenario("FP-10", needs=NEEDS, timing=True)
def scenario_fp_10_replica_reads(h: Harness) -> None:
    """Open a queue on a standby, and with a role that may not write: a sentence says why not.

    Of several hosts the one that takes writes is found. Promoted, the standby opens.
    """
    primary = primary_of(h)
    with queue_at(h, primary) as queue:
        queue.dispatch(Job("t", 1))
    standby = standby_of(h, primary, port=primary.port)
    wait_until(lambda: sessions_of(h).caught_up(primary, standby), "the standby to have it all")
    with queue_at(h, standby) as queue, pytest.raises(DriverUnavailable, match="standby"):
        queue.open()
    both = sessions_of(h).url(standby).replace(f":{standby.port}", f":{standby.port},127.0.0.1:{primary.port}")
    with Queue(connect(both, namespace=h.namespace, clock=None), namespace=h.namespace) as queue:
        assert queue.dispatch(Job("t", 2)).info().state == "pending"
    read_only = sessions_of(h).setting("default_transaction_read_only", "on")
    with read_only, h.queue() as queue, pytest.raises(DriverRejected, match="read-only"):
        queue.open()
    wait_until(lambda: sessions_of(h).caught_up(primary, standby), "the standby to have the second job")
    sessions_of(h).promote(standby)
    with queue_at(h, standby) as queue:
        assert queue.stats().pending == 2


@scenario("FP-14", needs=(*NEEDS, "processes"), faults=("kill",), timing=True)
def scenario_fp_14_failover_to_lagging_standby(h: Harness) -> None:
    """Lose the primary while its standby lags: what had reached the standby runs once, what had not is gone, and is said to be.

    Nobody can tell at the time that an answered dispatch will be lost; afterwards its handle raises `JobNotFound`.
    """
    primary = primary_of(h)
    link, entrance = h.proxy(primary), h.proxy(primary)
    standby = standby_of(h, primary, port=link.port)
    queue = queue_at(h, primary, port=entrance.port)
    arrived = queue.dispatch_many([Job("t", number) for number in range(20)])
    wait_until(lambda: sessions_of(h).caught_up(primary, standby), "the standby to have it all")
    link.hold()
    late = queue.dispatch_many([Job("t", 100 + number) for number in range(10)])
    assert not sessions_of(h).caught_up(primary, standby)
    primary.kill()
    entrance.move("127.0.0.1", standby.port)
    entrance.reset_all()
    with pytest.raises(DriverUnavailable) as caught:
        queue.dispatch(Job("t", 50))
    assert caught.value.retryable
    ran: list[int] = []
    waiting = queue_at(h, primary, port=entrance.port)
    waiting.register("t", lambda payload: ran.append(payload))
    worker = waiting.worker(concurrency=2, lease=2.0).start()
    assert not worker.ready(1.0), "it claims from a server that takes no writes"
    assert not worker.ended, "it gave up on a standby, which may be promoted at any time"
    sessions_of(h).promote(standby)
    for handle in arrived:
        assert handle.wait(20).attempt == 1
    assert queue.dispatch(Job("t", 200)).wait(20).state == "completed"
    assert sorted(ran) == [*range(20), 200], "what had reached the standby was lost or doubled"
    for handle in late:
        with pytest.raises(JobNotFound):
            handle.info()
    worker.stop(10)
    waiting.close()
    queue.close()
