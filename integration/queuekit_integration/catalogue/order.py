"""ORD and SCH: order, keys, limits, delays."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from queuekit import Backoff, ConfigurationError, Job, JobContext, JobHandle
from queuekit.contract import Again, Concurrency, Dead, Done, Rate, Released, Unique
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, drive, wait_until
from queuekit_integration.registry import scenario

SLOW = 20
"""The number of the slow job: the worker's first claims are over by then."""


@scenario("ORD-01", needs=("order",))
def scenario_ord_01_fifo_single_worker(h: Harness) -> None:
    queue = h.queue()
    order: list[int] = []
    queue.register("n", lambda payload: order.append(payload))
    queue.dispatch_many(Job("n", i) for i in range(200))
    queue.start_workers(1)
    queue.drain(20)
    assert order == list(range(200))


@scenario("ORD-01-SLOW", needs=("order",))
def scenario_ord_01_fifo_single_worker_slow_jobs(h: Harness) -> None:
    queue = h.queue()
    order: list[int] = []

    def run(payload: int) -> None:
        order.append(payload)
        if payload == SLOW:
            time.sleep(1.3)

    queue.register("slow-one", run)
    queue.dispatch_many(Job("slow-one", number) for number in range(200))
    worker = queue.worker(concurrency=1).start()
    wait_until(lambda: len(order) >= 200, "every job to run", seconds=20)
    worker.stop(10)
    assert order == list(range(200))


@scenario("ORD-02", needs=("key", "count"))
def scenario_ord_02_fifo_per_key(h: Harness) -> None:
    queue = h.queue()
    order: list[tuple[str, int]] = []
    together, most = 0, 0
    lock = threading.Lock()

    @queue.job(name="k")
    def keyed(key: str, i: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
            order.append((key, i))
        time.sleep(0.001)
        with lock:
            together -= 1

    queue.dispatch_many(Job("k", {"key": f"k{i % 8}", "i": i}, key=f"k{i % 8}") for i in range(160))
    queue.start_workers(4)
    queue.drain(30)
    for key in {k for k, _ in order}:
        mine = [i for k, i in order if k == key]
        assert mine == sorted(mine), f"order of {key} broken: {mine}"
    assert len(order) == 160
    assert most > 1, "keys did not run side by side"


@scenario("ORD-03", suite="contract", needs=("key",))
def scenario_ord_03_key_blocks_while_head_in_flight(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("1", key="k"), h.message("2", key="k"), h.message("other", key="l")])
    found = driver.claim(["default"], limit=10, lease=10)
    assert [d.message.body for d in found] == ["1", "other"]
    driver.settle([Done(found[0])])
    assert h.claim_one(driver).message.body == "2"


@scenario("ORD-04", suite="contract", needs=("key",))
def scenario_ord_04_key_unblocks_after_dead(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("1", key="k"), h.message("2", key="k")])
    driver.settle([Dead(h.claim_one(driver), "error")])
    assert h.claim_one(driver).message.body == "2"


@scenario("ORD-05", suite="contract", needs=("key", "delay"))
def scenario_ord_05_order_with_retry(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("1", key="k"), h.message("2", key="k")])
    driver.settle([Again(h.claim_one(driver), delay=5)])
    assert driver.claim(["default"], limit=5, lease=10) == [], "the second overtook the first's retry wait"
    h.advance(5.1)
    head = h.claim_one(driver)
    assert head.message.body == "1"
    driver.settle([Released(head, delay=3)])
    assert driver.claim(["default"], limit=5, lease=10) == []


@scenario("ORD-RESTART", suite="contract", needs=("key", "delay", "control"))
def scenario_ord_a_retried_job_stands_at_the_end_of_its_key(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message("1", key="k"), h.message("2", key="k"), h.message("3", key="k")])
    first = h.claim_one(driver)
    driver.settle([Dead(first, "error")])
    second = h.claim_one(driver)
    assert driver.retry([first.message.id]) == ["failed"]
    driver.settle([Again(second, delay=5)])
    assert driver.claim(["default"], limit=5, lease=10) == []
    h.advance(5.1)
    seen = []
    for _ in range(3):
        delivery = h.claim_one(driver)
        seen.append(delivery.message.body)
        driver.settle([Done(delivery)])
    assert seen == ["2", "3", "1"]


@scenario("ORD-REPLACE", suite="contract", needs=("key", "delay", "unique"))
def scenario_ord_a_replaced_job_stands_at_the_end_of_its_key(h: Harness) -> None:
    driver: Any = h.driver()
    unique = Unique("scope", on_conflict="replace")
    driver.send_unique([h.message("old", key="j", delay=60, unique=unique), h.message("2", key="k")])
    [receipt] = driver.send_unique([h.message("new", key="k", delay=5, unique=unique)])
    assert receipt.replaced
    head = h.claim_one(driver, lease=60)
    assert head.message.body == "2"
    h.advance(5.1)
    assert driver.claim(["default"], limit=5, lease=10) == [], "two jobs of one key were lent at once"
    driver.settle([Done(head)])
    assert h.claim_one(driver).message.body == "new"


