"""LSE: lease, heartbeat, fencing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from queuekit import ConfigurationError, Event, Job, JobContext
from queuekit.contract import Again, Concurrency, Dead, Delivery, Done, Extension
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


@scenario("LSE-01", suite="contract", needs=("virtual_time",))
def scenario_lse_01_lease_blocks_others(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    h.claim_one(one, lease=10)
    h.advance(9.9)
    assert two.claim(["default"], limit=1, lease=10) == []


@scenario("LSE-02", suite="contract", needs=("lease",))
def scenario_lse_02_lease_expires_and_redelivers(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    first = h.claim_one(one, lease=2)
    h.advance(2.1)
    second = h.claim_one(two)
    assert (second.attempt, second.recovered) == (2, True)
    assert second.message.id == first.message.id
    assert not first.recovered


@scenario("LSE-03", suite="contract", needs=("lease", "virtual_time"))
def scenario_lse_03_not_before_expiry(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    h.claim_one(one, lease=10)
    for _ in range(99):
        h.advance(0.1)
        assert two.claim(["default"], limit=1, lease=10) == []
    h.advance(0.2)
    assert len(two.claim(["default"], limit=1, lease=10)) == 1


@scenario("LSE-04", needs=("lease",), timing=True)
def scenario_lse_04_heartbeat_extends(h: Harness) -> None:
    queue = h.queue()
    starts: list[int] = []

    @queue.job(name="long")
    def long(ctx: JobContext) -> None:
        starts.append(ctx.attempt)
        if ctx.attempt == 1:
            time.sleep(1.5)

    other = h.queue()
    other.register("long", long.fn)
    with queue.worker(concurrency=2, lease=0.5), other.worker(concurrency=1, lease=0.5):
        info = h.ended(long.dispatch())
    assert info.state == "completed"
    assert starts == [1]


@scenario("LSE-06", suite="contract", needs=("lease", "virtual_time"))
def scenario_lse_06_extend_after_expiry_fails(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver, lease=10)
    [alive] = driver.extend([delivery], lease=10)
    assert alive.held
    h.advance(10.1)
    [dead] = driver.extend([delivery], lease=10)
    assert not dead.held, "a lease that had run out was revived"
    assert h.claim_one(driver).attempt == 2


@scenario("LSE-07", suite="contract", needs=("lease", "fenced"))
def scenario_lse_07_stale_settle_is_rejected(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    stale = h.claim_one(one, lease=10)
    h.advance(10.1)
    fresh = h.claim_one(two, lease=10)
    assert one.settle([Done(stale)]) == ["lost"]
    assert two.settle([Done(fresh)]) == ["applied"]


@scenario("LSE-08", suite="contract", needs=("lease", "fenced"))
def scenario_lse_08_stale_fail_is_rejected(h: Harness) -> None:
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    stale = h.claim_one(one, lease=10)
    h.advance(10.1)
    fresh = h.claim_one(two, lease=10)
    assert one.settle([Again(stale)]) == ["lost"]
    assert one.settle([Dead(stale, "error")]) == ["lost"]
    assert fresh.attempt == 2
    if h.can("browse"):
        browser: Any = two
        [record] = browser.get([fresh.message.id])
        assert (record.state, record.attempt) == ("running", 2)
    assert two.settle([Done(fresh)]) == ["applied"], "the stale failure took the job from its holder"


@scenario("LSE-09", suite="contract", needs=("lease", "fenced"))
def scenario_lse_09_token_strictly_increases(h: Harness) -> None:
    h.driver().send([h.message()])
    tokens = []
    for _ in range(3):
        driver = h.driver()
        for _ in range(3):
            tokens.append(h.claim_one(driver, lease=1).token)
            h.advance(1.1)
        driver.close()
    assert tokens == sorted(set(tokens)), f"tokens do not strictly increase: {tokens}"


@scenario("LSE-LATE", suite="contract", needs=("lease", "fenced"))
def scenario_lse_late_settle_counts_while_nobody_took_the_job(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver, lease=1)
    h.advance(5)
    assert driver.settle([Done(delivery)]) == ["applied"]
    assert driver.claim(["default"], limit=1, lease=1) == []


@scenario("LSE-12", suite="contract", needs=("lease",))
def scenario_lse_12_reaper_exactly_one(h: Harness) -> None:
    drivers = [h.driver() for _ in range(3)]
    drivers[0].send([h.message() for _ in range(20)])
    assert len(drivers[0].claim(["default"], limit=20, lease=2)) == 20
    h.advance(2.1)
    taken = [d for driver in drivers for d in driver.claim(["default"], limit=20, lease=10)]
    assert len({d.message.id for d in taken}) == len(taken) == 20
    assert {d.attempt for d in taken} == {2}


@scenario("LSE-RECOVER", suite="contract", needs=("lease",))
def scenario_lse_recovered_jobs_go_to_free_slots_only(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message() for _ in range(10)])
    driver.claim(["default"], limit=10, lease=1)
    h.advance(1.1)
    assert len(driver.claim(["default"], limit=10, lease=10, free=3)) == 3
    assert driver.claim(["default"], limit=10, lease=10, free=0) == []
    assert len(driver.claim(["default"], limit=10, lease=10)) == 7


@scenario("LSE-RECOVER-LIMIT", suite="contract", needs=("lease", "concurrency"))
def scenario_lse_a_recovered_job_that_waited_for_its_limit_goes_to_a_free_slot(h: Harness) -> None:
    driver = h.driver()
    limit = Concurrency("c", 1)
    driver.send([h.message("1", concurrency=limit)])
    h.claim_one(driver, lease=1)
    h.advance(1.1)
    assert driver.claim(["default"], limit=1, lease=10, free=0) == []
    driver.send([h.message("2", concurrency=limit)])
    [second] = driver.claim(["default"], limit=1, lease=10, free=0)
    assert driver.claim(["default"], limit=5, lease=10) == [], "the limit was exceeded"
    driver.settle([Done(second)])
    assert driver.claim(["default"], limit=5, lease=10, free=0) == [], "a recovered job was prefetched"
    first = h.claim_one(driver)
    assert (first.message.body, first.attempt, first.recovered) == ("1", 2, True)


@scenario("LSE-RECOVER-ORDER", suite="contract", needs=("lease", "priority"))
def scenario_lse_recovered_jobs_keep_their_order(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("1"), h.message("2"), h.message("urgent", priority=9)])
    driver.claim(["default"], limit=3, lease=1)
    h.advance(1.1)
    found = [h.claim_one(driver).message.body for _ in range(3)]
    assert found == ["urgent", "1", "2"]


@scenario("LSE-SHORTEN", suite="contract", needs=("lease", "virtual_time"))
def scenario_lse_an_extension_may_shorten_a_lease(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver, lease=100)
    [answer] = driver.extend([delivery], lease=2)
    assert answer.held
    h.advance(1.9)
    assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(0.2)
    assert h.claim_one(driver).attempt == 2, "the old, longer lease was still in force"


@scenario("LSE-OUTAGE", suite="contract", needs=("lease",))
def scenario_lse_after_an_outage_no_expired_lease_is_taken_back(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message()])
    h.claim_one(driver, lease=1)
    h.advance(5)
    assert driver.claim(["default"], limit=1, lease=1, recover=False) == []
    assert len(driver.claim(["default"], limit=1, lease=1)) == 1


@scenario("LSE-15", suite="contract", needs=("lease", "virtual_time"))
def scenario_lse_15_per_job_lease_override(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message("short"), h.message("long")])
    h.claim_one(driver, lease=5)
    h.claim_one(driver, lease=60)
    h.advance(5.1)
    found = driver.claim(["default"], limit=2, lease=10)
    assert [d.message.body for d in found] == ["short"]


@scenario("LSE-14", needs=())
def scenario_lse_14_max_lease_ceiling(h: Harness) -> None:
    queue = h.queue()
    most = queue.driver.limits.longest_lease
    for lease in (0, -1, float("nan"), *(() if most is None else (most + 1,))):
        with pytest.raises(ConfigurationError, match="lease"):
            queue.worker(lease=lease)


@scenario("LSE-GIL", needs=("processes",), timing=True)
def scenario_lse_busy_python_does_not_starve_renewal(h: Harness) -> None:
    queue = h.queue()
    h.spawn_worker(lease=1.0, concurrency=4)
    h.spawn_worker(lease=1.0, concurrency=1)
    handles = [queue.dispatch(Job("hog", {"seconds": 3})) for _ in range(4)]
    for handle in handles:
        assert h.ended(handle, seconds=40).state == "completed"
    assert len(h.starts()) == 4, "a lease was lost although its worker lived"


@scenario("LSE-10", suite="contract", needs=("lease", "fenced"))
def scenario_lse_10_stale_side_effects_fenced(h: Harness) -> None:
    """Write with the lease's token, as `ctx.fence` gives it: the row refuses a zombie's write that comes late."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, fence INTEGER)")
    database.execute("INSERT INTO account VALUES (1, 'nobody', 0)")

    def write(owner: str, delivery: Delivery) -> int:
        text = "UPDATE account SET owner = ?, fence = ? WHERE id = 1 AND fence <= ?"
        return database.execute(text, (owner, delivery.token, delivery.token)).rowcount

    one, two = h.driver(), h.driver()
    one.send([h.message()])
    zombie = h.claim_one(one, lease=1)
    assert write("zombie, in time", zombie) == 1
    h.advance(1.1)
    successor = h.claim_one(two)
    assert write("successor", successor) == 1
    assert write("successor, again", successor) == 1
    assert write("zombie, too late", zombie) == 0
    assert database.execute("SELECT owner FROM account").fetchone() == ("successor, again",)
    database.close()


