"""FR: what befalls a server whose data are keys: dropped, evicted, spoilt, full, busy, failed over."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from queuekit import BackendFull, DriverRejected, DriverUnavailable, Event, Job, JobContext, JobNotFound
from queuekit.contract import Again, Concurrency, Done, Driver, Failure, Message, Progress, Query, Rate, Unique
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.keyspace import Keyspace
from queuekit_integration.registry import scenario
from queuekit_integration.servers import Server

NEEDS = ("keyspace", "count", "fenced")


def keyspace_of(h: Harness) -> Keyspace:
    assert h.keyspace is not None
    return h.keyspace


@scenario("FR-01", needs=NEEDS, timing=True)
def scenario_fr_01_redis_flushall(h: Harness) -> None:
    """Drop all data while a handler runs: it is told, its settlement is reported as lost, and the worker goes on with new jobs."""
    events: list[Event] = []
    queue = h.queue(observers=[events.append])
    inside, leave = threading.Event(), threading.Event()
    tokens: list[int] = []
    lost: list[bool] = []

    @queue.job(name="slow")
    def slow(ctx: JobContext) -> None:
        tokens.append(int(ctx.fence))
        inside.set()
        assert leave.wait(20)
        wait_until(lambda: ctx.lost, "the handler to be told that its lease is gone")
        lost.append(ctx.lost)

    queue.register("quick", lambda: "done")
    worker = queue.worker(concurrency=2, lease=1.0).start()
    assert worker.ready(20)
    slow.dispatch()
    assert inside.wait(20)
    keyspace_of(h).flush()
    assert queue.dispatch(Job("quick")).result(20) == "done", "the worker did not go on after the data were gone"
    leave.set()
    wait_until(lambda: lost, "the handler to end")
    wait_until(lambda: any(e.kind in {"settle_lost", "lease_lost"} for e in events), "the loss to be reported")
    keyspace_of(h).flush()
    driver = h.driver(virtual=False)
    driver.send([h.message(queue="other")])
    assert int(h.claim_one(driver, queue="other").token) > tokens[0], "a token was used twice after the data were gone"
    worker.stop(10)


@scenario("FR-02", needs=(*NEEDS, "unique_ids"), timing=True)
def scenario_fr_02_redis_script_flush(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda: None)
    worker = h.work(queue, lease=5.0)
    load = h.load(queue, 200, lambda _: Job("t"), pause=0.002)
    for _ in range(20):
        keyspace_of(h).forget_scripts()
        time.sleep(0.02)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:  # faster than a script can be loaded and then called
        keyspace_of(h).forget_scripts()
    h.fired("script flush")
    load.wait()
    assert not load.errors, f"a forgotten script reached a caller: {load.errors}"
    h.finish(Plan(dispatches=200, faults=("script flush",)))
    worker.stop(10)


@scenario("FR-03", suite="contract", needs=(*NEEDS, "exchange", "lease"))
def scenario_fr_03_redis_maxmemory_noeviction(h: Harness) -> None:
    """Fill the server: new jobs are refused whole, with a passing error; what is there can be renewed, settled and lent."""
    driver: Any = h.driver()
    driver.send([h.message(f"{number}") for number in range(10)])
    held = driver.claim(["default"], limit=4, lease=10)
    before = driver.count()
    with keyspace_of(h).full():
        for messages in ([h.message()], [h.message() for _ in range(600)], [h.message(key="k", tags=("a",))]):
            with pytest.raises(BackendFull) as caught:
                driver.send(messages)
            assert caught.value.retryable
        assert driver.count() == before, "a refused batch was stored in part"
        assert all(extension.held for extension in driver.extend(held, lease=10))
        assert driver.settle([Done(held[0])]) == ["applied"]
        settled, more = driver.exchange([Done(d, result="1") for d in held[1:]], ["default"], limit=10, lease=10)
        assert settled == ["applied"] * 3
        assert len(more) == 6, "a full server cannot be drained"
        assert driver.settle([Done(d) for d in more]) == ["applied"] * 6
    driver.send([h.message()])
    assert len(driver.claim(["default"], limit=5, lease=10)) == 1


@scenario("FR-04", suite="contract", needs=(*NEEDS, "browse", "purge"))
def scenario_fr_04_redis_maxmemory_evicting(h: Harness) -> None:
    """Remove key after key, as a server that evicts does: jobs are lost, and nothing crashes or stays stuck."""
    driver: Any = h.driver()
    _use_everything(h, driver)
    names = list(keyspace_of(h).keys)
    assert len(names) > 10, f"too few keys to speak of: {names}"
    for name in names:
        _use_everything(h, driver)
        keyspace_of(h).drop(name)
        _use_everything(h, driver)
        h.advance(100)
        driver.claim(["default", "other"], limit=100, lease=10)
    with keyspace_of(h).evicting():
        pass
    _use_everything(h, driver)
    keyspace_of(h).flush()


def _use_everything(h: Harness, driver: Any) -> None:
    """Take every verb once; what was sent last is lent, whatever is missing of the older ones."""
    driver.send([h.message(delay=5), h.message(key="k"), h.message(concurrency=Concurrency("c", 1))])
    driver.send([h.message(rate=Rate("r", 1, 60)), h.message(priority=9), h.message(queue="other")])
    driver.send_unique([h.message(unique=Unique("s"))])
    newest = h.message("newest", priority=9)
    driver.send([newest])
    found = driver.claim(["default", "other"], limit=200, lease=10)
    assert newest.id in {delivery.message.id for delivery in found}, "a job that was just sent is not lent"
    driver.extend(found, lease=10)
    driver.report([Progress(found[0], 50)])
    error = Failure(1, 0.0, "error")
    outcomes = [Done(d, result="1") if i % 3 else Again(d, 1.0, error) for i, d in enumerate(found)]
    assert set(driver.settle(outcomes)) <= {"applied", "lost"}
    driver.cancel([found[0].message.id])
    driver.retry([found[0].message.id])
    driver.count()
    driver.browse(Query(limit=20))
    driver.get([delivery.message.id for delivery in found])
    driver.purge("other")
    driver.prune(older_than=0.0)


@scenario("FR-05", needs=(*NEEDS, "server", "processes"), faults=("kill",), timing=True)
def scenario_fr_05_redis_failover_async(h: Harness) -> None:
    """Lose the primary, promote its replica: clients find it behind the same address, and what had arrived there is all there."""
    folders = [h.folder / "primary", h.folder / "replica"]
    for folder in folders:
        folder.mkdir()
    primary, replica = (h.private_server(folder=folder) for folder in folders)
    _command(replica, "REPLICAOF", "127.0.0.1", str(primary.port))
    wait_until(lambda: b"master_link_status:up" in _command(replica, "INFO", "replication"), "the replica to follow")
    proxy = h.proxy(primary)
    queue = h.queue(through=proxy)
    queue.register("t", lambda payload: ran.append(payload))
    ran: list[int] = []
    queue.dispatch_many([Job("t", number) for number in range(50)])
    wait_until(lambda: _offset(primary) == _offset(replica), "the replica to have it all")
    proxy.move("127.0.0.1", replica.port)
    proxy.reset_all()
    with pytest.raises(DriverUnavailable) as caught:
        queue.dispatch(Job("t", 50))
    assert caught.value.retryable
    assert "replica" in str(caught.value), "a replica that takes no writes is not told from a server that is away"
    primary.kill()
    worker = queue.worker(concurrency=2, lease=2.0).start()
    time.sleep(0.3)  # the worker meets a replica, and goes on trying
    _command(replica, "REPLICAOF", "NO", "ONE")
    wait_until(lambda: len(ran) == 50, "the promoted replica's jobs to run")
    assert sorted(ran) == list(range(50)), "what had reached the replica was lost or doubled"
    assert queue.dispatch(Job("t", 51)).wait(20).state == "completed"
    worker.stop(10)


@scenario("FR-05-LAG", needs=(*NEEDS, "server", "processes", "browse"), faults=("kill",), timing=True)
def scenario_fr_05_failover_to_lagging_replica(h: Harness) -> None:
    """Lose the primary while its replica lags: what had arrived there runs once, what had not is gone, and is said to be."""
    folders = [h.folder / "primary", h.folder / "replica"]
    for folder in folders:
        folder.mkdir()
    primary, replica = (h.private_server(folder=folder) for folder in folders)
    link, entrance = h.proxy(primary), h.proxy(primary)
    _command(replica, "REPLICAOF", "127.0.0.1", str(link.port))
    wait_until(lambda: b"master_link_status:up" in _command(replica, "INFO", "replication"), "the replica to follow")
    queue = h.queue(through=entrance)
    arrived = queue.dispatch_many([Job("t", number) for number in range(20)])
    wait_until(lambda: _offset(primary) == _offset(replica), "the replica to have it all")
    link.hold()
    late = queue.dispatch_many([Job("t", 100 + number) for number in range(10)])
    primary.kill()
    entrance.move("127.0.0.1", replica.port)
    entrance.reset_all()
    _command(replica, "REPLICAOF", "NO", "ONE")
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    worker = queue.worker(concurrency=2, lease=2.0).start()
    for handle in arrived:
        assert handle.wait(20).attempt == 1
    assert queue.dispatch(Job("t", 200)).wait(20).state == "completed"
    assert sorted(ran) == [*range(20), 200], "what had reached the replica was lost or doubled"
    for handle in late:
        with pytest.raises(JobNotFound):
            handle.info()
    worker.stop(10)


def _offset(server: Server) -> bytes:
    """Return how far a server's log goes."""
    lines = _command(server, "INFO", "replication").split(b"\r\n")
    return next(line for line in lines if line.startswith(b"master_repl_offset"))