@scenario("ORD-SUCCESSOR", suite="contract", needs=("concurrency",))
def scenario_ord_a_successor_brings_its_own_limit(h: Harness) -> None:
    driver = h.driver()
    limit = Concurrency("c", 1)
    driver.send([h.message("1", concurrency=limit), h.message("2", concurrency=limit)])
    first = h.claim_one(driver)
    driver.settle([Released(first, successor=h.message("free"))])
    found = driver.claim(["default"], limit=5, lease=10)
    assert sorted(d.message.body for d in found) == ["2", "free"], "the old limit still held the successor"


@scenario("ORD-EXPIRY", suite="contract", needs=("key", "lease"))
def scenario_ord_06_order_survives_a_lost_lease(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("1", key="k"), h.message("2", key="k")])
    h.claim_one(driver, lease=1)
    h.advance(1.1)
    found = driver.claim(["default"], limit=5, lease=10)
    assert [(d.message.body, d.attempt) for d in found] == [("1", 2)]


@scenario("ORD-07", needs=("concurrency", "count"))
def scenario_ord_07_concurrency_limit_per_key(h: Harness) -> None:
    queue = h.queue()
    together, most, ran = 0, 0, 0
    lock = threading.Lock()

    @queue.job(name="limited")
    def limited() -> None:
        nonlocal together, most, ran
        with lock:
            together += 1
            ran += 1
            most = max(most, together)
        time.sleep(0.02)
        with lock:
            together -= 1

    queue.dispatch_many(limited.using(concurrency=("shop", 2)).job() for _ in range(20))
    queue.start_workers(8)
    queue.drain(30)
    assert ran == 20
    assert most == 2, f"{most} ran at once, and 2 were to"


@scenario("ORD-08", needs=("processes", "concurrency", "count"), timing=True)
def scenario_ord_08_global_concurrency_limit(h: Harness) -> None:
    """Limit jobs that three processes work off: together they reach the limit and never exceed it."""
    queue = h.queue()
    for _ in range(3):
        h.spawn_worker(concurrency=3, lease=2.0)
    queue.dispatch_many(Job("slow", {"seconds": 0.3}, concurrency=("shop", 4)) for _ in range(16))
    queue.drain(30)
    together = most = 0
    for note in h.notes():
        together += {"start": 1, "end": -1}[note["f"]]
        most = max(most, together)
    assert most == 4, f"{most} ran at once, and 4 were to"
    assert len({start["pid"] for start in h.starts()}) > 1, "one process ran them all"
    assert len(h.starts()) == 16


@scenario("ORD-09", suite="contract", needs=("concurrency", "lease"))
def scenario_ord_09_limit_slot_returned_on_crash(h: Harness) -> None:
    driver = h.driver()
    limit = Concurrency("k", 1)
    driver.send([h.message("1", concurrency=limit), h.message("2", concurrency=limit)])
    h.claim_one(driver, lease=1)
    assert driver.claim(["default"], limit=5, lease=1) == []
    h.advance(1.1)
    found = driver.claim(["default"], limit=5, lease=10)
    assert len(found) == 1
    driver.settle([Done(found[0])])
    assert len(driver.claim(["default"], limit=5, lease=10)) == 1


@scenario("ORD-10", suite="contract", needs=("concurrency", "lease", "fenced"))
def scenario_ord_10_zombie_cannot_free_slot(h: Harness) -> None:
    driver = h.driver()
    limit = Concurrency("k", 1)
    driver.send([h.message("1", concurrency=limit), h.message("2", concurrency=limit)])
    zombie = h.claim_one(driver, lease=1)
    h.advance(1.1)
    h.claim_one(driver, lease=10)
    assert driver.settle([Done(zombie)]) == ["lost"]
    assert driver.claim(["default"], limit=5, lease=10) == [], "the zombie freed the new holder's place"


@scenario("ORD-11", suite="contract", needs=("rate_limit",))
def scenario_ord_11_rate_limit_window(h: Harness) -> None:
    driver = h.driver()
    rate = Rate("t", 10, 1.0)
    driver.send([h.message(rate=rate) for _ in range(50)])
    grants: list[float] = []
    for _ in range(200):
        for delivery in driver.claim(["default"], limit=50, lease=60):
            grants.append(h.clock.monotonic())
            driver.settle([Done(delivery)])
        h.advance(0.05)
    assert len(grants) == 50
    for start in grants:
        assert sum(start <= g < start + 1.0 - 1e-9 for g in grants) <= 10
    assert max(grants) - min(grants) < 7, "the limit was far from reached"


@scenario("SCH-01", suite="contract", needs=("delay", "virtual_time"))
def scenario_sch_01_delayed_not_early(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message(delay=5)])
    for _ in range(49):
        h.advance(0.1)
        assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(0.1 + driver.limits.resolution)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