@scenario("LSE-13", suite="contract", needs=("lease", "virtual_time"))
def scenario_lse_13_reaper_respects_batch(h: Harness) -> None:
    """Let ten thousand leases run out at once: they come back in bounded batches, once each, and hold nobody else up."""
    driver = h.driver()
    total, size = 10_001, min(driver.limits.batch, 1000)

    def lend_all(lease: float) -> list[Delivery]:
        """Claim as workers do, which wait: a broker pushes to who waits, and hands over one by one to who does not."""
        lent: list[Delivery] = []
        while len(lent) < total:
            found = driver.claim(["reaped"], limit=size, lease=lease, wait=1.0)
            assert len(found) <= size
            lent += found
        return lent

    for start in range(0, total, size):
        driver.send([h.message(queue="reaped") for _ in range(min(size, total - start))])
    assert {delivery.attempt for delivery in lend_all(1)} == {1}
    h.advance(1.1)
    driver.send([h.message("other")])
    begin = time.monotonic()
    assert h.claim_one(driver).message.body == "other"
    assert time.monotonic() - begin < 2, "a claim from another queue waited for the sweep"
    seen = lend_all(600)
    assert {delivery.attempt for delivery in seen} == {2}
    assert len({delivery.message.id for delivery in seen}) == len(seen) == total
    assert driver.claim(["reaped"], limit=size, lease=600) == []


