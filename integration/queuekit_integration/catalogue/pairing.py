"""EXCHANGE and STORE: the contract's round trips for speed, and for pairing a transport with an engine."""

from __future__ import annotations

from typing import Any

from queuekit.contract import Again, Concurrency, Dead, Delivery, Done, Rate, Receipt, Released, Unique
from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario


def engine(h: Harness) -> Any:
    """Return a driver, untyped: the scenario needs its feature."""
    return h.driver()


def bodies(found: list[Any]) -> list[str]:
    """Return what was stored in messages or deliveries."""
    return [item.message.body if isinstance(item, Delivery) else item.body for item in found]


@scenario("EXCHANGE-ORDER", suite="contract", needs=("exchange", "key", "concurrency"))
def scenario_exchange_settles_before_it_claims(h: Harness) -> None:
    """Exchange: what the outcomes free is claimed in the same go: the key's next, the limit's place, the job given back."""
    driver = engine(h)
    limit = Concurrency("c", 1)
    driver.send([h.message("head", key="k"), h.message("next", key="k")])
    driver.send([h.message("holder", concurrency=limit), h.message("waiter", concurrency=limit)])
    first = driver.claim(["default"], limit=10, lease=10)
    assert sorted(bodies(first)) == ["head", "holder"]
    answers, found = driver.exchange([Done(delivery) for delivery in first], ["default"], limit=10, lease=10)
    assert answers == ["applied", "applied"]
    assert sorted(bodies(found)) == ["next", "waiter"]
    answers, found = driver.exchange([Released(found[0]), Again(found[1])], ["default"], limit=10, lease=10)
    assert answers == ["applied", "applied"]
    assert sorted((d.message.body, d.attempt) for d in found) == [("next", 1), ("waiter", 2)]


@scenario("EXCHANGE-FENCED", suite="contract", needs=("exchange", "lease", "fenced"))
def scenario_exchange_is_fenced_like_settle(h: Harness) -> None:
    """Exchange with outcomes of which some are late or repeated: each gets its own answer, and the claim works all the same."""
    one, two = engine(h), engine(h)
    one.send([h.message("stolen")])
    stale = h.claim_one(one, lease=1)
    h.advance(1.1)
    fresh = h.claim_one(two, lease=60)
    one.send([h.message("settled"), h.message("new")])
    settled = h.claim_one(one)
    assert one.settle([Done(settled)]) == ["applied"]
    answers, found = one.exchange([Done(stale), Again(settled)], ["default"], limit=5, lease=10)
    assert answers == ["lost", "already_settled"]
    assert bodies(found) == ["new"]
    assert two.settle([Done(fresh)]) == ["applied"]


@scenario("EXCHANGE-FREE", suite="contract", needs=("exchange", "lease", "pause"))
def scenario_exchange_keeps_the_rules_of_claim(h: Harness) -> None:
    """Exchange without a free slot, or within the time after an outage: nothing recovered; nothing of a paused queue."""
    driver = engine(h)
    driver.send([h.message("lent"), h.message("other", queue="paused")])
    h.claim_one(driver, lease=1)
    driver.pause("paused")
    h.advance(1.1)
    queues = ["default", "paused"]
    assert driver.exchange([], queues, limit=5, lease=10, recover=False) == ([], [])
    assert driver.exchange([], queues, limit=5, lease=10, free=0) == ([], [])
    _, found = driver.exchange([], queues, limit=5, lease=10)
    assert [(d.message.body, d.attempt, d.recovered) for d in found] == [("lent", 2, True)]


@scenario("STORE-ADMIT", suite="contract", needs=("store", "count"))
def scenario_store_admitted_jobs_wait_for_their_transport(h: Harness) -> None:
    """Admit jobs: the outbox names them only when nobody published them in time, and then not again for a while."""
    driver = engine(h)
    jobs = [h.message(str(i)) for i in range(3)]
    assert driver.admit(jobs, publish_within=5) == [Receipt(job.id, created=True) for job in jobs]
    assert driver.outbox(limit=10, again_after=5) == []
    h.advance(4.9)
    assert driver.outbox(limit=10, again_after=5) == []
    h.advance(0.2)
    assert bodies(driver.outbox(limit=2, again_after=5)) == ["0", "1"]
    assert bodies(driver.outbox(limit=10, again_after=5)) == ["2"]
    assert driver.outbox(limit=10, again_after=5) == []
    h.advance(5.1)
    named = driver.outbox(limit=10, again_after=5)
    assert sorted(bodies(named)) == ["0", "1", "2"], "a job that was named once and never published is lost"
    assert {job.id for job in named} == {job.id for job in jobs}


