"""MOVE: what waits goes from one backend to another, and nothing is lost on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from queuekit import Backoff, Job, JobContext, Queue
from queuekit.contract import (
    Concurrency,
    ConfigurationError,
    Delivery,
    Done,
    Driver,
    DriverUnavailable,
    Message,
    Query,
    Unique,
)
from queuekit.memory import Broker, MemoryDriver
from queuekit.move import move
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


def _elsewhere(h: Harness) -> MemoryDriver:
    driver = MemoryDriver(broker=Broker(h.clock))
    driver.open()
    return driver


def _load(h: Harness) -> list[Message]:
    """Return one message of each kind that waits, in the order in which they are dispatched."""
    return [
        *(h.message(f"plain {number}") for number in range(5)),
        h.message("delayed", delay=100),
        h.message("urgent", priority=9),
        h.message("first of key", key="k"),
        h.message("second of key", key="k"),
        h.message("limited", concurrency=Concurrency("c", 1)),
        h.message("tagged", tags=("a", "b"), retain=5.0),
        h.message("unique", unique=Unique("scope")),
    ]


def _move(h: Harness, source: Driver, target: Driver) -> int:
    [result] = move(source, target, clock=h.clock, queues=["default"])
    assert result.left == 0
    return result.moved


def _all_of(h: Harness, driver: Driver) -> list[Delivery]:
    """Lend and finish everything, in order, with time moved on for what is delayed."""
    found: list[Delivery] = []
    for _ in range(20):
        for delivery in driver.claim(["default"], limit=20, lease=10):
            found.append(delivery)
            driver.settle([Done(delivery)])
        if len(found) == 11:
            h.advance(101)
    return found


@scenario("MOVE-01", suite="contract", needs=("browse", "control", "pause", "unique", "key", "concurrency", "priority"))
def scenario_move_01_all_that_waits_goes_over_and_back(h: Harness) -> None:
    """Move jobs of every kind to another backend and back: each is there once, with all that it had, and runs in its turn."""
    here: Any = h.driver()
    there = _elsewhere(h)
    messages = _load(h)
    here.send_unique(messages)
    h.advance(30)
    assert _move(h, here, there) == len(messages)
    assert here.browse(Query()).records == [], "a job is in both"
    assert {record.id for record in there.browse(Query()).records} == {message.id for message in messages}
    here.resume("default")
    assert _move(h, there, here) == len(messages)
    [receipt] = here.send_unique([h.message("another", unique=Unique("scope"))])
    assert not receipt.created, "its scope did not go over"
    [tagged] = here.browse(Query(tag="a")).records
    assert (tagged.body, tagged.message.retain) == ("tagged", 5.0)
    begin = h.clock.monotonic()
    ran = _all_of(h, here)
    assert Counter(delivery.message.id for delivery in ran) == Counter(message.id for message in messages)
    bodies = [delivery.message.body for delivery in ran]
    assert bodies[0] == "urgent"
    assert bodies.index("first of key") < bodies.index("second of key")
    assert bodies[-1] == "delayed"
    assert h.clock.monotonic() - begin >= 70, "the delay began anew or was forgotten"
    assert all(delivery.attempt == 1 for delivery in ran)


@scenario("MOVE-02", suite="contract", needs=("browse", "control", "pause", "unique_ids", "count"))
def scenario_move_02_an_interrupted_move_goes_on(h: Harness) -> None:
    """Let the source fail right after the target has stored a batch: running the move again loses and repeats nothing."""
    here: Any = h.driver()
    there = _elsewhere(h)
    messages = [h.message(str(number)) for number in range(7)]
    here.send(messages)
    real = here.delete

    def fail(ids: Any) -> Any:
        raise DriverUnavailable("injected")

    here.delete = fail
    with pytest.raises(DriverUnavailable, match="injected"):
        _move(h, here, there)
    here.delete = real
    assert len(there.browse(Query()).records) == len(here.browse(Query()).records) == 7, "it was not in between"
    assert _move(h, here, there) == 7
    assert [record.body for record in there.browse(Query()).records] == [message.body for message in messages]
    assert here.browse(Query()).records == []
    here.send([h.message("late")])
    assert here.claim(["default"], limit=1, lease=10) == [], "the source is not paused"
    assert _move(h, here, there) == 1


@scenario("MOVE-03", needs=("browse", "control", "pause", "delay"))
def scenario_move_03_attempts_count_on_both_sides(h: Harness) -> None:
    """Move a job between two attempts: its budget goes on where it was."""
    queue = h.queue(virtual=True)
    other = Queue(_elsewhere(h), clock=h.clock)
    attempts: list[int] = []

    def flaky(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    for each in (queue, other):
        each.register("flaky", flaky, retries=2, backoff=Backoff.constant(10, jitter=0))
    handle = queue.dispatch(Job("flaky"))
    run_due(queue)
    assert _move(h, queue.driver, other.driver) == 1
    for _ in range(3):
        h.advance(10.1)
        run_due(other)
    assert attempts == [1, 2, 3]
    assert other.get(handle.id).state == "failed"
    other.close()


@scenario("MOVE-04", suite="contract")
def scenario_move_04_a_move_to_itself_is_refused(h: Harness) -> None:
    """Move jobs to where they are: the target would drop every one as known, and the source then delete it."""
    here, same = h.driver(), h.driver()
    here.send([h.message(str(number)) for number in range(5)])
    with pytest.raises(ConfigurationError, match="same backend"):
        move(here, same, clock=h.clock, queues=["default"])
    found: list[Delivery] = []

    def all_there() -> bool:
        found.extend(here.claim(["default"], limit=5, lease=30.0))
        return len(found) >= 5

    wait_until(all_there, "every job to be there still, in a queue that is not paused")
    assert sorted(delivery.message.body for delivery in found) == [str(number) for number in range(5)]
