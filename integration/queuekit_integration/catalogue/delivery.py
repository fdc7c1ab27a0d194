"""DEL: delivery and acknowledgement."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from queuekit import Backoff, BadPayload, ConfigurationError, Job, JobContext
from queuekit.contract import Again, Done, Query, Released
from queuekit.ids import new_id
from queuekit.worker.inline import run_due
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


@scenario("DEL-01", needs=("count",))
def scenario_del_01_dispatch_then_run_once(h: Harness) -> None:
    seen: list[tuple[Any, ...]] = []
    queue = h.queue()

    @queue.job(name="greet")
    def greet(ctx: JobContext, name: str, times: int = 1) -> str:
        seen.append((ctx.id, ctx.type, ctx.queue, ctx.attempt, name, times))
        return f"hello {name}"

    handle = greet.dispatch("Ada", times=2)
    queue.start_workers(1)
    h.returned(handle, "hello Ada")
    assert seen == [(handle.id, "greet", "default", 1, "Ada", 2)]
    standing = h.standing(handle)
    assert (standing.state, standing.attempt) == ("completed", 1)
    if h.lookup:
        assert handle.info().payload == {"name": "Ada", "times": 2}
    counts = queue.stats()
    assert (counts.pending, counts.in_flight) == (0, 0)


@scenario("DEL-02", needs=("count",))
def scenario_del_02_dispatched_before_worker_exists(h: Harness) -> None:
    seen: set[int] = set()
    queue = h.queue()

    @queue.job(name="n")
    def number(i: int) -> None:
        seen.add(i)

    queue.dispatch_many(number.job(i) for i in range(50))
    assert not seen
    queue.start_workers(4)
    queue.drain(20)
    assert seen == set(range(50))


@scenario("DEL-03", needs=("processes", "count"), timing=True)
def scenario_del_03_two_workers_split_work(h: Harness) -> None:
    queue = h.queue()
    workers = [h.spawn_worker(concurrency=1) for _ in range(2)]
    handles = h.dispatch_recorded(queue, [Job("slow", {"seconds": 0.02})] * 100)
    queue.drain(30)
    starts = h.starts()
    assert sorted(s["job"] for s in starts) == sorted(handle.id for handle in handles)
    assert len({s["worker"] for s in starts}) == 2, "one of the two workers ran nothing"
    h.judge(queue, Plan(dispatches=100, workers=tuple(worker.pid for worker in workers)))


@scenario("DEL-04", needs=("count",))
def scenario_del_04_queue_isolation(h: Harness) -> None:
    seen: list[str] = []
    queue = h.queue()
    queue.register("t", lambda payload: seen.append(payload))
    queue.dispatch(Job("t", "one", queue="q1"))
    queue.dispatch(Job("t", "two", queue="q2"))
    with queue.worker(concurrency=2, queues=["q1"]):
        wait_until(lambda: seen == ["one"], "the job of q1 to run")
        assert seen == ["one"]
    with queue.worker(concurrency=2, queues=["q2"]):
        wait_until(lambda: seen == ["one", "two"], "the job of q2 to run once a worker serves it")


@scenario("DEL-05", needs=("processes", "count"))
def scenario_del_05_namespace_isolation(h: Harness) -> None:
    """Use two namespaces of one backend: jobs, ids, counts and, where there are any, unique scopes, limits and pauses of one are nothing to the other."""
    here = h.queue(virtual=True)
    with h.elsewhere():
        there = h.queue(virtual=True)
    ran: list[str] = []
    here.register("t", lambda: ran.append("here"))
    there.register("t", lambda: ran.append("there"))
    options: dict[str, Any] = {"id": new_id()}
    if here.supports("unique"):
        options["unique_key"] = "k"
    if here.supports("concurrency"):
        options["concurrency"] = ("c", 1)
    for queue in (here, there):
        assert queue.dispatch(Job("t", **options)).created
    assert (here.stats().pending, there.stats().pending) == (1, 1)
    if here.supports("pause"):
        here.pause("default")
        run_due(here)
    run_due(there)
    assert ran == ["there"]
    if here.supports("pause"):
        here.resume("default")
    run_due(here)
    assert ran == ["there", "here"]


@scenario("DEL-06", needs=("count",))
def scenario_del_06_ack_after_handler_not_before(h: Harness) -> None:
    inside, leave = threading.Event(), threading.Event()
    queue = h.queue()

    @queue.job(name="hold")
    def hold() -> None:
        inside.set()
        assert leave.wait(20)

    handle = hold.dispatch()
    queue.start_workers(1)
    assert inside.wait(20)
    assert queue.stats().in_flight == 1
    if h.lookup:
        assert handle.state == "running"
    assert h.standing(handle).state != "completed"
    leave.set()
    h.ended(handle)
    assert queue.stats().in_flight == 0


@scenario("DEL-07", needs=("processes",), timing=True)
def scenario_del_07_unacked_is_redelivered(h: Harness) -> None:
    queue = h.queue()
    first = h.spawn_worker(lease=1.0)
    [handle] = h.dispatch_recorded(queue, [Job("slow", {"seconds": 2.0})])
    wait_until(h.starts, "the first worker to start the job")
    h.kill_recorded(first)
    second = h.spawn_worker(lease=1.0)
    starts = wait_until(lambda: len(h.starts()) == 2 and h.starts(), "the job to be started again")
    assert [s["attempt"] for s in starts] == [1, 2]
    assert starts[1]["pid"] == second.pid
    assert starts[1]["token"] > starts[0]["token"]
    assert starts[0]["job"] == starts[1]["job"] == handle.id
    assert h.ended(handle).state == "completed"
    h.recorder.drain("ok")  # there was this one job
    plan = Plan(dispatches=1, redelivery=True, faults=("kill",), workers=(first.pid, second.pid))
    h.judge_history(plan)


@scenario("DEL-08", suite="contract")
def scenario_del_08_double_ack_is_noop(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver, lease=1)
    assert driver.settle([Done(delivery)]) == ["applied"]
    assert driver.settle([Done(delivery)]) == ["already_settled"]
    assert driver.settle([Again(delivery)]) == ["already_settled"]
    h.advance(1.5)
    assert driver.claim(["default"], limit=10, lease=10) == []


@scenario("DEL-09", suite="contract", needs=("fenced",))
def scenario_del_09_mixed_batch_settle(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message() for _ in range(3)])
    one, two, three = driver.claim(["default"], limit=3, lease=10)
    driver.settle([Done(one), Done(two)])
    answers = driver.settle([Again(one), Again(two), Again(three)])
    assert answers == ["already_settled", "already_settled", "applied"]
    back = driver.claim(["default"], limit=3, lease=10)
    assert [d.message.id for d in back] == [three.message.id]


@scenario("DEL-10", suite="contract")
def scenario_del_10_nack_requeues_now(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("body")])
    first = h.claim_one(driver)
    assert driver.settle([Again(first)]) == ["applied"]
    second = h.claim_one(driver)
    assert (second.attempt, second.message.body) == (2, "body")


@scenario("DEL-11", suite="contract")
def scenario_del_11_nack_then_other_worker_can_take(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    for attempt in range(1, 21):
        holder = (one, two)[attempt % 2]
        delivery = h.claim_one(holder)
        assert delivery.attempt == attempt
        holder.settle([Again(delivery)])


@scenario("DEL-12", suite="contract", needs=("browse", "count"))
def scenario_del_12_peek_does_not_claim(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message() for _ in range(3)])
    before = driver.count(["default"])
    page = driver.browse(Query(queue="default"))
    assert len(page.records) == 3
    assert driver.count(["default"]) == before
    assert len(driver.claim(["default"], limit=10, lease=10)) == 3


@scenario("DEL-13", needs=("count",))
def scenario_del_13_batch_dispatch_all_or_reported(h: Harness) -> None:
    queue = h.queue(virtual=True)

    @queue.job(name="typed")
    def typed(number: int) -> None: ...

    jobs = [typed.job(i) for i in range(24)] + [Job("typed", {"number": "not one"})]
    with pytest.raises(BadPayload) as caught:
        queue.dispatch_many(jobs)
    assert caught.value.path == "$.number"
    assert queue.stats().pending == 0, "a batch with an invalid job stored something"
    handles = queue.dispatch_many(jobs[:24])
    assert len({handle.id for handle in handles}) == 24
    assert queue.stats().pending == 24


@scenario("DEL-14", needs=("count", "order"))
def scenario_del_14_batch_larger_than_driver_limit(h: Harness) -> None:
    queue = h.queue(virtual=True)
    size = queue.driver.limits.batch * 2 + 3
    order: list[int] = []
    queue.register("n", lambda payload: order.append(payload))
    handles = queue.dispatch_many(Job("n", i) for i in range(size))
    assert len({handle.id for handle in handles}) == size
    assert queue.stats().pending == size
    first = queue.driver.claim(["default"], limit=5, lease=10)
    assert [d.message.id for d in first] == [handle.id for handle in handles[:5]]


@scenario("DEL-15", needs=("count",))
def scenario_del_15_concurrent_dispatchers(h: Harness) -> None:
    queue = h.queue()
    ran: list[str] = []
    lock = threading.Lock()
    ids: list[str] = []

    @queue.job(name="n")
    def number(ctx: JobContext, i: int) -> None:
        ran.append(ctx.id)

    def dispatch() -> None:
        mine = [number.dispatch(i).id for i in range(50)]
        with lock:
            ids.extend(mine)

    threads = [threading.Thread(target=dispatch) for _ in range(8)]
    queue.start_workers(4)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.drain(30)
    assert len(set(ids)) == 400
    assert sorted(ran) == sorted(ids)


@scenario("DEL-16", needs=("transactional", "count"))
def scenario_del_16_transactional_dispatch_commit(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.stats()
    with h.application() as (connection, table):
        connection.execute(f"INSERT INTO {table} VALUES (1)")
        queue.dispatch(Job("t"), connection=connection)
        assert queue.stats().pending == 0, "visible before the commit"
        connection.commit()
        assert queue.stats().pending == 1
        assert connection.execute(f"SELECT number FROM {table}").fetchall() == [(1,)]


@scenario("DEL-16-BUSY", needs=("transactional",))
def scenario_del_16_transactional_dispatch_beside_writers(h: Harness) -> None:
    """Dispatch in the application's transactions while another thread dispatches and a worker settles."""
    ran: list[int] = []
    queue = h.queue()
    queue.register("t", lambda payload: ran.append(payload))
    queue.open()
    done = threading.Event()

    def others() -> None:
        number = 1000
        while not done.wait(0.001):
            number += 1
            queue.dispatch(Job("t", number))

    other = threading.Thread(target=others)
    with queue.worker(concurrency=2):
        other.start()
        try:
            for number in range(100):
                with contextlib.closing(h.database()) as connection:
                    queue.dispatch(Job("t", number), connection=connection)
                    connection.commit()
        finally:
            done.set()
            other.join()
        queue.drain(30)
    assert sorted(number for number in ran if number < 1000) == list(range(100))


