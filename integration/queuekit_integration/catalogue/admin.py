"""ADM, OBS, LIM, PSN: operating, events, sizes, foreign bodies."""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from queuekit import Backoff, ConfigurationError, Event, Job, JobContext, JobHandle, JobNotFound, Snooze
from queuekit.contract import Again, Done, Failure, Progress, Released, WorkerInfo
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, drive, logged, wait_until
from queuekit_integration.registry import scenario


@scenario("ADM-01", needs=("pause", "browse"))
def scenario_adm_01_pause_queue(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda: ran.append(1))
    queue.pause("default")
    handle = queue.dispatch(Job("t"))
    run_due(queue)
    assert ran == []
    assert handle.state == "pending"
    queue.pause("default")
    queue.resume("default")
    run_due(queue)
    assert ran == [1]


@scenario("ADM-03", needs=("pause", "processes", "browse"))
def scenario_adm_03_pause_survives_restart(h: Harness) -> None:
    first = h.queue(virtual=True)
    first.pause("default")
    handle = first.dispatch(Job("t"))
    first.close()
    second = h.queue(virtual=True)
    second.register("t", lambda: "ran")
    run_due(second)
    assert second.get(handle.id).state == "pending"
    second.resume("default")
    run_due(second)
    assert second.get(handle.id).state == "completed"


