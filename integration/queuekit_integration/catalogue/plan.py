"""The names that the first test plan fixes and that no other scenario carries."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import Any

import pytest

from queuekit import (
    Backoff,
    ConfigurationError,
    DispatchCancelled,
    DispatchTimeout,
    Event,
    Job,
    JobContext,
    JobHandle,
    Queue,
)
from queuekit.contract import Again, Done, DriverUnavailable
from queuekit.worker.inline import run_due
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, drive, wait_until
from queuekit_integration.registry import scenario


@scenario("register_handler")
def scenario_register_handler(h: Harness) -> None:
    queue = h.queue(virtual=True)
    queue.register("by.name", lambda a, b=2: a + b, retries=1)

    @queue.job
    def decorated(a: int) -> int:
        return a * 10

    assert decorated(4) == 40, "it is still the plain function"
    handles = [queue.dispatch(Job("by.name", {"a": 1})), decorated.dispatch(4)]
    run_due(queue)
    for handle, result in zip(handles, (3, 40), strict=True):
        h.returned(handle, result)


@scenario("dispatch_burst", needs=("count",))
def scenario_dispatch_burst(h: Harness) -> None:
    queue = h.queue()
    ran: set[int] = set()
    queue.register("n", lambda payload: ran.add(payload))
    queue.start_workers(4)
    for i in range(500):
        queue.dispatch(Job("n", i))
    queue.drain(30)
    assert ran == set(range(500))


@scenario("wait_all_processed", needs=("count", "delay"))
def scenario_wait_all_processed(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda: time.sleep(0.01))
    queue.dispatch_many(Job("t") for _ in range(20))
    queue.dispatch(Job("t", delay=3600))
    with pytest.raises(TimeoutError):
        queue.drain(0.05)
    queue.start_workers(4)
    queue.drain(20)
    counts = queue.stats()
    assert (counts.pending, counts.in_flight) == (0, 0)
    assert counts.queues[0].scheduled == 1, "a delayed job does not hold a drain up"


@scenario("poison_message_max_retry")
def scenario_poison_message_max_retry(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[str] = []

    @queue.job(name="poison", retries=3, backoff=Backoff.constant(h.brief(1)))
    def poison(ctx: JobContext) -> None:
        starts.append(ctx.id)
        raise RuntimeError("poison")

    bad = poison.dispatch()
    queue.register("fine", lambda: "fine")
    good = queue.dispatch(Job("fine"))
    drive(h, queue, 11, 1.1, job=bad)
    assert starts == [bad.id] * 4
    assert h.standing(bad).state == "failed"
    h.returned(good, "fine")


@scenario("worker_restart_recovery")
def scenario_worker_restart_recovery(h: Harness) -> None:
    queue = h.queue()
    queue.register("t", lambda payload: payload)
    before = queue.dispatch(Job("t", 1))
    queue.start_workers(2)
    h.returned(before, 1)
    queue.shutdown(5)
    between = queue.dispatch(Job("t", 2))
    assert h.standing(between).state == "pending"
    queue.start_workers(2)
    h.returned(between, 2)


@scenario("unique_queue_scope", needs=("unique",))
def scenario_unique_queue_scope(h: Harness) -> None:
    queue = h.queue(virtual=True)
    one = queue.dispatch(Job("t", 1, queue="q1", unique_for=60))
    two = queue.dispatch(Job("t", 1, queue="q2", unique_for=60))
    assert one.created
    assert two.created
    assert not queue.dispatch(Job("t", 1, queue="q1", unique_for=60)).created


@scenario("dispatch_context_cancellation_precanceled", needs=("count",))
def scenario_dispatch_context_cancellation_precanceled(h: Harness) -> None:
    queue = h.queue(virtual=True)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(DispatchCancelled):
        queue.dispatch(Job("t"), cancel=cancel)
    assert queue.stats().pending == 0


@scenario("dispatch_context_cancellation_deadline_exceeded", needs=("count",))
def scenario_dispatch_context_cancellation_deadline_exceeded(h: Harness) -> None:
    queue = h.queue(virtual=True)
    with pytest.raises(DispatchTimeout) as caught:
        queue.dispatch_many([Job("t"), Job("t")], timeout=0)
    assert caught.value.retryable
    assert queue.stats().pending == 0


@scenario("dispatch_context_cancellation_followup_health", needs=("count",))
def scenario_dispatch_context_cancellation_followup_health(h: Harness) -> None:
    queue = h.queue(virtual=True)
    for _ in range(5):
        with pytest.raises(DispatchTimeout):
            queue.dispatch(Job("t"), timeout=0)
    queue.dispatch(Job("t"), timeout=5)
    assert queue.stats().pending == 1


@scenario("shutdown_during_delay_retry")
def scenario_shutdown_during_delay_retry(h: Harness) -> None:
    queue = h.queue()
    attempts: list[int] = []

    @queue.job(name="flaky", retries=3, backoff=Backoff.constant(0.5))
    def flaky(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("no")

    handle = flaky.dispatch()
    queue.start_workers(1)
    wait_until(lambda: h.standing(handle).state == "scheduled", "the first attempt to fail")
    queue.shutdown(5)
    assert h.standing(handle).state == "scheduled", "the retry was lost with its worker"
    queue.start_workers(1)
    assert h.ended(handle).state == "completed"
    assert attempts == [1, 2]


@scenario("start_shutdown_race_stress", needs=("count",))
def scenario_start_shutdown_race_stress(h: Harness) -> None:
    queue = h.queue()
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    errors: list[BaseException] = []

    def churn(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(15):
            try:
                if rng.random() < 0.5:
                    queue.start_workers(2)
                else:
                    queue.shutdown(5)
            except ConfigurationError as error:
                if "was stopped" not in str(error):
                    errors.append(error)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for i in range(30):
        queue.dispatch(Job("t", i))
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "start and shutdown blocked each other"
    assert errors == []
    queue.shutdown(5)
    queue.start_workers(2)
    queue.drain(20)
    assert sorted(ran) == list(range(30))


@scenario("multi_worker_contention", suite="contract")
def scenario_multi_worker_contention(h: Harness) -> None:
    drivers = [h.driver() for _ in range(4)]
    drivers[0].send([h.message() for _ in range(400)])
    taken: list[str] = []
    lock = threading.Lock()

    def take(driver: Any) -> None:
        while found := driver.claim(["default"], limit=7, lease=60):
            with lock:
                taken.extend(d.message.id for d in found)
            driver.settle([Done(d) for d in found])

    threads = [threading.Thread(target=take, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == len(set(taken)) == 400


@scenario("duplicate_delivery_idempotency", suite="contract", needs=("lease", "fenced"))
def scenario_duplicate_delivery_idempotency(h: Harness) -> None:
    """Deliver a job twice after a lost lease: only the newer delivery's outcome counts, once."""
    driver: Any = h.driver()
    driver.send([h.message()])
    first = h.claim_one(driver, lease=1)
    h.advance(1.1)
    second = h.claim_one(driver, lease=10)
    assert driver.settle([Done(second, result="2")]) == ["applied"]
    assert driver.settle([Done(first, result="1"), Again(first)]) == ["lost", "lost"]
    assert (second.message.id, second.attempt) == (first.message.id, 2)
    assert driver.claim(["default"], limit=5, lease=10) == [], "the late outcome brought the job back"
    if h.can("browse"):
        [record] = driver.get([second.message.id])
        assert (record.state, record.result, record.attempt) == ("completed", "2", 2)