@scenario("STORE-UNIQUE", suite="contract", needs=("store", "unique", "unique_ids"))
def scenario_store_admits_like_a_unique_send(h: Harness) -> None:
    """Admit what is there already: the receipt names the job that stands for it, and nothing new is to be published."""
    driver = engine(h)
    unique = Unique("scope")
    first = h.message("first", unique=unique)
    [receipt] = driver.admit([first], publish_within=5)
    again, other = driver.admit([first, h.message("second", unique=unique)], publish_within=5)
    assert receipt == Receipt(first.id, created=True)
    assert (again.id, again.created) == (other.id, other.created) == (first.id, False)
    h.advance(5.1)
    assert bodies(driver.outbox(limit=10, again_after=5)) == ["first"]


@scenario("STORE-LEND", suite="contract", needs=("store", "delay", "key", "browse"))
def scenario_store_lends_by_id_or_says_why_not(h: Harness) -> None:
    """Lend the jobs that a transport delivered: each is lent once, or its state says why not."""
    driver = engine(h)
    free, delayed = h.message("free"), h.message("delayed", delay=10)
    head, second = h.message("head", key="k"), h.message("second", key="k")
    driver.admit([free, delayed, head, second], publish_within=60)
    lent, waits, first, held, nothing = driver.lend([free.id, delayed.id, head.id, second.id, new_id(h)], lease=10)
    assert (lent.message.body, lent.attempt, lent.recovered) == ("free", 1, False)
    assert (waits, held, nothing) == ("scheduled", "pending", None)
    assert driver.lend([free.id], lease=10) == ["running"], "one job was lent twice"
    assert driver.settle([Done(lent), Dead(first, "error")]) == ["applied", "applied"]
    assert driver.lend([free.id, head.id], lease=10) == ["completed", "failed"]
    assert bodies(driver.lend([second.id], lease=10)) == ["second"]
    h.advance(10.1)
    once, again = driver.lend([delayed.id, delayed.id], lease=10)
    assert (bodies([once]), again) == (["delayed"], "running"), (
        "two tickets of one job came at once, and both were lent"
    )


def new_id(h: Harness) -> str:
    """Return the id of no job."""
    return h.message().id


@scenario("STORE-RECOVER", suite="contract", needs=("store", "lease", "fenced"))
def scenario_store_names_a_job_whose_lease_ran_out(h: Harness) -> None:
    """Let a lent job's lease run out: the outbox names it, and lending it again is attempt 2 under a higher token."""
    driver = engine(h)
    job = h.message()
    driver.admit([job], publish_within=60)
    [stale] = driver.lend([job.id], lease=2)
    assert driver.outbox(limit=5, again_after=5) == []
    h.advance(2.1)
    assert bodies(driver.outbox(limit=5, again_after=5)) == bodies([stale])
    assert driver.outbox(limit=5, again_after=5) == []
    [fresh] = driver.lend([job.id], lease=10)
    assert (fresh.attempt, fresh.recovered) == (2, True)
    assert fresh.token > stale.token
    assert driver.settle([Done(stale)]) == ["lost"]
    assert driver.settle([Done(fresh)]) == ["applied"]


@scenario("STORE-RETURN", suite="contract", needs=("store", "delay"))
def scenario_store_names_what_comes_back(h: Harness) -> None:
    """Settle with a retry, a release, or free a key's next: the outbox names each as soon as it is due."""
    driver = engine(h)
    retried, released, head, second = (
        h.message("retried"), h.message("released"), h.message("head", key="k"), h.message("second", key="k"),
    )  # fmt: skip
    driver.admit([retried, released, head, second], publish_within=600)
    one, two, three = driver.lend([retried.id, released.id, head.id], lease=60)
    driver.settle([Again(one, delay=5), Released(two), Done(three)])
    assert sorted(bodies(driver.outbox(limit=9, again_after=600))) == ["released", "second"]
    h.advance(5.1)
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["retried"]
    attempts = {d.message.body: d.attempt for d in driver.lend([retried.id, released.id, second.id], lease=60)}
    assert attempts == {"retried": 2, "released": 1, "second": 1}