@scenario("DEL-17", needs=("transactional", "count", "unique"))
def scenario_del_17_transactional_dispatch_rollback(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.stats()
    with h.application() as (connection, table):
        connection.execute(f"INSERT INTO {table} VALUES (1)")
        queue.dispatch(Job("t", unique_for=60), connection=connection)
        connection.rollback()
        assert connection.execute(f"SELECT number FROM {table}").fetchall() == []
    assert queue.stats().pending == 0
    assert queue.dispatch(Job("t", unique_for=60)).created, "the rollback left a unique scope behind"


@scenario("DEL-19", needs=("count",))
def scenario_del_19_fan_in_many_queues_weighted(h: Harness) -> None:
    order: list[str] = []
    queue = h.queue()
    queue.register("t", lambda payload: order.append(payload))
    each = min(2000, 2 * queue.driver.limits.batch)  # more than one claim takes
    for name in ("high", "mid", "low"):
        queue.dispatch_many(Job("t", name, queue=name) for _ in range(each))
    with queue.worker(concurrency=1, queues={"high": 4, "mid": 2, "low": 1}):
        queue.drain(60)
    assert len(order) == 3 * each
    first = {name: order.index(name) for name in ("high", "mid", "low")}
    assert max(first.values()) < 2 * each, f"a queue starved: first starts {first}"


@scenario("DEL-20", suite="contract", needs=("priority",))
def scenario_del_20_priority_order(h: Harness) -> None:
    driver = h.driver()
    sent = [h.message(priority=p) for p in (1, 9, 4, 9, 0, 4)]
    driver.send(sent)
    got = [d.message.id for d in driver.claim(["default"], limit=6, lease=10)]
    wanted = [sent[i].id for i in (1, 3, 2, 5, 0, 4)]
    assert got == wanted, "higher first, equal ones in order of acceptance"


@scenario("DEL-21", needs=("processes",), timing=True)
def scenario_del_21_delivery_mode_at_most_once(h: Harness) -> None:
    queue = h.queue()
    first = h.spawn_worker(lease=1.0)
    handle = queue.dispatch(Job("slow", {"seconds": 30}, delivery="at_most_once"))
    wait_until(h.starts, "the job to start")
    first.kill()
    h.spawn_worker(lease=1.0)
    info = h.ended(handle)
    assert (info.state, info.reason) == ("failed", "worker_lost")
    assert len(h.starts()) == 1, "an at-most-once job was started twice"
    with pytest.raises(ConfigurationError, match="at_most_once"):
        Job("slow", delivery="at_most_once", retries=3)


@scenario("DEL-22", needs=("unique_ids", "count"))
def scenario_del_22_idempotent_replay_of_dispatch_id(h: Harness) -> None:
    queue = h.queue(virtual=True)
    id = new_id()
    queue.dispatch(Job("t", {"a": 1}, id=id))
    queue.dispatch(Job("t", {"a": 1}, id=id))
    assert queue.stats().pending == 1
    ran: list[str] = []
    queue.register("t", lambda ctx_id=None, **_: ran.append("x"))
    run_due(queue)
    queue.dispatch(Job("t", {"a": 1}, id=id))
    run_due(queue)
    assert ran == ["x"], "an id that had run already ran again while its record is kept"


@scenario("DEL-FOLLOW-UPS", suite="contract")
def scenario_del_follow_ups_are_stored_with_the_outcome(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver)
    follow_up = h.message("next")
    assert driver.settle([Done(delivery, follow_ups=(follow_up,))]) == ["applied"]
    assert driver.settle([Done(delivery, follow_ups=(h.message("never"),))]) == ["already_settled"]
    found = driver.claim(["default"], limit=5, lease=10)
    assert [d.message.body for d in found] == ["next"]


@scenario("DEL-RELEASED", suite="contract", needs=("order",))
def scenario_del_released_refunds_the_attempt_and_keeps_its_place(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("first"), h.message("second")])
    delivery = h.claim_one(driver)
    driver.settle([Released(delivery)])
    again = h.claim_one(driver)
    assert (again.message.body, again.attempt) == ("first", 1)


@scenario("WRK-15", needs=("count",))
def scenario_wrk_15_async_and_sync_handlers(h: Harness) -> None:
    import asyncio  # noqa: PLC0415 - only here

    queue = h.queue()
    together = 0
    most = 0

    @queue.job(name="wait", retries=1, backoff=Backoff.constant(0))
    async def wait_a_little(i: int) -> int:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.05)
        together -= 1
        return i

    @queue.job(name="plain")
    def plain(i: int) -> int:
        return -i

    handles = [wait_a_little.dispatch(i) for i in range(8)] + [plain.dispatch(i) for i in range(8)]
    queue.start_workers(8)
    for handle, result in zip(handles, [*range(8), *(-i for i in range(8))], strict=True):
        h.returned(handle, result)
    assert most > 1, "async handlers did not run at the same time"