@scenario("ack_boundary_interrupted", needs=("count", "lease"), timing=True)
def scenario_ack_boundary_interrupted(h: Harness) -> None:
    """Interrupt the backend between a handler's end and its settlement: it is settled later, and not run again."""
    queue = h.queue()
    ran: list[int] = []
    inside, leave = threading.Event(), threading.Event()

    @queue.job(name="t")
    def job() -> None:
        ran.append(1)
        inside.set()
        assert leave.wait(20)

    worker = h.work(queue, concurrency=1, lease=10)
    [handle] = h.dispatch_recorded(queue, [job.job()])
    assert inside.wait(20)
    with h.outage(queue):
        leave.set()
        time.sleep(0.5)  # the settlement fails, and more than once
    assert h.ended(handle, seconds=30).state == "completed"
    worker.stop(5)
    assert ran == [1]
    h.finish(Plan(dispatches=1, faults=("outage",)))


@scenario("SETTLE-REPLY-LOST", needs=("count",), timing=True)
def scenario_settle_reply_lost(h: Harness) -> None:
    """Apply a settlement and lose its answer: it is repeated, the job is not, and observers hear of one success."""
    events: list[Event] = []
    queue = h.queue(observers=[events.append])
    ran: list[int] = []
    queue.register("t", lambda: ran.append(1))
    driver: Any = queue.driver
    lost = threading.Event()

    def unanswered(verb: Any) -> Any:
        def call(outcomes: Any, *args: Any, **options: Any) -> Any:
            answer = verb(outcomes, *args, **options)
            if outcomes and not lost.is_set():
                lost.set()
                raise DriverUnavailable("injected: applied, and nobody heard the answer")
            return answer

        return call

    for name in ("settle", "exchange"):
        if hasattr(driver, name):
            setattr(driver, name, unanswered(getattr(driver, name)))
    worker = h.work(queue, concurrency=1, lease=10)
    [handle] = h.dispatch_recorded(queue, [Job("t")])
    assert lost.wait(20)
    wait_until(lambda: any(e.kind in {"settled", "settle_lost"} for e in events), "the settlement to be repeated")
    worker.stop(5)
    told = [e.kind for e in events if e.job_id == handle.id and e.kind != "dispatched"]  # a worker may be quicker
    assert told == ["claimed", "started", "finished", "completed", "settled"]
    assert ran == [1]
    h.finish(Plan(dispatches=1))