@scenario("STORE-GATES", suite="contract", needs=("store", "concurrency", "rate_limit", "pause"))
def scenario_store_lends_within_limits_and_pauses(h: Harness) -> None:
    """Lend by id what a limit, a rate or a pause holds: it is not lent, and named once it may run."""
    driver = engine(h)
    limit, rate = Concurrency("c", 1), Rate("r", 1, 10.0)
    limited = [h.message(f"limited {i}", concurrency=limit) for i in range(2)]
    rated = [h.message(f"rated {i}", rate=rate) for i in range(2)]
    paused = h.message("paused", queue="paused")
    driver.admit([*limited, *rated, paused], publish_within=600)
    driver.pause("paused")
    one, two, three, four, five = driver.lend([job.id for job in (*limited, *rated, paused)], lease=60)
    assert bodies([one, three]) == ["limited 0", "rated 0"]
    assert two == "pending"
    assert four in {"pending", "scheduled"}
    assert five == "pending"
    driver.settle([Done(one), Done(three)])
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["limited 1"]
    h.advance(10.1)
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["rated 1"]
    driver.resume("paused")
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["paused"], "its ticket was used up while it was paused"


@scenario("STORE-PUBLISHED", suite="contract", needs=("store", "delay", "rate_limit"))
def scenario_store_is_told_what_was_published(h: Harness) -> None:
    """Note what the transport carries: it is not named for that long, then named again if it still waits; others are untouched."""
    driver = engine(h)
    carried, lent, delayed = h.message("carried"), h.message("lent"), h.message("delayed", delay=3)
    returned = h.message("returned")
    driver.admit([carried, lent, delayed, returned], publish_within=1)
    driver.lend([lent.id], lease=600)
    [given_back] = driver.lend([returned.id], lease=600)
    driver.settle([Released(given_back)])
    ids = [carried.id, lent.id, delayed.id, returned.id]
    driver.published(ids, ages=[0.0] * 4, publish_within=1, again_after=20)
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["returned"], "a late note kept back what was given back"
    h.advance(4)
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["delayed"], (
        "what was not due yet was kept back with the others"
    )
    h.advance(15)
    assert driver.outbox(limit=9, again_after=600) == []
    h.advance(1.1)
    assert bodies(driver.outbox(limit=9, again_after=600)) == ["carried"]
    assert bodies(driver.lend([carried.id], lease=10)) == ["carried"]


@scenario("STORE-LATE-NOTE", suite="contract", needs=("store", "delay"))
def scenario_store_takes_no_late_note_for_a_newer_ticket(h: Harness) -> None:
    """Note a publication late, when its ticket is used up and the outbox has named the job for another: it is named again in time."""
    driver = engine(h)
    retried, waiting = h.message("retried"), h.message("waiting")
    driver.admit([retried, waiting], publish_within=10)
    [delivery] = driver.lend([retried.id], lease=600)
    driver.settle([Again(delivery, delay=1)])
    h.advance(2)
    assert bodies(driver.outbox(limit=9, again_after=10)) == ["retried"]
    driver.published([retried.id, waiting.id], ages=[2.0, 2.0], publish_within=10, again_after=900)
    h.advance(10.1)
    assert bodies(driver.outbox(limit=9, again_after=10)) == ["retried"], (
        "whoever should have published it may have died"
    )
    assert bodies(driver.lend([waiting.id], lease=10)) == ["waiting"]


@scenario("STORE-FREE", suite="contract", needs=("store", "lease"))
def scenario_store_lends_recovered_jobs_to_free_slots_only(h: Harness) -> None:
    """Lend by id jobs whose leases ran out: no more than there are free slots, and the outbox names the others again."""
    driver = engine(h)
    jobs = [h.message(str(number)) for number in range(4)]
    driver.admit(jobs, publish_within=60)
    driver.lend([job.id for job in jobs[:3]], lease=1)
    h.advance(1.5)
    assert len(driver.outbox(limit=9, again_after=60)) == 3
    answers = driver.lend([job.id for job in jobs], lease=10, free=1)
    assert bodies([answers[0], answers[3]]) == ["0", "3"], "one recovered job, and one that was never lent"
    assert answers[1:3] == ["pending", "pending"]
    assert sorted(bodies(driver.outbox(limit=9, again_after=60))) == ["1", "2"]


@scenario("STORE-OUTAGE", suite="contract", needs=("store", "lease"))
def scenario_store_takes_nothing_back_after_an_outage(h: Harness) -> None:
    """Ask without recovering: an expired lease is neither named nor lent, until its holder had time to renew."""
    driver = engine(h)
    job = h.message()
    driver.admit([job], publish_within=60)
    driver.lend([job.id], lease=1)
    h.advance(5)
    assert driver.outbox(limit=5, again_after=5, recover=False) == []
    assert driver.lend([job.id], lease=5, recover=False) == ["running"]
    assert bodies(driver.outbox(limit=5, again_after=5)) == bodies([job])
    [delivery] = driver.lend([job.id], lease=5)
    assert delivery.attempt == 2