@scenario("SCH-02", needs=("delay",), timing=True)
def scenario_sch_02_delayed_runs_soon_after_due(h: Harness) -> None:
    queue = h.queue()
    started: list[float] = []
    queue.register("t", lambda: started.append(time.monotonic()))
    queue.start_workers(1)
    begin = time.monotonic()
    handle = queue.dispatch(Job("t", delay=0.3))
    accepted = time.monotonic()
    h.ended(handle)
    assert started[0] - begin >= 0.3
    assert started[0] - accepted < 0.3 + queue.driver.limits.resolution + 1.0


@scenario("SCH-03", needs=("delay",))
def scenario_sch_03_zero_delay_and_past_eta(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    queue.dispatch(Job("t", 1, delay=0))
    past = datetime.fromtimestamp(h.clock.time(), UTC) - timedelta(hours=1)
    queue.dispatch(Job("t", 2, at=past))
    run_due(queue)
    assert ran == [1, 2]
    for bad in (-5, float("nan"), float("inf"), timedelta(seconds=-1), "soon", True):
        with pytest.raises(ConfigurationError, match="delay"):
            Job("t", delay=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="time zone"):
        Job("t", at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point of it


@scenario("SCH-04", suite="contract", needs=("delay",))
def scenario_sch_04_delays_independent(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("late", delay=5), h.message("soon", delay=1)])
    h.advance(1.1)
    assert [d.message.body for d in driver.claim(["default"], limit=5, lease=10)] == ["soon"]


@scenario("SCH-05", suite="contract", needs=("delay",))
def scenario_sch_05_same_eta_many(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message(at=h.clock.time() + 3) for _ in range(700)])
    h.advance(3.1)
    seen: set[str] = set()
    for _ in range(20):
        found = driver.claim(["default"], limit=100, lease=10)
        seen |= {d.message.id for d in found}
        driver.settle([Done(d) for d in found])
    assert len(seen) == 700


@scenario("SCH-06", suite="contract", needs=("delay", "virtual_time"))
def scenario_sch_06_longer_than_native_max(h: Harness) -> None:
    driver = h.driver()
    sixty_days = 60 * 86_400.0
    driver.send([h.message(delay=sixty_days)])
    h.advance(sixty_days - 1)
    assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(1.1)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


@scenario("SCH-07", needs=("delay", "processes"), timing=True)
def scenario_sch_07_delayed_survives_restart(h: Harness) -> None:
    first = h.queue()
    worker = h.spawn_worker(lease=1.0)
    handle = first.dispatch(Job("note", {"tag": "later"}, delay=1.0))
    begin = time.monotonic_ns()
    worker.kill()
    first.close()
    h.spawn_worker(lease=1.0)
    queue = h.queue()
    assert h.ended(JobHandle(queue, handle.id)).state == "completed"
    [start] = h.starts()
    assert start["t"] - begin >= 0.9e9


@scenario("SCH-08", needs=("delay",), timing=True)
def scenario_sch_08_idle_worker_wakes_for_nearer_job(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda: None)
    queue.dispatch(Job("t", delay=60))
    queue.start_workers(1).ready(10)
    near = queue.dispatch(Job("t", delay=0.3))
    assert h.ended(near, seconds=10).state == "completed"


@scenario("SCH-16", suite="contract", needs=("lease", "virtual_time"))
def scenario_sch_16_wall_clock_step_back(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    first = h.claim_one(one, lease=10)
    h.clock.step(-3600)
    assert two.claim(["default"], limit=1, lease=10) == [], "a step of the wall clock ended a lease"
    h.advance(10.1)
    second = h.claim_one(two)
    assert second.attempt == 2, "the lease grew by the hour"
    assert two.settle([Done(second)]) == ["applied"]
    assert one.settle([Done(first)]) == ["lost"]


@scenario("SCH-STEP", suite="contract", needs=("delay", "virtual_time"))
def scenario_sch_a_step_of_the_wall_clock_forward_starts_nothing_early(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message(delay=10)])
    h.clock.step(3600)
    h.advance(9.9)
    assert driver.claim(["default"], limit=1, lease=10) == [], "an hour that never passed was taken off the delay"
    h.advance(0.2)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


@scenario("ORD-RETRY")
def scenario_ordering_contract_retry_reorder_allowed(h: Harness) -> None:
    """Without a key a retry may be overtaken: the non-guarantee is shown, not only stated."""
    queue = h.queue(virtual=True)
    wait = 5 if h.virtual else 2
    order: list[int] = []

    @queue.job(name="n", retries=1, backoff=Backoff.constant(wait))
    def number(ctx: JobContext, i: int) -> None:
        if i == 0 and ctx.attempt == 1:
            raise ValueError("no")
        order.append(i)

    first, *_ = queue.dispatch_many(number.job(i) for i in range(3))
    drive(h, queue, wait + 0.1, wait + 0.1, job=first)
    assert order[-1] == 0
    assert sorted(order) == [0, 1, 2]
    if queue.driver.limits.ordered:
        assert order == [1, 2, 0]
