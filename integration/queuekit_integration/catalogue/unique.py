"""UNQ: uniqueness."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from queuekit import AmbiguousDispatch, Backoff, DuplicateJob, Job, JobContext, Queue
from queuekit.contract import AmbiguousSend, Unique
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
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


KEYS = 900
"""Enough that nobody is through before the others have woken up."""


@scenario("UNQ-02-PROCESSES", needs=("unique", "processes", "count"), timing=True)
def scenario_unq_02_race_of_processes(h: Harness) -> None:
    """Let two processes and this one dispatch the same keys at the same time: each key is one job."""
    queue = h.queue()
    queue.open()
    others = [h.spawn_worker(dispatch=KEYS, begin=begin, wait_for="go") for begin in (KEYS // 3, 2 * KEYS // 3)]
    (h.folder / "go").touch()
    mine = [queue.dispatch(Job("nobody_runs_it", {"number": n}, unique_key=f"k{n}")).created for n in range(KEYS)]
    assert [other.end() for other in others] == [0, 0]
    accepted = [note for note in h.notes() if note["f"] == "sent"]
    created = sum(note["created"] for note in accepted) + sum(mine)
    assert len(accepted) == 2 * KEYS
    assert created == queue.stats().pending == KEYS
    winners = {note["worker"] for note in accepted if note["created"]} | ({"this one"} if any(mine) else set())
    assert len(winners) > 1, "nobody raced"


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


@scenario("UNQ-07", needs=("unique", "delay"))
def scenario_unq_07_ttl_expiry(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.dispatch(Job("t", unique_for=10, delay=1000))
    h.advance(9.9)
    assert not queue.dispatch(Job("t", unique_for=10)).created
    h.advance(0.2)
    assert queue.dispatch(Job("t", unique_for=10)).created


@scenario("UNQ-WINDOW", needs=("window",))
def scenario_unq_window_of_five_minutes(h: Harness) -> None:
    """Dispatch unique jobs again within five minutes, before they have ended: each runs once, and the second handle is the first job's."""
    queue = h.queue(virtual=True)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    first, again = (queue.dispatch(Job("t", 1, unique_for=300)) for _ in range(2))
    queue.dispatch_many(Job("t", number, unique_for=300) for number in (1, 2, 2, 3))
    run_due(queue)
    assert sorted(ran) == [1, 2, 3]
    assert first.created
    assert (again.id, again.created) == (first.id, False)


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


@scenario("UNQ-08", needs=("unique", "processes", "browse", "count"), timing=True)
def scenario_unq_08_crash_holding_lock(h: Harness) -> None:
    """Kill a process that dispatches unique jobs: no scope is held without a job, and no job lacks its scope."""
    queue = h.queue()
    dispatcher = h.spawn_worker(dispatch=100_000)
    wait_until(lambda: len(h.notes()) >= 30, "the dispatcher to be in the middle of it")
    dispatcher.kill()
    sent, before = len(h.notes()), queue.stats().pending
    assert sent <= before <= sent + 1, "an accepted job is missing"
    again = [
        queue.dispatch(Job("nobody_runs_it", {"number": n}, unique_key=f"k{n}")) for n in range(before - 5, before + 5)
    ]
    assert [handle.created for handle in again] == [False] * 5 + [True] * 5
    for number, handle in enumerate(again, before - 5):
        assert handle.info().payload == {"number": number}


@scenario("UNQ-09", needs=("unique", "unique_ids", "browse", "count"))
def scenario_unq_09_reply_lost_on_unique_dispatch(h: Harness) -> None:
    """Lose the answer to a unique dispatch that was applied: dispatching again finds the job, with its id or without."""
    queue = h.queue(virtual=True)
    queue.open()
    driver: Any = queue.driver
    real = driver.send_unique

    def answer_lost(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise AmbiguousSend("injected: applied, and the answer was lost")

    driver.send_unique = answer_lost
    with pytest.raises(AmbiguousDispatch) as caught:
        queue.dispatch(Job("t", {"a": 1}, unique_key="k"))
    driver.send_unique = real
    assert caught.value.retryable
    id = caught.value.job_id
    same = queue.dispatch(Job("t", {"a": 1}, unique_key="k", id=id))
    other = queue.dispatch(Job("t", {"a": 1}, unique_key="k"))
    assert same.id == other.id == id
    assert not other.created
    assert queue.stats().pending == 1


@scenario("UNQ-11", needs=("unique", "delay", "browse"))
def scenario_unq_11_debounce_last_wins(h: Harness) -> None:
    """Dispatch again and again with a delay and `replace`: one run, a delay after the last, with the last arguments."""
    queue = h.queue(virtual=True)
    ran: list[tuple[float, int]] = []

    @queue.job(name="save")
    def save(number: int) -> None:
        ran.append((h.clock.monotonic(), number))

    begin = h.clock.monotonic()
    for number in range(5):
        save.using(delay=10, unique_key="document", on_conflict="replace").dispatch(number)
        h.advance(4)
        run_due(queue)
    for _ in range(10):
        h.advance(1)
        run_due(queue)
    [(at, number)] = ran
    assert number == 4
    assert 16 + 10 <= at - begin <= 16 + 10 + 1
    assert save.using(delay=10, unique_key="document", on_conflict="replace").dispatch(9).created


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
