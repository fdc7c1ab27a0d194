"""When things happen: the parts of the first test plan about delays, backoff, timeouts and load."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict

import pytest

from queuekit import Backoff, DispatchCancelled, Event, Job, JobContext, Queue
from queuekit.contract import Done
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario

STEP = 0.5
"""Seconds of virtual time between two looks: how late a start may seem."""


def drive(h: Harness, queue: Queue, seconds: float) -> None:
    """Let virtual time pass step by step, running what is due at each."""
    run_due(queue)
    for _ in range(round(seconds / STEP)):
        h.advance(STEP)
        run_due(queue)


def waits_of(starts: list[float]) -> list[float]:
    """Return the seconds between neighbouring starts."""
    return [later - earlier for earlier, later in itertools.pairwise(starts)]


def failing(h: Harness, queue: Queue, *, retries: int, backoff: Backoff) -> dict[str, list[float]]:
    """Register the type `fails`, whose attempts note when they start; return the notes by job."""
    starts: dict[str, list[float]] = defaultdict(list)

    @queue.job(name="fails", retries=retries, backoff=backoff)
    def fails(ctx: JobContext) -> None:
        starts[ctx.id].append(h.clock.monotonic())
        raise ValueError("no")

    return starts


@scenario("retry_delay_timing_windows_delay_not_before_window", needs=("delay", "virtual_time"))
def scenario_retry_delay_timing_windows_delay_not_before_window(h: Harness) -> None:
    queue = h.queue(virtual=True)
    started: dict[float, float] = {}

    def note(payload: float) -> None:
        started[payload] = h.clock.monotonic()

    queue.register("t", note)
    begin = h.clock.monotonic()
    delays = [0.0, 0.7, 1.0, 3.2, 6.0, 6.0 + STEP / 2]
    queue.dispatch_many(Job("t", delay, delay=delay) for delay in delays)
    drive(h, queue, 8)
    assert sorted(started) == delays
    for delay, at in started.items():
        assert delay <= at - begin <= delay + STEP + 1e-6, f"delay={delay} started after {at - begin}"


@scenario("retry_delay_timing_windows_retry_backoff_not_before_window", needs=("delay", "virtual_time"))
def scenario_retry_delay_timing_windows_retry_backoff_not_before_window(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts = failing(h, queue, retries=4, backoff=Backoff.exponential(base=1, factor=2, max=6))
    queue.dispatch(Job("fails"))
    drive(h, queue, 20)
    [mine] = starts.values()
    for wait, wanted in zip(waits_of(mine), [1, 2, 4, 6], strict=True):
        assert wanted <= wait <= wanted + STEP + 1e-6, f"waits were {waits_of(mine)}"


@scenario("retry_delay_timing_windows_backoff_monotonic_under_load", needs=("delay", "virtual_time"))
def scenario_retry_delay_timing_windows_backoff_monotonic_under_load(h: Harness) -> None:
    """Among other work every job keeps its own growing waits."""
    queue = h.queue(virtual=True)
    starts = failing(h, queue, retries=3, backoff=Backoff.exponential(base=1, factor=3, max=60))
    others: list[int] = []
    queue.register("other", lambda payload: others.append(payload))
    for i in range(8):
        queue.dispatch(Job("fails", delay=i / 4))
        queue.dispatch_many(Job("other", i, delay=i) for _ in range(5))
    drive(h, queue, 18)
    assert len(others) == 40
    assert len(starts) == 8
    for mine in starts.values():
        waits = waits_of(mine)
        assert len(waits) == 3
        assert all(later >= earlier for earlier, later in itertools.pairwise(waits)), f"waits shrank: {waits}"


@scenario("retry_delay_timing_windows_jitter_range", needs=("delay", "virtual_time"))
def scenario_retry_delay_timing_windows_jitter_range(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts = failing(h, queue, retries=1, backoff=Backoff.constant(10, jitter=0.5))
    queue.dispatch_many(Job("fails") for _ in range(40))
    drive(h, queue, 16)
    waits = [wait for mine in starts.values() for wait in waits_of(mine)]
    assert len(waits) == 40
    assert all(10 <= wait <= 15 + STEP for wait in waits), f"outside of the range: {sorted(waits)}"
    assert max(waits) - min(waits) >= 2, "forty retries of one instant came back together"


@scenario("retry_delay_timing_windows_timeout_retry_interaction", timing=True)
def scenario_retry_delay_timing_windows_timeout_retry_interaction(h: Harness) -> None:
    """Let attempts time out: the wait counts from the attempt's end, and the next has its whole timeout."""
    starts: list[float] = []

    def note(event: Event) -> None:
        if event.kind == "started":
            starts.append(time.monotonic())  # before the handler is entered, where the timeout begins

    queue = h.queue(observers=[note])

    @queue.job(name="spin", timeout=0.3, retries=1, backoff=Backoff.constant(0.4))
    def spin() -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)

    handle = spin.dispatch()
    queue.start_workers(1)
    info = h.ended(handle)
    ended = time.monotonic()
    assert (info.state, info.reason) == ("failed", "timeout")
    assert len(info.errors) == 2
    if h.lookup:
        assert [error.reason for error in handle.info().errors] == ["timeout", "timeout"]
    [wait] = waits_of(starts)
    assert wait >= 0.3 + 0.4, f"the retry came {wait:.2f} s after the first start"
    assert ended - starts[1] >= 0.3, "the second attempt did not have its whole timeout"