@scenario("dispatch_during_broker_fault", needs=("count",), timing=True)
def scenario_dispatch_during_broker_fault(h: Harness) -> None:
    queue = h.queue()
    queue.dispatch(Job("t"))
    with h.outage(queue):
        with pytest.raises(DriverUnavailable) as caught:
            queue.dispatch(Job("t"))
        assert caught.value.retryable
    wait_until(lambda: _accepts(queue), "the queue to take jobs again after the outage")
    assert queue.stats().pending == 2, "one from before, one from after, and none from the outage itself"


def _accepts(queue: Queue) -> bool:
    try:
        queue.dispatch(Job("t"))
    except DriverUnavailable:
        return False
    return True


@scenario("ordering_contract_single_worker_fifo")
def scenario_ordering_contract_single_worker_fifo(h: Harness) -> None:
    queue = h.queue(virtual=True)
    order: list[int] = []
    queue.register("n", lambda payload: order.append(payload))
    for i in range(100):
        queue.dispatch(Job("n", i))
    run_due(queue)
    assert order == list(range(100))


@scenario("ordering_contract_multi_worker_best_effort", needs=("count",))
def scenario_ordering_contract_multi_worker_best_effort(h: Harness) -> None:
    """Order under concurrency is not promised: show that it breaks, and that nothing is lost by it."""
    queue = h.queue()
    ends: list[int] = []

    @queue.job(name="n")
    def number(i: int) -> None:
        time.sleep(0.03 if i % 4 == 0 else 0.001)
        ends.append(i)

    queue.dispatch_many(number.job(i) for i in range(40))
    queue.start_workers(4)
    queue.drain(20)
    assert sorted(ends) == list(range(40))
    assert ends != list(range(40)), "four at once kept the order: the scenario shows nothing"


@scenario("ordering_contract_delayed_immediate_mix", needs=("delay", "virtual_time"))
def scenario_ordering_contract_delayed_immediate_mix(h: Harness) -> None:
    queue = h.queue(virtual=True)
    order: list[str] = []
    queue.register("t", lambda payload: order.append(payload))
    queue.dispatch(Job("t", "late", delay=10))
    queue.dispatch(Job("t", "soon", delay=5))
    queue.dispatch(Job("t", "now"))
    for _ in range(12):
        run_due(queue)
        h.advance(1)
    assert order == ["now", "soon", "late"]


