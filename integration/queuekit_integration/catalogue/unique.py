"""UNQ: uniqueness."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from queuekit import Backoff, DuplicateJob, Job, JobContext, Queue
from queuekit.contract import Unique
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario


@scenario("UNQ-01", needs=("unique", "count"))
def scenario_unq_01_duplicate_suppressed(h: Harness) -> None:
    queue = h.queue(virtual=True)
    first = queue.dispatch(Job("t", {"a": 1, "b": 2}, unique_for=60))
    second = queue.dispatch(Job("t", {"b": 2, "a": 1}, unique_for=60))
    assert first.created
    assert (second.id, second.created) == (first.id, False)
    assert queue.stats().pending == 1
    with pytest.raises(DuplicateJob) as caught:
        queue.dispatch(Job("t", {"a": 1, "b": 2}, unique_for=60, on_conflict="raise"))
    assert caught.value.job_id == first.id


@scenario("UNQ-02", needs=("unique", "count"))
def scenario_unq_02_concurrent_race(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.open()
    created: list[bool] = []
    barrier = threading.Barrier(20)

    def race() -> None:
        barrier.wait()
        created.append(queue.dispatch(Job("t", unique_key="k")).created)

    threads = [threading.Thread(target=race) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created.count(True) == 1
    assert queue.stats().pending == 1


def _outcomes(queue: Queue) -> None:
    queue.register("ok", lambda: None)
    queue.register("bad", _bad, retries=0)


def _bad() -> None:
    raise ValueError("no")


@scenario("UNQ-03", needs=("unique", "control"))
def scenario_unq_03_lock_freed_on_every_end(h: Harness) -> None:
    queue = h.queue(virtual=True)
    _outcomes(queue)
    for type_ in ("ok", "bad"):
        assert queue.dispatch(Job(type_, unique_key="k")).created
        run_due(queue)
        assert queue.dispatch(Job(type_, unique_key="k")).created, f"not freed by the end of {type_!r}"
        run_due(queue)
    for end in ("cancel", "delete"):
        handle = queue.dispatch(Job("ok", unique_key=end, delay=60))
        assert getattr(handle, end)() is True
        assert queue.dispatch(Job("ok", unique_key=end)).created, f"not freed by {end}"
    queue.dispatch(Job("ok", unique_key="purged", queue="other", delay=60))
    queue.purge("other")
    assert queue.dispatch(Job("ok", unique_key="purged", queue="other")).created


@scenario("UNQ-04", needs=("unique", "delay"))
def scenario_unq_04_lock_not_freed_by_retry_or_release(h: Harness) -> None:
    from queuekit import Snooze  # noqa: PLC0415 - only here

    queue = h.queue(virtual=True)

    @queue.job(name="again", retries=3, backoff=Backoff.constant(5))
    def again(ctx: JobContext) -> None:
        raise Snooze(5) if ctx.attempt == 1 and not seen else ValueError("no")

    seen: list[bool] = []
    first = again.using(unique_key="k").dispatch()
    run_due(queue)
    assert not queue.dispatch(Job("again", unique_key="k")).created, "freed by a snooze"
    seen.append(True)
    h.advance(5.1)
    run_due(queue)
    assert first.state == "scheduled"
    assert not queue.dispatch(Job("again", unique_key="k")).created, "freed by a retry"


@scenario("UNQ-05", needs=("unique", "delay"))
def scenario_unq_05_until_start_scope(h: Harness) -> None:
    queue = h.queue(virtual=True)
    inside: list[bool] = []

    @queue.job(name="starts", retries=1, backoff=Backoff.constant(5))
    def starts(ctx: JobContext) -> None:
        if not inside:
            inside.append(queue.dispatch(Job("starts", unique_key="k", until="start", delay=100)).created)
            raise ValueError("no")

    queue.dispatch(Job("starts", unique_key="k", until="start"))
    run_due(queue)
    assert inside == [True], "not freed at the start"
    h.advance(5.1)
    run_due(queue)
    assert not queue.dispatch(Job("starts", unique_key="k", until="start")).created, (
        "the first's retry freed the second's"
    )


@scenario("UNQ-06", needs=("unique",))
def scenario_unq_06_scope_args_fields_period_state(h: Harness) -> None:
    queue = h.queue(virtual=True)
    base = queue.dispatch(Job("t", {"a": 1}, unique_for=60))
    others = [
        Job("t", {"a": 2}, unique_for=60),
        Job("u", {"a": 1}, unique_for=60),
        Job("t", {"a": 1}, unique_for=60, queue="other"),
        Job("t", {"a": 1}, unique_for=60, unique_key="x"),
    ]
    assert all(queue.dispatch(job).created for job in others)
    assert queue.dispatch(Job("t", {"a": 1}, unique_for=60)).id == base.id
    assert queue.dispatch(Job("t", {"a": 99}, unique_for=60, unique_key="x")).created is False
    elsewhere = Queue(h.make_driver(virtual=True), namespace="elsewhere") if h.name != "memory" else None
    if elsewhere is not None:
        elsewhere.close()


@scenario("UNQ-07", needs=("unique", "delay"))
def scenario_unq_07_ttl_expiry(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.dispatch(Job("t", unique_for=10, delay=1000))
    h.advance(9.9)
    assert not queue.dispatch(Job("t", unique_for=10)).created
    h.advance(0.2)
    assert queue.dispatch(Job("t", unique_for=10)).created


@scenario("UNQ-REPLACE", needs=("unique", "browse", "delay"))
def scenario_unq_replace_changes_only_unstarted_jobs(h: Harness) -> None:
    queue = h.queue(virtual=True)
    first = queue.dispatch(Job("t", {"a": 1}, unique_key="k", delay=60))
    second = queue.dispatch(Job("t", {"a": 2}, unique_key="k", on_conflict="replace"))
    assert (second.id, second.created) == (first.id, False)
    assert (first.info().payload, first.state) == ({"a": 2}, "pending")
    queue.driver.claim(["default"], limit=1, lease=10)
    third = queue.dispatch(Job("t", {"a": 3}, unique_key="k", on_conflict="replace"))
    assert third.id == first.id
    assert first.info().payload == {"a": 2}, "a running job was replaced"


@scenario("UNQ-10", needs=("unique", "count"))
def scenario_unq_10_binary_and_unicode_keys(h: Harness) -> None:
    queue = h.queue(virtual=True)
    keys = ["a\u0000b", "a\u0000c", "\U0001f600", "é", "e\u0301", "x" * 10_000, "x" * 10_001, "A", "a", " a"]
    for key in keys:
        assert queue.dispatch(Job("t", unique_key=key)).created, f"{key[:20]!r} collided"
    for key in keys:
        assert not queue.dispatch(Job("t", unique_key=key)).created
    assert queue.stats().pending == len(keys)


@scenario("UNQ-REPLACE-PRIORITY", suite="contract", needs=("unique", "priority"))
def scenario_unq_a_replaced_job_has_the_new_priority(h: Harness) -> None:
    driver: Any = h.driver()
    unique = Unique("scope", on_conflict="replace")
    driver.send_unique([h.message("old", priority=9, unique=unique), h.message("other")])
    driver.send_unique([h.message("new", priority=1, unique=unique)])
    assert [h.claim_one(driver).message.body for _ in range(2)] == ["other", "new"]