def _command(server: Server, *words: str) -> bytes:
    """Speak to a server past every client."""
    import socket  # noqa: PLC0415 - only here

    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        parts = (f"${len(word)}\r\n{word}\r\n" for word in words)
        connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return connection.recv(65536)


@scenario("FR-06", needs=(*NEEDS, "processes", "unique_ids"), timing=True)
def scenario_fr_06_redis_client_kill(h: Harness) -> None:
    """Kill every connection again and again, the waiting one too: the worker hears of new jobs again, and soon."""
    queue = h.queue()
    h.spawn_worker(lease=5.0)
    load = h.load(queue, 60, lambda number: Job("note", {"tag": str(number)}), pause=0.02)
    for _ in range(8):
        time.sleep(0.1)
        assert keyspace_of(h).cut_clients() > 0, "no connection was hit"
    h.fired("client kill")
    load.wait()
    keyspace_of(h).hold_clients(0.5)
    time.sleep(2.0)  # the waiting connection is back by then
    begin = time.monotonic()
    known = len(h.starts())
    h.dispatch_recorded(queue, [Job("note", {"tag": "last"})])
    h.wait_for_starts(known + 1)
    assert time.monotonic() - begin < 0.9, "the worker polls: its waiting connection did not come back"
    h.finish(Plan(dispatches=61, faults=("client kill",)))


