"""OWN: completing a job in the handler's own transaction, and every way in which that can end."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from queuekit import Backoff, Event, Job, JobContext, LeaseLost, Queue
from queuekit.contract import Dead, Done, Failure
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, logged, wait_until
from queuekit_integration.registry import scenario

NEEDS = ("transactional_settle", "browse")


def rows(connection: Any, table: str) -> list[int]:
    """Return what the application has committed."""
    connection.rollback()
    found = [number for (number,) in connection.execute(f"SELECT number FROM {table} ORDER BY number").fetchall()]
    connection.rollback()
    return found


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if event.job_id is not None]


def opened(h: Harness, **options: Any) -> Queue:
    """Return a queue that has made what it needs of the database: an application finds that there before its first job."""
    queue = h.queue(**options)
    queue.open()
    return queue


class Own:
    """A handler that writes its attempt's number and completes its job in one transaction; `end` decides how that ends."""

    leaves_open = False
    """Whether the scenario itself closes the connections."""

    def __init__(self, h: Harness, queue: Queue, table: str) -> None:
        self.ended = 0
        self._h = h
        self._table = table
        self.connections: list[Any] = []
        queue.register("own", self.run, settle="transaction", backoff=Backoff.constant(0.01))

    def run(self, ctx: JobContext) -> str:
        """Write, complete, end."""
        connection = self._h.database()
        self.connections.append(connection)
        connection.execute(f"INSERT INTO {self._table} VALUES ({ctx.attempt})")
        ctx.complete(f"attempt {ctx.attempt}", connection=connection)
        try:
            self.end(ctx, connection)
        finally:
            if not self.leaves_open:
                connection.close()
            self.ended += 1
        return "what a handler returns after it has completed its job itself is not kept"

    def end(self, ctx: JobContext, connection: Any) -> None:
        """Commit."""
        connection.commit()


@scenario("OWN-01", needs=NEEDS, timing=True)
def scenario_own_01_commit_completes(h: Harness) -> None:
    """Commit: the application's rows and the end of the job are there at once, and observers hear of one success."""
    events: list[Event] = []
    queue = opened(h, observers=[events.append])
    with h.application() as (connection, table):
        Own(h, queue, table)
        queue.start_workers(2)
        handle = queue.dispatch(Job("own"))
        assert handle.result(20) == "attempt 1"
        assert rows(connection, table) == [1]
        forgotten = queue.dispatch(Job("own", retain=0))
        wait_until(lambda: kinds(events).count("settled") == 2, "the worker to have learnt of both commits")
        assert queue.supports("count")
        assert queue.stats().in_flight == 0
        assert {event.attempt for event in events if event.kind == "started"} == {1}
        for id in (handle.id, forgotten.id):
            mine = kinds([event for event in events if event.job_id == id])
            assert "dispatched" in mine, "its dispatcher may say so after a worker has claimed it"
            mine.remove("dispatched")
            assert mine == ["claimed", "started", "finished", "completed", "settled"]


@scenario("OWN-02", needs=NEEDS, timing=True)
def scenario_own_02_rollback_runs_again(h: Harness) -> None:
    """Roll back by an error, then in silence: nothing of either attempt is there, each counts as failed, and the third commits."""
    queue = opened(h)
    with h.application() as (connection, table):

        class RollsBack(Own):
            def end(self, ctx: JobContext, connection: Any) -> None:
                if ctx.attempt < 3:
                    connection.rollback()
                if ctx.attempt == 1:
                    message = "the application's own trouble"
                    raise RuntimeError(message)
                super().end(ctx, connection)

        RollsBack(h, queue, table)
        queue.start_workers(1)
        info = queue.dispatch(Job("own")).wait(20)
        assert (info.state, info.attempt) == ("completed", 3)
        assert [error.kind for error in info.errors] == ["RuntimeError", "UncommittedError"]
        assert rows(connection, table) == [3], "rows of an attempt that was rolled back are there"


@scenario("OWN-03", suite="contract", needs=(*NEEDS, "fenced"))
def scenario_own_03_stale_transaction_fails(h: Harness) -> None:
    """Complete after another attempt took over: `LeaseLost`, and what its application commits all the same is not there."""
    driver: Any = h.driver()
    with h.application() as (connection, table):
        driver.send([h.message()])
        stale = h.claim_one(driver)
        h.advance(60)
        fresh = h.claim_one(driver)
        for outcome in (Done(stale), Done(stale, result="1"), Dead(stale, "error", Failure(1, 0.0, "error"))):
            connection.execute(f"INSERT INTO {table} VALUES (1)")
            with pytest.raises(LeaseLost):
                driver.settle_in(connection, [outcome])
            connection.commit()
        assert rows(connection, table) == [], "a stale attempt's transaction was committed"
        connection.execute(f"INSERT INTO {table} VALUES (2)")
        driver.settle_in(connection, [Done(fresh)])
        connection.commit()
        connection.execute(f"INSERT INTO {table} VALUES (3)")
        with pytest.raises(LeaseLost):
            driver.settle_in(connection, [Done(fresh)])
        connection.commit()
        assert rows(connection, table) == [2]
        [record] = driver.get([fresh.message.id])
        assert (record.state, record.attempt) == ("completed", 2)
        assert driver.settle([Done(fresh)]) == ["already_settled"]