@scenario("retry_delay_timing_windows", needs=("delay", "virtual_time"))
def scenario_retry_delay_timing_windows(h: Harness) -> None:
    queue = h.queue(virtual=True)
    starts: list[float] = []

    @queue.job(name="flaky", retries=4, backoff=Backoff.linear(2, jitter=0.2))  # windows that do not overlap
    def flaky() -> None:
        starts.append(h.clock.monotonic())
        raise ValueError("no")

    begin = h.clock.monotonic()
    flaky.using(delay=3).dispatch()
    for _ in range(400):
        run_due(queue)
        h.advance(0.1)
    assert starts[0] - begin >= 3, "delay: not before"
    waits = [b - a for a, b in itertools.pairwise(starts)]
    for number, wait in enumerate(waits, 1):
        assert 2 * number <= wait <= 2.4 * number + 0.2, f"backoff and jitter: {waits}"
    assert waits == sorted(waits), "backoff grows"


@scenario("delayed_restart_recovery", needs=("processes", "delay", "count"), timing=True)
def scenario_delayed_restart_recovery(h: Harness) -> None:
    """Let producer and backend end while a delay runs: it goes on, and the job runs once, when it is due."""
    first = h.queue()
    begun = time.monotonic()  # the delay runs from the acceptance, which is later than this
    [handle] = h.dispatch_recorded(first, [Job("t", delay=2.0)])
    first.close()
    second = h.queue()
    ran: list[float] = []
    second.register("t", lambda: ran.append(time.monotonic()))
    worker = h.work(second, lease=2.0)
    with h.outage(second):
        time.sleep(1.2)
    assert h.ended(JobHandle(second, handle.id)).state == "completed"
    assert ran[0] - begun >= 2.0
    worker.stop(5)
    h.finish(Plan(dispatches=1, faults=("outage",)))


@scenario("backpressure_saturation", needs=("count",))
def scenario_backpressure_saturation(h: Harness) -> None:
    queue = h.queue()
    gate = threading.Event()
    ran: list[bool] = []
    queue.register("t", lambda: ran.append(gate.wait(20)))
    queue.start_workers(2)
    queue.dispatch_many(Job("t") for _ in range(200))
    wait_until(lambda: queue.stats().in_flight >= 2, "the worker to be saturated")
    time.sleep(0.3)
    counts = queue.stats()
    assert counts.in_flight <= 2 + 2, f"a saturated worker hoards {counts.in_flight} jobs"
    gate.set()
    queue.drain(30)
    assert ran == [True] * 200
    if queue.supports("records"):
        assert queue.stats().queues[0].completed == 200


@scenario("backpressure_saturation_after_quick_jobs", needs=("count",), timing=True)
def scenario_backpressure_saturation_after_quick_jobs(h: Harness) -> None:
    """Let jobs turn long: what was fetched while they were quick goes back, and the worker fetches for its slots alone from then on."""
    queue = h.queue()
    gate = threading.Event()
    released: list[str | None] = []
    queue.observe(lambda event: released.append(event.job_id) if event.kind == "released" else None)
    queue.register("quick", lambda: None)
    queue.register("long", lambda: gate.wait(20))
    queue.dispatch_many(Job("quick") for _ in range(100))
    queue.start_workers(2)
    queue.drain(30)
    queue.dispatch_many(Job("long") for _ in range(200))
    wait_until(lambda: queue.stats().in_flight >= 2, "the worker to be saturated")
    time.sleep(1.0)
    wait_until(lambda: queue.stats().in_flight <= 2 + 2, "what will not be started soon to be given back", seconds=10)
    before = len(released)
    time.sleep(1.0)
    counts = queue.stats()
    assert counts.in_flight <= 2 + 2, f"a saturated worker hoards {counts.in_flight} jobs again"
    assert len(released) <= before + 2, f"in a second {len(released) - before} jobs were fetched and given back again"
    gate.set()
    queue.drain(30)


