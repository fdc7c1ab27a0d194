"""ADM: pausing, counting and installing, from outside and under load."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from queuekit import Job
from queuekit.contract import Done
from queuekit.stats import Stats
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario


@scenario("ADM-02", suite="contract", needs=("pause", "delay"))
def scenario_adm_02_resume(h: Harness) -> None:
    """Resume: the backlog is lent in its order, to any client, and so is what became due meanwhile."""
    one, two = pausing(h), pausing(h)
    one.pause("default")
    one.send([h.message(str(i)) for i in range(5)])
    one.send([h.message("delayed", delay=3)])
    h.advance(4)
    assert two.claim(["default"], limit=10, lease=10) == [], "another client lent from a paused queue"
    assert two.paused() == ["default"]
    two.resume("default")
    assert one.paused() == []
    found = one.claim(["default"], limit=10, lease=10)
    assert [delivery.message.body for delivery in found] == ["0", "1", "2", "3", "4", "delayed"]


def pausing(h: Harness) -> Any:
    """Return a driver, untyped: the scenario needs its feature."""
    return h.driver()


@scenario("ADM-04", needs=("pause", "browse"))
def scenario_adm_04_pause_unknown_queue(h: Harness) -> None:
    """Pause a queue before it exists: it begins its life paused; resuming what is not paused changes nothing."""
    queue = h.queue(virtual=True)
    queue.register("t", lambda: None)
    queue.resume("never-seen")
    queue.pause("not-yet")
    handle = queue.dispatch(Job("t", queue="not-yet"))
    other = queue.dispatch(Job("t", queue="open"))
    run_due(queue, ["not-yet", "open"])
    assert (handle.state, other.state) == ("pending", "completed")
    queue.resume("not-yet")
    run_due(queue, ["not-yet"])
    assert handle.info().state == "completed"


@scenario("ADM-06", needs=("count", "records"))
def scenario_adm_06_stats_under_load_never_negative(h: Harness) -> None:
    """Look at the counts while others dispatch and work: never negative, never more than there are, finished ones grow."""
    queue = h.queue()
    queue.register("t", lambda payload: None)
    total, seen = 200, []
    over = threading.Event()

    def dispatch() -> None:
        for start in range(0, total, 20):
            queue.dispatch_many(Job("t", i) for i in range(start, start + 20))
        queue.drain(30)
        over.set()

    with queue.worker(concurrency=4), ThreadPoolExecutor(1) as pool:
        work = pool.submit(dispatch)
        while not over.is_set() and not work.done():
            seen.append(counted(queue.stats()))
        work.result()
        seen.append(counted(queue.stats()))
    assert len(seen) > 1
    assert all(min(counts.values(), default=0) >= 0 and counts.total() <= total for counts in seen), seen
    completed = [counts["completed"] for counts in seen]
    assert completed == sorted(completed), f"the number of completed jobs shrank: {completed}"
    assert seen[-1] == Counter(completed=total)


def counted(stats: Stats) -> Counter[str]:
    """Return jobs by state."""
    names = ("pending", "scheduled", "running", "completed", "failed", "cancelled")
    found: Counter[str] = Counter()
    for queue in stats.queues:
        found.update({name: count for name in names if (count := getattr(queue, name))})
    return found


@scenario("ADM-12", suite="contract", needs=("migrate",))
def scenario_adm_12_schema_install_idempotent_and_concurrent(h: Harness) -> None:
    """Install from four clients at once where nothing is yet: each step is applied once; a second time changes nothing."""
    with h.elsewhere():
        drivers: list[Any] = [h.make_driver(virtual=True) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            applied = [name for names in pool.map(_install, drivers) for name in names]
        assert len(applied) == len(set(applied)), f"a step was applied twice: {applied}"
        for driver in drivers:
            assert driver.migrations() == []
            assert driver.migrate() == []
        drivers[0].send([h.message()])
        drivers[3].settle([Done(h.claim_one(drivers[1]))])
        for driver in drivers:
            driver.close()


def _install(driver: Any) -> list[str]:
    names: list[str] = driver.migrate()
    driver.open()
    driver.prepare(["default"])
    return names