@scenario("OWN-04", needs=NEEDS, timing=True)
def scenario_own_04_error_after_commit(h: Harness) -> None:
    """Fail after the commit: the job stays completed and is not run again; the error is in the worker's log."""
    queue = opened(h)
    with h.application() as (connection, table), logged("queuekit.worker") as lines:

        class Fails(Own):
            def end(self, ctx: JobContext, connection: Any) -> None:
                super().end(ctx, connection)
                message = "too late to matter"
                raise RuntimeError(message)

        own = Fails(h, queue, table)
        queue.start_workers(1)
        handle = queue.dispatch(Job("own"))
        wait_until(lambda: any("too late to matter" in line for line in lines), "the error to be logged")
        assert handle.wait(20).state == "completed"
        assert handle.info().errors == ()
        assert (own.ended, rows(connection, table)) == (1, [1])


def killed(h: Harness, die: str) -> tuple[list[int], int]:
    """Let a worker die by SIGKILL before or after its commit; return what the application has, and how often the job started."""
    queue = opened(h)
    with h.application() as (connection, table):
        worker = h.spawn_worker(lease=1.0)
        payload = {"database": list(h.database_at), "table": table, "die": die}
        [handle] = h.dispatch_recorded(queue, [Job("own", payload)])
        worker.end()
        h.fired("kill")
        other = h.spawn_worker(lease=1.0)
        assert handle.wait(30).state == "completed"
        [last] = h.dispatch_recorded(queue, [Job("note")])
        assert last.wait(20).state == "completed", "the second worker does not work"
        h.judge(queue, Plan(dispatches=2, redelivery=die == "before", faults=("kill",), workers=(other.pid,)))
        return rows(connection, table), len(h.starts(handle.id))


@scenario("OWN-05", needs=(*NEEDS, "processes", "count"), timing=True)
def scenario_own_05_killed_after_commit(h: Harness) -> None:
    """Kill -9 between the commit and the worker's own bookkeeping: the job is completed, and never starts again."""
    assert killed(h, "after") == ([1], 1)


@scenario("OWN-06", needs=(*NEEDS, "processes", "count"), timing=True)
def scenario_own_06_killed_before_commit(h: Harness) -> None:
    """Kill -9 between `ctx.complete` and the commit: nothing of it is there, and the job runs again."""
    assert killed(h, "before") == ([2], 2)


class LeavesOpen(Own):
    """Leaves the first attempt's transaction open."""

    leaves_open = True

    def end(self, ctx: JobContext, connection: Any) -> None:
        """Commit from the second attempt on."""
        if ctx.attempt > 1:
            super().end(ctx, connection)


@scenario("OWN-07", needs=(*NEEDS, "server", "count"), timing=True)
def scenario_own_07_open_transaction(h: Harness) -> None:
    """Return with the transaction still open: nobody else gets the job however long that lasts, others go on, and its end decides."""
    events: list[Event] = []
    queue = opened(h, observers=[events.append])
    with h.application() as (connection, table):
        own = LeavesOpen(h, queue, table)
        queue.register("quick", lambda: "done")
        worker = queue.worker(concurrency=2, lease=1.0).start()
        assert worker.ready(20)
        committed = queue.dispatch(Job("own"))
        wait_until(lambda: own.ended == 1, "the handler to return")
        other = queue.worker(concurrency=1, lease=1.0).start()
        hold = threading.Event()
        for _ in range(20):
            assert queue.dispatch(Job("quick")).result(20) == "done", "an open transaction holds others up"
            hold.wait(0.1)
        assert (own.ended, committed.state) == (1, "running"), "another worker took a job whose transaction is open"
        own.connections[0].commit()
        assert committed.wait(20).attempt == 1
        assert "lease_lost" not in kinds(events), "a job that nobody can take was told as lost"
        rolled_back = queue.dispatch(Job("own"))
        wait_until(lambda: own.ended == 2, "the second handler to return")
        own.connections[1].close()
        info = rolled_back.wait(20)
        assert (info.state, info.attempt) == ("completed", 2)
        assert rows(connection, table) == [1, 2]
        for used in own.connections:
            used.close()
        worker.stop(10)
        other.stop(10)


@scenario("OWN-09", needs=(*NEEDS, "server", "count"), timing=True)
def scenario_own_09_stop_beside_an_open_transaction(h: Harness) -> None:
    """Stop a worker whose handler left its transaction open: it ends in bounded time, and the job runs elsewhere after the rollback."""
    first, second = opened(h), opened(h)
    with h.application() as (connection, table):
        own, other = LeavesOpen(h, first, table), Own(h, second, table)
        worker = first.worker(concurrency=1, lease=1.0).start()
        assert worker.ready(20)
        handle = first.dispatch(Job("own"))
        wait_until(lambda: own.ended == 1, "the handler to return")
        begin = time.monotonic()
        worker.stop(0.2)
        assert time.monotonic() - begin < 5, "an open transaction kept the worker from stopping"
        wait_until(lambda: worker.ended, "the worker to have ended")
        with second.worker(concurrency=1, lease=1.0):
            own.connections[0].close()
            assert handle.wait(20).state == "completed"
        assert (other.ended, rows(connection, table)) == (1, [2])


@scenario("OWN-08", suite="contract", needs=(*NEEDS, "key", "unique", "concurrency"))
def scenario_own_08_what_it_frees(h: Harness) -> None:
    """Keys, limits and scopes are freed by the commit and not before; a rollback leaves the lease as it was."""
    driver: Any = h.driver()
    with h.application() as (connection, _):
        first, second = h.message(key="k"), h.message(key="k")
        driver.send([first, second])
        held = h.claim_one(driver)
        driver.settle_in(connection, [Done(held)])
        connection.rollback()
        assert driver.extend([held], lease=10)[0].held, "a rollback cost the lease"
        driver.settle_in(connection, [Done(held, follow_ups=(h.message(queue="next"),))])
        connection.commit()
        assert h.claim_one(driver).message.id == second.id
        h.claim_one(driver, queue="next")
