"""Running jobs in their dispatcher: for `sync://`, and for tests that move a virtual clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from queuekit import bounds
from queuekit.contract import Again, Delivery, Outcome, Progress, Released
from queuekit.worker import own_transaction, verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.loop import run_async
from queuekit.worker.runtime import Runtime
from queuekit.worker.telling import tell_learned, tell_outcome
from queuekit.worker.worker import _all_queues

if TYPE_CHECKING:
    from queuekit.queue import Queue

__all__ = ["run_all", "run_due", "run_job"]

LEASE = 3600.0


def run_job(queue: Queue, id: str) -> int:
    """Run this very job until it has ended; retries follow at once. Returns how many attempts that took."""

    def lend() -> list[Delivery]:
        lent = queue.driver.lend([id], lease=LEASE)  # type: ignore[attr-defined]  # an inline driver is an engine
        return [delivery for delivery in lent if isinstance(delivery, Delivery)]

    return _run(queue, lend, at_once=True)


def run_all(queue: Queue) -> int:
    """Run every job until it has ended; retries follow at once. Returns how many attempts that took."""
    return _run(queue, lambda: _claim(queue, _all_queues(queue)), at_once=True)


def run_due(queue: Queue, queues: Sequence[str] | None = None) -> int:
    """Run what is due now, and what becomes due while doing so, on this thread; return how many attempts that took."""
    names = list(queues or _all_queues(queue))
    return _run(queue, lambda: _claim(queue, names), at_once=False)


def _claim(queue: Queue, names: list[str]) -> list[Delivery]:
    return queue.driver.claim(_with_pending(queue, names), limit=1, lease=LEASE)


def _run(queue: Queue, lend: Callable[[], list[Delivery]], *, at_once: bool) -> int:
    queue.open()
    runtime = Runtime(queue, f"inline-{threading.get_ident()}", progress=lambda attempt: _report(queue, attempt))
    count = 0
    while deliveries := lend():
        attempt = Attempt(deliveries[0], runtime, queue.clock.monotonic())
        runtime.tell(attempt, "claimed")
        outcome = _outcome(runtime, attempt)
        attempt.outcome = _without_delay(outcome) if at_once else _hopping(queue, outcome)
        attempt.finished = True
        _settle(queue, runtime, attempt, attempt.outcome)
        count += 1
    return count


def _settle(queue: Queue, runtime: Runtime, attempt: Attempt, outcome: Outcome) -> None:
    if attempt.completing is not None:
        attempt.outcome, answer = own_transaction.learn(queue.driver, attempt, outcome)
        tell_learned(runtime, attempt, outcome, answer)
        return
    tell_outcome(runtime, attempt)
    [answer] = queue.driver.settle([outcome])
    runtime.tell(attempt, verdict.event_of(answer))


def _hopping(queue: Queue, outcome: Outcome) -> Outcome:
    longest = queue.driver.limits.longest_delay
    return outcome if longest is None else bounds.within(outcome, longest, queue.clock.time())


def _with_pending(queue: Queue, names: list[str]) -> list[str]:
    """Return the named queues and all others that hold jobs: nothing else works them off here."""
    if "count" not in queue.features:
        return names
    counted = [counts.queue for counts in queue.driver.count()]  # type: ignore[attr-defined]  # the feature was checked
    return list(dict.fromkeys([*names, *counted]))


def _outcome(runtime: Runtime, attempt: Attempt) -> Outcome:
    judged = runtime.judge(attempt)
    if judged is not None:
        return judged
    if attempt.policy.timeout is not None:
        attempt.ends_at = runtime.clock.time() + attempt.policy.timeout
    runtime.tell(attempt, "started")
    handler = attempt.handler
    if handler is not None and handler.is_async:
        return _on_a_loop(runtime, attempt)
    return runtime.run_plain(attempt)


def _on_a_loop(runtime: Runtime, attempt: Attempt) -> Outcome:
    """Run an async handler to its end, on a loop in a thread of its own (the caller may be on a loop already)."""
    outcomes: list[Outcome] = []

    async def run() -> None:
        try:
            outcomes.append(await run_async(runtime, attempt))
        except BaseException as error:
            outcomes.append(verdict.of_error(attempt, error))

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="queuekit-inline")
    thread.start()
    thread.join()
    return outcomes[0]


def _without_delay(outcome: Outcome) -> Outcome:
    match outcome:
        case Again():
            return Again(outcome.delivery, 0.0, outcome.error, outcome.successor, outcome.follow_ups)
        case Released() if outcome.delay:
            return Released(outcome.delivery, 0.0, outcome.successor, outcome.follow_ups)
        case _:
            return outcome


def _report(queue: Queue, attempt: Attempt) -> None:
    if "records" in queue.features and attempt.progress is not None:
        queue.driver.report([Progress(attempt.delivery, *attempt.progress)])  # type: ignore[attr-defined]
        attempt.progress = None