@scenario("backpressure_saturation_recovery_after_saturation", needs=("count",), timing=True)
def scenario_backpressure_saturation_recovery_after_saturation(h: Harness) -> None:
    """Once the pressure is gone, a new job starts as soon as on an idle worker."""
    queue = h.queue()
    gate = threading.Event()
    queue.register("held", lambda: gate.wait(20))
    queue.register("quick", lambda: None)
    queue.start_workers(2)
    queue.dispatch_many(Job("held") for _ in range(100))
    wait_until(lambda: queue.stats().in_flight >= 2, "the worker to be saturated")
    late = queue.dispatch(Job("quick"))
    time.sleep(0.2)
    assert h.standing(late).state == "pending", "it overtook a hundred others"
    gate.set()
    queue.drain(30)
    assert h.ended(late, seconds=1).state == "completed"
    begin = time.monotonic()
    h.ended(queue.dispatch(Job("quick")))
    assert time.monotonic() - begin < 2


@scenario("backpressure_saturation_depth_latency_range", suite="contract", needs=("count", "virtual_time"))
def scenario_backpressure_saturation_depth_latency_range(h: Harness) -> None:
    """Depth and the oldest job's age tell how far behind the workers are, and nothing once they have caught up."""
    driver = h.driver()
    depths: list[int] = []
    ages: list[float] = []

    def look() -> None:
        [counts] = driver.count(["default"])  # type: ignore[attr-defined]  # the scenario needs it
        depths.append(counts.pending)
        ages.append(counts.oldest_ready_age or 0.0)

    for _ in range(10):
        driver.send([h.message() for _ in range(3)])
        driver.settle([Done(h.claim_one(driver))])
        h.advance(1)
        look()
    assert depths == list(range(2, 21, 2)), "three come and one goes each second"
    assert all(later >= earlier for earlier, later in itertools.pairwise(ages)), f"ages while behind: {ages}"
    assert 6 <= ages[-1] <= 10, f"ten of thirty are done, so the oldest waits since the fourth second: {ages}"
    while found := driver.claim(["default"], limit=5, lease=60):
        driver.settle([Done(delivery) for delivery in found])
        look()
    assert depths[10:] == [15, 10, 5, 0]
    assert ages[-1] == 0.0


@scenario("dispatch_context_cancellation_midflight_canceled", needs=("count",))
def scenario_dispatch_context_cancellation_midflight_canceled(h: Harness) -> None:
    """Withdraw a dispatch on its way: nothing is stored; after acceptance: it stays accepted."""
    queue = h.queue(virtual=True)
    queue.open()
    cancel = threading.Event()
    real = queue.driver.prepare

    def withdrawn(queues: list[str]) -> None:
        cancel.set()
        real(queues)

    setattr(queue.driver, "prepare", withdrawn)  # noqa: B010 - the caller changes its mind while the queue is made
    with pytest.raises(DispatchCancelled):
        queue.dispatch(Job("t", queue="new"), cancel=cancel)
    setattr(queue.driver, "prepare", real)  # noqa: B010
    assert queue.stats().pending == 0
    later = threading.Event()
    queue.dispatch(Job("t", queue="new"), cancel=later)
    later.set()
    assert queue.stats().pending == 1


@scenario("ordering_contract", suite="contract")
def scenario_ordering_contract(h: Harness) -> None:
    """Hand-outs follow the order of acceptance, whoever claims; what comes back without a wait keeps its place."""
    one, two = h.driver(), h.driver()
    sent = [h.message(str(i)) for i in range(20)]
    one.send(sent[:10])
    two.send(sent[10:])
    seen = []
    for i in range(20):
        delivery = h.claim_one((one, two)[i % 2])
        seen.append(delivery.message.body)
        (one, two)[i % 2].settle([Done(delivery)])
    assert seen == [str(i) for i in range(20)]