@scenario("FR-07", needs=NEEDS, timing=True)
def scenario_fr_07_redis_busy_script(h: Harness) -> None:
    """Keep the server busy: calls end by a passing error, connections do not pile up, and work goes on afterwards."""
    queue = h.queue()
    queue.register("t", lambda: "done")
    worker = queue.worker(concurrency=4, lease=5.0).start()
    assert worker.ready(20)
    assert queue.dispatch(Job("t")).result(20) == "done"
    before = keyspace_of(h).clients
    with keyspace_of(h).busy():
        for _ in range(10):
            with pytest.raises(DriverUnavailable) as caught:
                queue.dispatch(Job("t"))
            assert caught.value.retryable
    assert keyspace_of(h).clients <= before + 3, "connections piled up"
    assert queue.dispatch(Job("t")).result(20) == "done"
    worker.stop(10)


@scenario("FR-08", needs=(*NEEDS, "server", "browse"), faults=("kill",), timing=True)
def scenario_fr_08_redis_aof_everysec_crash(h: Harness) -> None:
    """Kill -9 right after an answer, with a log that is synced at every write: none is lost. With `everysec` only a slow disk loses one."""
    queue = h.queue()
    assert h.server is not None
    ids = [handle.id for handle in queue.dispatch_many([Job("t", number) for number in range(2000)])]
    ids += [queue.dispatch(Job("t", number)).id for number in range(100)]
    h.server.kill()
    h.server.start()
    driver: Any = h.driver(virtual=False)
    missing = sum(record is None for record in driver.get(ids))
    assert missing == 0, f"{missing} accepted jobs did not survive the server's process"


@scenario("FR-10", suite="contract", needs=NEEDS)
def scenario_fr_10_redis_wrong_type_key(h: Harness) -> None:
    """Spoil one key: a clear, lasting error that says what to do; other namespaces work, and this one does afterwards."""
    driver = h.driver()
    with keyspace_of(h).spoil("jobs"):
        with pytest.raises(DriverRejected, match="another type") as caught:
            driver.send([h.message()])
        assert not caught.value.retryable
        with h.elsewhere():
            _works(h, h.driver())
    keyspace_of(h).flush()
    _works(h, driver)


def _works(h: Harness, driver: Driver) -> None:
    message: Message = h.message()
    driver.send([message])
    assert h.claim_one(driver).message.id == message.id


@scenario("UNQ-12", suite="contract", needs=(*NEEDS, "unique"))
def scenario_unq_12_evicted_lock_key(h: Harness) -> None:
    """Evict the scopes: a second job gets in, which cannot be prevented; neither its end nor the first one's leaves a scope held."""
    driver: Any = h.driver()
    unique = Unique("scope")
    first, second, third = (h.message(unique=unique) for _ in range(3))
    [receipt] = driver.send_unique([first])
    assert receipt.created
    keyspace_of(h).drop("uniques")
    [receipt] = driver.send_unique([second])
    assert receipt.created, "the evicted scope still blocks"
    deliveries = driver.claim(["default"], limit=2, lease=10)
    assert driver.settle([Done(delivery) for delivery in deliveries]) == ["applied", "applied"]
    [receipt] = driver.send_unique([third])
    assert receipt.created, "a scope stayed held by jobs that have ended"
