"""LIM: how large a payload may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from queuekit import Job, PayloadTooLarge, Queue
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


def largest(queue: Queue) -> int:
    """Return the length of the longest text that fits: what the envelope adds is learned from a refusal."""
    limit = queue.driver.limits.body_bytes
    with pytest.raises(PayloadTooLarge) as caught:
        queue.dispatch(Job("t", "x" * limit))
    return limit - (caught.value.size - limit)


def receiving(h: Harness) -> tuple[Queue, list[str]]:
    """Return a queue whose handler keeps what it gets, and that."""
    queue, seen = h.queue(virtual=True), list[str]()
    queue.register("t", lambda payload: seen.append(payload))
    return queue, seen


def arrives(h: Harness, queue: Queue, seen: list[str], text: str) -> None:
    """Dispatch a text, look it up where that can be done, and run it: it is what was sent."""
    handle = queue.dispatch(Job("t", text))
    if h.lookup:
        assert handle.info().payload == text
    run_due(queue)
    assert seen.pop() == text
    assert seen == []


@scenario("payload_large")
def scenario_payload_large(h: Harness) -> None:
    """Send large texts, also of characters that take several bytes: each arrives as it is."""
    queue, seen = receiving(h)
    most = min(queue.driver.limits.body_bytes // 2, 1 << 20)
    for character in ("x", "ü", "\U0001f600"):
        text = character * (most // len(character.encode()))
        arrives(h, queue, seen, text)


@scenario("payload_large_below_limit")
def scenario_payload_large_below_limit(h: Harness) -> None:
    queue, seen = receiving(h)
    text = "x" * (largest(queue) - 1)
    arrives(h, queue, seen, text)


@scenario("LIM-01")
def scenario_payload_large_at_limit(h: Harness) -> None:
    queue, seen = receiving(h)
    text = "x" * largest(queue)
    arrives(h, queue, seen, text)
    handle = queue.dispatch(Job("t", text))
    if h.lookup:
        [record] = _driver(queue).get([handle.id])
        assert len(record.body.encode()) == queue.driver.limits.body_bytes
    assert len(h.claim_one(queue.driver).message.body.encode()) == queue.driver.limits.body_bytes


@scenario("LIM-02", needs=("count",))
def scenario_payload_large_above_limit(h: Harness) -> None:
    """One byte too many is refused before anything is sent, alone and in a batch."""
    queue = h.queue(virtual=True)
    text = "x" * (largest(queue) + 1)
    driver = _driver(queue)
    sent: list[Any] = []

    def watch(verb: Callable[..., None]) -> Callable[..., None]:
        def watched(what: Any, **options: Any) -> None:
            sent.append(what)
            verb(what, **options)

        return watched

    for name in ("send", "send_fresh"):
        if hasattr(driver, name):
            setattr(driver, name, watch(getattr(driver, name)))
    with pytest.raises(PayloadTooLarge) as caught:
        queue.dispatch(Job("t", text))
    assert (caught.value.size, caught.value.limit) == (driver.limits.body_bytes + 1, driver.limits.body_bytes)
    with pytest.raises(PayloadTooLarge):
        queue.dispatch_many([Job("t", "fits"), Job("t", text)])
    assert sent == []
    assert queue.stats().pending == 0
    queue.dispatch(Job("t", "fits"))
    assert sent, "the watch on the driver saw nothing at all"


def _driver(queue: Queue) -> Any:
    queue.open()
    return queue.driver


class Colour(Enum):
    """A value that JSON has no word for."""

    RED = "red"


@scenario("LIM-06-TYPED")
def scenario_lim_06_annotated_values_arrive_equal(h: Harness) -> None:
    """Send what JSON has no word for: a handler that says what it wants gets just that."""
    queue = h.queue(virtual=True)
    seen: list[Any] = []

    @queue.job(name="typed")
    def typed(
        amount: Decimal,
        at: datetime,
        day: date,
        key: UUID,
        colour: Colour,
        pair: tuple[int, str],
        some: set[int],
        raw: bytes,
    ) -> None:
        seen.append((amount, at, day, key, colour, pair, some, raw))

    zone = timezone(timedelta(hours=5, minutes=45))
    sent = (
        Decimal("1.10"), datetime(2026, 3, 29, 1, 59, 59, 999999, zone), date(2028, 2, 29), UUID(int=7), Colour.RED,
        (2**40, "two"), {1, 2, 3}, bytes(range(256)),
    )  # fmt: skip
    typed.dispatch(*sent)
    run_due(queue)
    assert seen == [sent]
    assert seen[0][1].utcoffset() == timedelta(hours=5, minutes=45)
    assert str(seen[0][0]) == "1.10", "a decimal's zeros say how exact it is"


@scenario("LIM-12", needs=("count",), timing=True)
def scenario_lim_12_many_queues(h: Harness) -> None:
    """Serve five hundred queues with one worker: it starts soon, claims soon, and every queue has its turn."""
    queue = h.queue()
    names = [f"q{number}" for number in range(500)]
    seen: list[str] = []
    queue.register("t", lambda payload: seen.append(payload))
    queue.dispatch_many(Job("t", name, queue=name) for name in names)
    begin = time.process_time()  # what others make of this machine is not the worker's doing
    with queue.worker(concurrency=4, queues=names) as worker:
        assert worker.ready(20)
        wait_until(lambda: len(seen) >= len(names), "every queue to have had its turn", seconds=30)
    assert sorted(seen) == sorted(names)
    assert time.process_time() - begin < 10, "many queues made every claim dear"
