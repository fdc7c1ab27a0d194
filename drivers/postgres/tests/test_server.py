"""A server that refuses the user, is too old, or has fewer connections than there are threads (CFG-06, CFG-08, LIM-11)."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import psycopg
import pytest

from queuekit import ConfigurationError, DriverRejected, DriverUnavailable, Job, PoolTimeout, Queue
from queuekit.contract import AmbiguousSend, Done, Message, Query, SystemClock
from queuekit.ids import new_id
from queuekit_integration.faults import interrupted_at_every_step
from queuekit_integration.harness import wait_until
from queuekit_postgres import schema
from queuekit_postgres.connections import TRUSTED, Connections, pipelined
from queuekit_postgres.driver import FRESH
from queuekit_postgres.errors import TimedOut


def message(**fields):
    return Message(new_id(), "default", "t", "{}", **fields)


@pytest.fixture
def guarded(postgres):
    """Return the address of a user whom the server asks for a password."""
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text("utf-8")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}", "utf-8")
        connection.execute("SELECT pg_reload_conf()")
        address = postgres.url().replace("queuekit@", "guarded:wrong@")
        wait_until(lambda: refuses(address), "the server to ask for the password")
        yield address
        rules.write_text(before, "utf-8")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE guarded")


def refuses(address):
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return True
    return False


def test_wrong_credentials_end_a_worker_and_are_not_tried_for_ever(guarded):
    queue = Queue(guarded)
    worker = queue.worker(concurrency=1).start()
    wait_until(lambda: worker.ended, "the worker to give up")
    with pytest.raises(DriverRejected, match="password is wrong") as caught:
        queue.open()
    assert "wrong@" not in f"{caught.value} {caught.value.__cause__}"
    assert not caught.value.retryable
    queue.close()


def test_a_user_or_database_that_is_not_there_is_told_from_a_server_that_is_away(postgres, make):
    for address in (
        postgres.url().replace("queuekit@", "nobody_made_it@"),
        postgres.url().replace("/postgres", "/nowhere"),
    ):
        with pytest.raises(DriverRejected, match="does not exist"):
            make(address).open()


@pytest.mark.parametrize(("version", "too_old"), [(120017, True), (130000, False), (170002, False)])
def test_an_old_server_is_told_so(postgres, version, too_old):
    with psycopg.connect(postgres.url()) as connection:
        pretended = SimpleNamespace(info=SimpleNamespace(server_version=version), execute=connection.execute)
        if not too_old:
            schema.check_server(pretended)
            return
        with pytest.raises(DriverRejected, match=f"PostgreSQL {version // 10000}, and queuekit needs 13 or newer"):
            schema.check_server(pretended)


def test_more_threads_than_connections_wait_for_one_another(make):
    driver = make(connections=2)
    driver.open()
    threads = [threading.Thread(target=driver.send, args=([message()],)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driver.count()[0].pending == 20
    assert driver.limits.connections == 2


def test_handlers_that_dispatch_share_few_connections_without_a_deadlock(make, namespace):
    queue = Queue(make(connections=2), namespace=namespace)
    queue.register("parent", lambda payload: queue.dispatch(Job("child", payload)).id)
    queue.register("child", lambda payload: payload)
    queue.start_workers(20)
    queue.dispatch_many(Job("parent", number) for number in range(40))
    wait_until(lambda: sum(counts.completed for counts in queue.stats().queues) == 80, "all to be done")
    queue.close()


def test_connections_that_stay_in_use_are_a_passing_error(make):
    driver = make(connections=2, timeout=2)
    driver.open()
    with driver._connections.lend(), driver._connections.lend():
        with pytest.raises(PoolTimeout, match="all 2 connections were in use") as caught:
            driver.send([message()])
        assert caught.value.retryable
    driver.send([message()])
    assert driver.count()[0].pending == 1


# A connection whose user was interrupted before it could be put back ends with the last reference to it, which psycopg warns of.
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_interruption_at_any_step_loses_a_place(make):
    """Ctrl-C, or the timeout of the handler that dispatches, at each step of taking a connection and giving it back."""
    driver = make(connections=2, timeout=1)
    driver.open()
    first = message()
    driver.send([first])
    files = ["queuekit_postgres/connections.py", "queuekit/places.py"]
    for call in (lambda: driver.send([message()]), lambda: driver.get([first.id])):
        for _ in interrupted_at_every_step(call, files):
            [record] = driver.get([first.id])
            assert record.id == first.id


@pytest.mark.parametrize("before", range(4))
def test_a_cancelled_round_trip_leaves_no_connection_that_lacks_its_statements(postgres, make, before):
    """psycopg prepares a statement at its third use; one that the server skipped after an error was never prepared."""
    driver = make()
    driver.open()
    driver.send([message() for _ in range(20)])
    held = driver.claim(["default"], limit=1, lease=30)
    for _ in range(before):
        _, held = driver.exchange([Done(held[0])], ["default"], limit=1, lease=30)
    with psycopg.connect(postgres.url()) as other:
        other.execute("LOCK TABLE queuekit.jobs IN ACCESS EXCLUSIVE MODE")
        canceller = threading.Thread(target=cancel_what_waits, args=(postgres,))
        canceller.start()
        with pytest.raises(DriverUnavailable):
            driver.exchange([Done(held[0])], ["default"], limit=1, lease=30)
        canceller.join()
    for _ in range(3):
        settled, held = driver.exchange([Done(held[0])], ["default"], limit=1, lease=30)
        assert settled == ["applied"]


def cancel_what_waits(postgres):
    text = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        wait_until(lambda: connection.execute(text).fetchone() != (0,), "a statement to wait")


def test_a_request_that_the_server_is_slow_to_read_does_not_bring_back_a_job_that_has_ended(postgres, make):
    """Its id was made for it, so it does not look; but only while its sender waits, and the sender does (FLT-12-ENDED)."""
    slow, other, new = make(), make(), message()
    slow.open()
    other.open()
    slow.send_fresh(message())  # it now knows the server's time
    with slow._connections.lend() as connection:
        pid, handle = connection.info.backend_pid, socket.socket(fileno=os.dup(connection.fileno()))
    os.kill(pid, signal.SIGSTOP)
    try:
        threading.Timer(0.02, handle.shutdown, (socket.SHUT_RD,)).start()
        begin = time.monotonic()
        with pytest.raises(AmbiguousSend):
            slow.send_fresh(new)
        assert time.monotonic() - begin >= FRESH, "somebody may send it again while the first request need not look"
        other.send([new])
        assert other.settle([Done(d) for d in other.claim(["default"], limit=9, lease=30)]) == ["applied"] * 2
    finally:
        os.kill(pid, signal.SIGCONT)
        handle.close()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: connection.execute(gone, [pid]).fetchone() == (0,), "the slow session to end")
    assert [(c.pending, c.completed) for c in other.count()] == [(0, 2)]


def test_a_fresh_id_is_looked_for_where_the_servers_time_is_not_known(make):
    driver, first = make(), message()
    driver.open()
    driver.send([first])
    assert driver.settle([Done(d) for d in driver.claim(["default"], limit=1, lease=30)]) == ["applied"]
    with driver._connections.lend() as connection:
        connection.told = (connection.told[0], connection.told[1] - 2 * TRUSTED)
    driver.send_fresh(first)
    assert [(c.pending, c.completed) for c in driver.count()] == [(0, 1)]


class CountingClock(SystemClock):
    """Counts how often somebody begins to wait."""

    waits = 0

    def wait(self, *arguments, **options):
        self.waits += 1
        return super().wait(*arguments, **options)


@pytest.mark.parametrize("locked", [False, True])
def test_a_claim_sleeps_beside_a_lease_that_ran_out_and_is_not_to_be_had(make, postgres, namespace, locked):
    clock = CountingClock()
    driver = make(clock=clock, listen=False)
    driver.open()
    driver.send([message()])
    [delivery] = driver.claim(["default"], limit=1, lease=0.05)
    time.sleep(0.1)
    with psycopg.connect(postgres.url()) as connection:
        if locked:  # as the transaction of a handler does that has completed its job
            connection.execute("SELECT 1 FROM queuekit.jobs WHERE id = %s FOR UPDATE", (delivery.message.id,))
        assert driver.claim(["default"], limit=1, lease=1, recover=locked, wait=0.5) == []
        assert clock.waits <= 15


def test_a_pipeline_whose_time_is_over_says_so(postgres):
    """psycopg would say that it cannot leave its pipeline mode."""
    connections = Connections(postgres.url(), most=2, timeout=5.0, where="here", secret=None)
    with connections.lend() as connection:
        connection.end = time.monotonic() + 0.3
        with pytest.raises(TimedOut, match="time limit"), pipelined(connection):
            connection.execute("SELECT pg_sleep(2)")
    assert connection.closed


def test_a_foreign_cursor_is_refused(make):
    driver = make()
    driver.open()
    with pytest.raises(ConfigurationError, match=r"after='garbage'"):
        driver.browse(Query(after="garbage"))