@scenario("ADM-05", needs=("count", "control", "delay"))
def scenario_adm_05_stats_agree_with_oracle(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("ok", lambda: None)
    queue.register("bad", _bad, retries=0)
    queue.dispatch_many([Job("ok"), Job("ok"), Job("bad")])
    run_due(queue)
    queue.dispatch_many([Job("ok", delay=60), Job("ok"), Job("ok")])
    queue.cancel(queue.dispatch(Job("ok")).id)
    queue.driver.claim(["default"], limit=1, lease=60)
    h.advance(3)
    [counts] = queue.stats().queues
    assert counts.queue == "default"
    states = (counts.pending, counts.scheduled, counts.running, counts.completed, counts.failed, counts.cancelled)
    assert states == (1, 1, 1, 2, 1, 1)
    assert counts.oldest_ready_age == pytest.approx(3, abs=0.01)


def _bad() -> None:
    raise ValueError("no")


@scenario("ADM-07", needs=("purge", "count", "unique"))
def scenario_adm_07_purge_queue(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.dispatch_many(Job("t", i) for i in range(20))
    running = queue.driver.claim(["default"], limit=2, lease=60)
    queue.dispatch(Job("t", unique_key="k", delay=5))
    assert queue.purge("default") == 19
    assert queue.driver.settle([Done(d) for d in running]) == ["applied", "applied"]
    assert queue.dispatch(Job("t", unique_key="k")).created
    assert queue.stats().pending == 1


@scenario("ADM-08", needs=("browse",))
def scenario_adm_08_list_paginate_filter(h: Harness) -> None:
    queue = h.queue(virtual=True)
    ids = [queue.dispatch(Job("t", {"i": i}, tags=["even"] if i % 2 == 0 else [])).id for i in range(50)]
    seen: list[str] = []
    after = None
    while True:
        page = queue.jobs(limit=7, after=after)
        seen += [job.id for job in page]
        queue.dispatch(Job("other"))
        after = page.next
        if after is None or len(seen) > 80:
            break
    assert seen[:50] == ids, "a page had a gap or a repetition"
    assert [job.payload["i"] for job in queue.jobs(tag="even", limit=100)] == list(range(0, 50, 2))
    assert {job.type for job in queue.jobs(type="other")} == {"other"}
    assert [job.id for job in queue.jobs(search=ids[3])] == [ids[3]]
    assert queue.jobs(state="failed") == []


@scenario("ADM-09", needs=("control", "browse"))
def scenario_adm_09_delete_running_refused(h: Harness) -> None:
    queue = h.queue(virtual=True)
    handle = queue.dispatch(Job("t"))
    [delivery] = queue.driver.claim(["default"], limit=1, lease=60)
    assert handle.delete() is False
    queue.driver.settle([Done(delivery)])
    assert handle.delete() is True
    with pytest.raises(JobNotFound):
        handle.info()


@scenario("ADM-10", needs=("records", "browse"))
def scenario_adm_10_prune_respects_retention(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("t", lambda: None)
    short = queue.dispatch(Job("t", retain=60))
    gone = queue.dispatch(Job("t", retain=0))
    long = queue.dispatch(Job("t"))
    waiting = queue.dispatch(Job("t", delay=10 * 86_400))
    run_due(queue)
    with pytest.raises(JobNotFound):
        gone.info()
    h.advance(61)
    assert queue.prune() == 1
    with pytest.raises(JobNotFound):
        short.info()
    assert (long.state, waiting.state) == ("completed", "scheduled")
    h.advance(86_400)
    assert queue.prune() == 1
    assert waiting.state == "scheduled"


@scenario("ADM-BULK", needs=("control", "browse"))
def scenario_adm_bulk_forms_on_a_filter(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("bad", _bad, retries=0)
    queue.dispatch_many(Job("bad") for _ in range(12))
    run_due(queue)
    assert queue.retry(state="failed") == 12
    run_due(queue)
    queue.dispatch_many(Job("bad", delay=60) for _ in range(5))
    assert queue.cancel(state="scheduled") == 5
    assert queue.delete(state="cancelled") == 5
    with pytest.raises(ConfigurationError):
        queue.delete()


@scenario("ADM-11")
def scenario_adm_11_health_check(h: Harness) -> None:
    queue = h.queue()
    assert queue.health().healthy
    answer = threading.Event()
    real = queue.driver.prepare
    setattr(queue.driver, "prepare", lambda queues: answer.wait(20))  # noqa: B010 - a backend that hangs
    hung = queue.health(timeout=0.2)
    assert not hung.healthy
    assert hung.seconds < 1
    answer.set()
    setattr(queue.driver, "prepare", real)  # noqa: B010
    assert queue.health().healthy
    queue.close()
    health = queue.health()
    assert not health.healthy
    assert health.message


@scenario("WRK-REGISTRY", needs=("registry", "browse"))
def scenario_wrk_13_registry_lists_live_workers(h: Harness) -> None:
    queue = h.queue()
    inside, leave = threading.Event(), threading.Event()

    @queue.job(name="hold")
    def hold() -> None:
        inside.set()
        assert leave.wait(20)

    worker = queue.worker(concurrency=3, lease=0.3, name="w-one").start()
    handle = hold.dispatch()
    assert inside.wait(20)
    [seen] = wait_until(lambda: [w for w in queue.workers() if w.running], "the registry to show what runs")
    assert (seen.id, seen.concurrency, seen.running) == ("w-one", 3, (handle.id,))
    assert queue.stats().completed_per_second == 0
    leave.set()
    wait_until(lambda: queue.stats().completed_per_second > 0, "the registry to show how fast it works")
    worker.stop(5)
    assert queue.workers() == []


@scenario("WRK-REGISTRY-FIELDS", suite="contract", needs=("registry",))
def scenario_wrk_registry_keeps_what_a_worker_says_of_itself(h: Harness) -> None:
    driver: Any = h.driver()
    said = WorkerInfo(
        id="w-one",
        host="höst",
        pid=7,
        started_at=1_700_000_000.25,
        queues=("a", "b"),
        concurrency=3,
        running=("x", "y"),
        stopping=True,
        completed_per_second=12.5,
        failed_per_second=0.25,
    )
    driver.beat(said, ttl=60)
    [seen] = driver.workers()
    assert abs(seen.seen_at - h.clock.time()) < 1
    assert msgspec.structs.replace(seen, seen_at=0.0) == said
    driver.beat(said, ttl=0)
    assert driver.workers() == []


@scenario("RECORDS-PROGRESS", suite="contract", needs=("records", "browse", "lease"))
def scenario_records_progress_is_fenced(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message()])
    stale = h.claim_one(driver, lease=1)
    assert driver.report([Progress(stale, 25.0, "a quarter")]) == [True]
    [record] = driver.get([stale.message.id])
    assert (record.progress, record.step) == (25.0, "a quarter")
    h.advance(1.1)
    h.claim_one(driver, lease=10)
    assert driver.report([Progress(stale, 99.0)]) == [False]


@scenario("OBS-01")
def scenario_obs_01_event_sequence_success(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(observers=[events.append])

    @queue.job(name="t")
    def job() -> None: ...

    handle = job.dispatch()
    queue.start_workers(1)
    h.ended(handle)
    wait_until(lambda: any(e.kind == "settled" for e in events), "the last event")
    mine = [e for e in events if e.job_id == handle.id]
    assert [e.kind for e in mine] == ["dispatched", "claimed", "started", "finished", "completed", "settled"]
    assert all(e.attempt == 1 and e.token for e in mine[1:])


@scenario("OBS-02")
def scenario_obs_02_event_sequence_retry_dead_snooze(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])

    @queue.job(name="t", retries=1, backoff=Backoff.constant(h.brief(2)))
    def job(ctx: JobContext) -> None:
        if not snoozed:
            snoozed.append(1)
            raise Snooze(5 if h.virtual else 0.05)
        raise ValueError("no")

    snoozed: list[int] = []
    handle = job.dispatch()
    drive(h, queue, 30, 10, job=handle)
    per_attempt = ["claimed", "started", "finished"]
    wanted = [
        "dispatched",
        *per_attempt, "snoozed", "settled",
        *per_attempt, "retrying", "settled",
        *per_attempt, "failed", "settled",
    ]  # fmt: skip
    assert [e.kind for e in events if e.job_id == handle.id] == wanted


@scenario("OBS-04")
def scenario_obs_04_listener_error_isolated(h: Harness) -> None:
    events: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    queue = h.queue(virtual=True, observers=[broken, events.append])
    queue.register("t", lambda: "ok")
    handle = queue.dispatch(Job("t"))
    run_due(queue)
    h.returned(handle, "ok")
    assert any(e.kind == "observer_failed" and e.error == "RuntimeError: observer" for e in events)


@scenario("OBS-07")
def scenario_obs_07_no_payload_in_logs_by_default(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(observers=[events.append])

    @queue.job(name="t", retries=0)
    def fails(ctx: JobContext, payload: Any) -> None:
        ctx.log.error("about to fail")
        raise ZeroDivisionError

    @queue.job(name="typed", retries=0)
    def typed(number: int) -> None: ...

    job = Job("t", {"password": "hunter2"})
    assert "hunter2" not in repr(job)
    other = h.queue().dispatch(Job("typed", {"number": "hunter2"}))
    with logged("queuekit") as lines, queue.worker(concurrency=1):
        handle = queue.dispatch(job)
        assert "hunter2" not in repr(handle)
        assert h.ended(handle).state == h.ended(other).state == "failed"
    assert "about to fail" in lines
    assert not any("hunter2" in line for line in lines)
    assert events
    assert all("hunter2" not in repr(event) for event in events)


@scenario("LIM-03")
def scenario_lim_03_empty_and_none_payload(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[Any] = []
    queue.register("t", lambda payload: seen.append(payload))
    values: list[Any] = [None, {}, [], "", 0, False, b"", b"\x00\xff", {"": None}]
    for value in values:
        queue.dispatch(Job("t", value))
    run_due(queue)
    assert seen == values


@scenario("LIM-04")
def scenario_lim_04_weird_bytes(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[Any] = []
    queue.register("t", lambda payload: seen.append(payload))
    values: list[Any] = [
        bytes(range(256)),
        "\u0000",
        "\u2028\u2029",
        "\U0001f468\u200d\U0001f469",
        '"\\',
        "é",
        "e\u0301",
    ]
    for value in values:
        queue.dispatch(Job("t", value))
    run_due(queue)
    assert seen == values
    with pytest.raises(ConfigurationError, match="surrogate"):
        queue.dispatch(Job("t", "\ud800"))


@scenario("LIM-05")
def scenario_lim_05_names_weird(h: Harness) -> None:
    for bad in ("a b", "a/b", "ü", "x" * 61, "a\n", "'; --"):
        with pytest.raises(ConfigurationError):
            Job(bad)
        with pytest.raises(ConfigurationError):
            Job("t", queue=bad)
    queue = h.queue(virtual=True)
    ran: list[str] = []
    for name in ("q.1", "q-1", "q_1", "Q.1", "x" * 60):
        queue.register(name, functools.partial(ran.append, name))
        queue.dispatch(Job(name, queue=name))
        run_due(queue, [name])
    assert ran == ["q.1", "q-1", "q_1", "Q.1", "x" * 60]


@scenario("LIM-06")
def scenario_lim_06_numeric_fidelity(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[Any] = []
    queue.register("t", lambda payload: seen.append(payload))
    for value in (2**63 - 1, 2**64, -(2**63), 1e308, -0.0, 0.1, 5e-324):
        queue.dispatch(Job("t", value))
        run_due(queue)
        assert seen[-1] == value
        assert math.copysign(1, seen[-1]) == math.copysign(1, value)
    for bad in (math.nan, math.inf, {"a": [1, -math.inf]}, object(), {1, object()}):
        with pytest.raises(ConfigurationError):
            queue.dispatch(Job("t", bad))


@scenario("LIM-07")
def scenario_lim_07_deep_nesting_and_many_keys(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[Any] = []
    queue.register("t", lambda payload: seen.append(payload))
    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    wide = {f"k{i}": i for i in range(5000)}
    queue.dispatch(Job("t", deep))
    queue.dispatch(Job("t", wide))
    run_due(queue)
    assert seen == [deep, wide]


@scenario("PSN-01", needs=("browse",))
def scenario_psn_01_undecodable_payload(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(observers=[events.append])
    queue.register("fine", lambda: "fine")
    queue.open()
    garbage = b"\xff\xfe not an envelope \x00"
    h.write_garbage(garbage)
    h.write_garbage(b'{"v":1,"id":"x"}')
    queue.start_workers(1)
    assert queue.dispatch(Job("fine")).result(20) == "fine"
    dead = wait_until(lambda: len(q := queue.jobs(state="failed")) == 2 and q, "both foreign bodies to be parked")
    assert {job.reason for job in dead} == {"undecodable"}
    record: Any = queue.driver
    [kept] = record.get([dead[0].id])
    assert kept.body.encode("utf-8", "surrogateescape") == garbage, "its bytes were changed"
    assert sum(e.kind == "undecodable" for e in events) == 2


@scenario("PSN-02")
def scenario_psn_02_unknown_envelope_version_is_given_back(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.open()
    future = h.message('{"v":99,"id":"x","type":"t","news":true}')
    queue.driver.send([future])
    run_due(queue)
    standing = h.standing(JobHandle(queue, future.id))
    assert (standing.state, standing.attempt) == ("scheduled", 0)


@scenario("PSN-07")
def scenario_psn_07_argument_signature_changed(h: Harness) -> None:
    queue = h.queue(virtual=True)
    old = queue.dispatch(Job("t", {"a": 1}))
    lost = queue.dispatch(Job("t", {"a": 1, "b": 2, "removed": 3}))

    @queue.job(name="t")
    def changed(a: int, b: int) -> None: ...

    run_due(queue)
    for handle, field in ((old, "b"), (lost, "removed")):
        info = h.standing(handle)
        assert (info.state, info.reason) == ("failed", "bad_payload")
        assert field in info.errors[0]
        assert len(info.errors) == 1, "a payload that cannot fit was retried"


@scenario("PSN-09")
def scenario_psn_09_result_that_cannot_be_kept(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("odd", object)
    queue.register("huge", lambda: "x" * 2_000_000)
    for name in ("odd", "huge"):
        handle = queue.dispatch(Job(name))
        run_due(queue)
        assert h.standing(handle).state == "completed"
        if h.lookup:
            assert handle.info().result_error


@dataclass
class Address:
    """An argument with fields of its own."""

    street: str
    number: int


@scenario("bind_invalid_json")
def scenario_bind_invalid_json(h: Harness) -> None:
    queue = h.queue(virtual=True)
    seen: list[Any] = []

    @queue.job(name="typed")
    def typed(address: Address, note: str = "") -> None:
        seen.append(address)

    typed.dispatch(Address("Main", 5))
    with pytest.raises(ConfigurationError.__mro__[1]):
        queue.dispatch(Job("typed", {"address": {"street": "Main", "number": "five"}}))
    other = h.queue(virtual=True)
    bad = other.dispatch(Job("typed", {"address": {"street": "Main", "number": "five"}}))
    run_due(queue)
    assert seen == [Address("Main", 5)]
    ending = h.ended(bad)
    assert (ending.state, ending.reason, ending.attempt) == ("failed", "bad_payload", 1)
    assert "$.address.number" in ending.errors[0]


@scenario("ADM-GONE", suite="contract", needs=("control", "purge", "lease"))
def scenario_adm_a_deleted_job_is_not_recovered(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message("purged"), h.message("deleted")])
    found = driver.claim(["default"], limit=2, lease=1)
    h.advance(1.1)
    assert driver.claim(["default"], limit=1, lease=10, free=0) == []
    assert driver.delete([found[1].message.id]) == ["pending"]
    assert driver.purge("default") == 1
    assert driver.claim(["default"], limit=5, lease=10) == [], "a job that had been removed was lent"


@scenario("ADM-CANCEL-BACK", suite="contract", needs=("control", "browse"))
def scenario_adm_a_cancelled_job_that_comes_back_has_its_history(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message(), h.message()])
    failed, released = driver.claim(["default"], limit=2, lease=10)
    ids = [failed.message.id, released.message.id]
    assert driver.cancel(ids) == ["running", "running"]
    answers = driver.settle([Again(failed, error=Failure(1, 0.0, "error")), Released(released)])
    assert answers == ["applied", "applied"]
    one, two = driver.get(ids)
    assert (one.state, one.attempt, [e.reason for e in one.errors]) == ("cancelled", 1, ["error"])
    assert (two.state, two.attempt) == ("cancelled", 0), "a hand-out that was given back is refunded"


@scenario("ADM-CANCEL-SETTLED", suite="contract", needs=("control", "delay", "fenced"))
def scenario_adm_a_settlement_stays_settled_after_a_cancel(h: Harness) -> None:
    driver: Any = h.driver()
    driver.send([h.message()])
    delivery = h.claim_one(driver)
    driver.settle([Again(delivery, delay=5)])
    driver.cancel([delivery.message.id])
    assert driver.settle([Again(delivery, delay=5)]) == ["already_settled"]