@scenario("config_option_fuzz", needs=("count",))
def scenario_config_option_fuzz(h: Harness) -> None:
    """Throw random options at a job: each is either dispatched whole or refused with a ConfigurationError."""
    rng = random.Random(20)
    values: list[Any] = [None, 0, 1, -1, 9, 0.5, float("nan"), "", "x", [], {}, ("k", 2), True, b"", object()]
    names = ["delay", "retries", "timeout", "deadline", "priority", "key", "concurrency", "rate_limit", "unique_for"]
    names += ["unique_key", "until", "on_conflict", "delivery", "settle", "retain", "tags", "headers"]
    queue = h.queue(virtual=True)
    accepted = refused = 0
    for _ in range(400):
        options = {name: rng.choice(values) for name in rng.sample(names, rng.randint(1, 3))}
        try:
            accepted += queue.dispatch(Job("t", **options)).created
        except ConfigurationError:
            refused += 1
    assert accepted > 20
    assert refused > 20
    counts = queue.stats()
    assert counts.pending + sum(c.scheduled for c in counts.queues) == accepted


@scenario("observability_contract")
def scenario_observability_contract(h: Harness) -> None:
    events: list[Event] = []
    queue = h.queue(virtual=True, observers=[events.append])
    queue.register("ok", lambda: None)
    queue.register("bad", _bad, retries=0)
    good, bad, unknown = queue.dispatch(Job("ok")), queue.dispatch(Job("bad")), queue.dispatch(Job("nobody"))
    run_due(queue)
    kinds = {h_.id: [e.kind for e in events if e.job_id == h_.id] for h_ in (good, bad, unknown)}
    assert kinds[good.id] == ["dispatched", "claimed", "started", "finished", "completed", "settled"]
    assert kinds[bad.id] == ["dispatched", "claimed", "started", "finished", "failed", "settled"]
    assert kinds[unknown.id][:3] == ["dispatched", "claimed", "unknown_type"]
    [failed] = [e for e in events if e.kind == "failed"]
    assert (failed.reason, failed.error) == ("error", "ValueError: no")
    assert all(e.at > 0 and e.version == 1 for e in events)


def _bad() -> None:
    raise ValueError("no")


@scenario("config_option_fuzz_invalid_combinations", needs=("count", "key", "concurrency"))
def scenario_config_option_fuzz_invalid_combinations(h: Harness) -> None:
    """One bad value among good ones: refused by its name, in any company, and nothing is stored."""
    rng = random.Random(21)
    good: dict[str, list[Any]] = {
        "delay": [0, 5], "retries": [0, 3], "timeout": [1, 0.5], "priority": [0, 9], "key": ["k", "ü"],
        "concurrency": [("c", 2)], "rate_limit": ["10/s", "1/m"], "unique_for": [60], "retain": [0, 60], "tags": [["x"]],
        "headers": [{"a": "b"}],
    }  # fmt: skip
    bad: dict[str, list[Any]] = {
        "delay": [-1, "5"], "retries": [-1, 1.5], "timeout": [0, "x"], "priority": [10, -1], "key": ["", 5],
        "concurrency": [("c", 0), "c"], "rate_limit": ["x", 5], "unique_for": [-1, 0], "retain": [-1, "x"], "tags": ["x", [5]],
        "headers": [{"a": 1}],
    }  # fmt: skip
    queue = h.queue(virtual=True)
    if not queue.supports("priority"):
        del good["priority"], bad["priority"]
    for name, values in bad.items():
        for value in values:
            company = rng.sample(sorted(set(good) - {name}), 3)
            options = {other: rng.choice(good[other]) for other in company}
            with pytest.raises(ConfigurationError, match=name):
                queue.dispatch(Job("t", **options, **{name: value}))
    assert queue.stats().pending == 0
    queue.dispatch(Job("t", **{name: values[0] for name, values in good.items() if name not in {"delay", "retain"}}))
    assert queue.stats().pending == 1, "the good ones alone are good"