@scenario("LSE-16", needs=("count", "lease"), timing=True)
def scenario_lse_16_prefetch_does_not_burn_lease(h: Harness) -> None:
    """Hold prefetched jobs behind slow ones for longer than a lease: each still runs once, as its first attempt."""
    queue = h.queue()
    starts: list[tuple[str, int]] = []
    held: list[int] = []

    @queue.job(name="job")
    def job(ctx: JobContext, seconds: float = 0.0) -> None:
        starts.append((ctx.id, ctx.attempt))
        if seconds:
            held.append(queue.stats().in_flight)
            time.sleep(seconds)

    plan = [0.0] * 60 + [0.7] * 2 + [0.0] * 20
    handles = queue.dispatch_many(job.job(seconds) for seconds in plan)
    with queue.worker(concurrency=1, lease=0.5):
        queue.drain(20)
    assert max(held) > 1, "nothing was prefetched"
    assert sorted(starts) == sorted((handle.id, 1) for handle in handles)


@scenario("LSE-17", needs=("processes", "lease"), timing=True)
def scenario_lse_17_crash_between_claim_and_start(h: Harness) -> None:
    """Kill a worker between claim and start: the hand-out is charged, and the job starts once, elsewhere."""
    queue = h.queue()
    first = h.spawn_worker(lease=1.0, die_on="claimed")
    handle = queue.dispatch(Job("note"))
    first.end()
    assert h.starts() == []
    if h.lookup:
        assert handle.info().attempt == 1
    h.spawn_worker(lease=1.0)
    assert h.ended(handle).state == "completed"
    [start] = h.starts()
    assert start["attempt"] == 2


@scenario("LSE-11", suite="contract", needs=("lease",))
def scenario_lse_11_lease_lost_cancels_handler(h: Harness) -> None:
    """Lose a lease while its handler runs: it is told."""
    events: list[Event] = []
    queue = h.queue(observers=[events.append])
    told: list[bool] = []

    @queue.job(name="watch")
    def watch(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            wait_until(lambda: ctx.lost, "the handler to be told that its lease is lost")
            told.append(True)

    handle = watch.dispatch()
    driver = queue.driver
    worker = queue.worker(concurrency=1, lease=0.6)
    real = driver.extend
    setattr(driver, "extend", lambda deliveries, *, lease: [_not_held() for _ in deliveries])  # noqa: B010
    worker.start()
    wait_until(lambda: told, "the handler to notice")
    setattr(driver, "extend", real)  # noqa: B010
    worker.stop(5)
    assert any(e.kind == "lease_lost" and e.job_id == handle.id for e in events)


@scenario("LSE-11-SILENCE", suite="contract", needs=("lease",), timing=True)
def scenario_lse_11_lease_lost_while_the_backend_is_silent(h: Harness) -> None:
    """Let a renewal hang for longer than the lease: handler and observers are told when it ends, not when the call does."""
    events: list[Event] = []
    queue = h.queue(observers=[events.append])
    silence = threading.Event()

    @queue.job(name="watch")
    def watch(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            wait_until(lambda: ctx.lost, "the handler to be told that its lease is lost")
            wait_until(lambda: "lease_lost" in [e.kind for e in events], "the observers to be told as well")
            silence.set()

    handle = watch.dispatch()
    driver = queue.driver
    worker = queue.worker(concurrency=1, lease=0.6)
    real = driver.extend

    def hang(deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        assert silence.wait(60), "nobody was told while the renewal hung"
        return real(deliveries, lease=lease)

    setattr(driver, "extend", hang)  # noqa: B010
    worker.start()
    wait_until(silence.is_set, "the handler to end while the renewal hangs")
    setattr(driver, "extend", real)  # noqa: B010
    worker.stop(5)
    assert [e.kind for e in events if e.job_id == handle.id].count("lease_lost") == 1, "told more than once"


def _not_held() -> Any:
    from queuekit.contract import Extension  # noqa: PLC0415 - only here

    return Extension(held=False)
