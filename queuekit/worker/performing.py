"""Performing: what happens to one attempt on its thread, from the last look before the start to the outcome in the pump's hands."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from queuekit import bounds
from queuekit.clock import Wakeup
from queuekit.contract import Outcome, Released
from queuekit.errors import DriverError
from queuekit.worker import own_transaction, telling, verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.pace import Pace
from queuekit.worker.runtime import Runtime
from queuekit.worker.slots import Slots
from queuekit.worker.threads import Slot
from queuekit.worker.timeouts import Timeouts

if TYPE_CHECKING:
    from queuekit.queue import Queue
    from queuekit.worker.processes import ProcessPool

__all__ = ["Performer"]

_log = logging.getLogger("queuekit.worker")
ASK_FIRST, ASK_MOST = 0.1, 5.0
"""Seconds between questions what became of a handler's own transaction: doubling."""


class Performer:
    """Brings attempts to their outcomes, each on the thread that calls.

    `finish` takes an attempt that has one; `stopping` says whether the worker starts nothing more.
    """

    slots: Slots | None = None
    """The places that threads and the event loop share, where a worker has both."""

    def __init__(
        self,
        queue: Queue,
        runtime: Runtime,
        timeouts: Timeouts,
        pace: Pace,
        *,
        stopping: Callable[[], bool],
        finish: Callable[[Attempt], None],
    ) -> None:
        self._hooks = queue.hooks
        self._driver = queue.driver
        self._longest_delay = queue.driver.limits.longest_delay
        self._clock = queue.clock
        self._runtime = runtime
        self._timeouts = timeouts
        self._pace = pace
        self._stopping = stopping
        self._finish = finish
        self._lock = threading.Lock()
        self._processes: ProcessPool | None = None

    def perform(self, attempt: Attempt, slot: Slot) -> None:
        """Bring one attempt to its outcome on an executor thread."""
        slots = self.slots
        if slots is not None:
            slots.take()
        try:
            if self.before(attempt):
                start = time.perf_counter()
                outcome = self._outcome(attempt, slot)
                attempt.duration = time.perf_counter() - start
                self.after(attempt, outcome)
            else:
                self.after(attempt, attempt.outcome)
        finally:
            if slots is not None:
                slots.give()

    def before(self, attempt: Attempt) -> bool:
        """Look once more whether it may start; if not, its outcome is set."""
        attempt.started = True
        if self._is_over(attempt):
            return False
        if attempt.give_back or self._stopping():
            attempt.outcome = Released(attempt.delivery)
            return False
        attempt.outcome = self._runtime.judge(attempt)
        if attempt.outcome is not None or self._is_over(attempt):  # asking for the backend's time may have taken long
            return False
        timeout = attempt.policy.timeout
        if timeout is not None:
            attempt.ends_at = self._clock.time() + timeout
        if self._runtime.listening:
            self._runtime.tell(attempt, "started")
        return True

    def _is_over(self, attempt: Attempt) -> bool:
        """Whether the lease has ended, so that others may have the job."""
        attempt.lost = attempt.lost or attempt.lease_end <= self._clock.monotonic()
        return attempt.lost

    def _outcome(self, attempt: Attempt, slot: Slot) -> Outcome:
        """Run the handler; trouble around it (no process to be had, a broken hook) is a failed attempt as well."""
        try:
            return self._run_handler(attempt, slot)
        except Exception as error:
            _log.exception("job %s failed outside of its handler", attempt.delivery.message.id)
            return verdict.of_error(attempt, error)

    def _run_handler(self, attempt: Attempt, slot: Slot) -> Outcome:
        handler = attempt.handler
        assert handler is not None
        if handler.options.executor == "process":
            return self._run_in_process(attempt)
        if attempt.policy.timeout is not None:
            self._timeouts.watch(attempt, slot, attempt.policy.timeout)
        attempt.stop = None
        return slot.run(attempt, self._runtime)

    def _run_in_process(self, attempt: Attempt) -> Outcome:
        """Run the handler in a child; job hooks run here, around it."""
        hooks = self._hooks
        if not hooks.per_job:
            return self.process_pool().run(attempt)
        context = attempt.context()
        hooks.call("job_start", context)
        try:
            return self.process_pool().run(attempt)
        finally:
            hooks.call("job_end", context)

    def process_pool(self) -> ProcessPool:
        """Return the child processes, made at the first call."""
        from queuekit.worker.processes import ProcessPool  # noqa: PLC0415 - multiprocessing costs what threads never need

        with self._lock:
            if self._processes is None:
                self._processes = ProcessPool(self._runtime)
            return self._processes

    def after(self, attempt: Attempt, outcome: Outcome | None) -> None:
        """Hand an attempt's outcome to the pump."""
        if outcome is not None and self._longest_delay is not None:
            outcome = bounds.within(outcome, self._longest_delay, self._clock.time())
        attempt.outcome = outcome
        if attempt.completing is not None and outcome is not None:
            self._learn(attempt, outcome)
        elif self._runtime.listening and attempt.started:
            telling.tell_outcome(self._runtime, attempt)
        if attempt.policy.settle_now and attempt.outcome is not None:
            self._settle_now(attempt, attempt.outcome)
        self._finish(attempt)

    def _settle_now(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle before this thread goes on, for jobs with `settle="sync"`."""
        try:
            [answer] = self._driver.settle([outcome])
        except DriverError as error:
            _log.warning("job %s is settled later: %s", attempt.delivery.message.id, error)
            return
        attempt.outcome = None
        self._pace.note([outcome])
        self._runtime.tell(attempt, verdict.event_of(answer))

    def _learn(self, attempt: Attempt, outcome: Outcome) -> None:
        """Ask what became of the handler's own transaction; an open one is waited for here, where only this slot waits."""
        attempt.outcome = None
        pause = ASK_FIRST
        while not attempt.give_back or pause == ASK_FIRST:
            try:
                attempt.outcome, answer = own_transaction.learn(self._driver, attempt, outcome)
            except DriverError as error:
                _log.warning("whether job %s is completed is not known yet: %s", attempt.delivery.message.id, error)
                self._clock.wait(Wakeup(), pause)
                pause = min(ASK_MOST, 2 * pause)
                continue
            telling.tell_learned(self._runtime, attempt, outcome, answer)
            self._pace.note([attempt.outcome])
            attempt.outcome = None
            return

    def close(self) -> None:
        """End the child processes."""
        if self._processes is not None:
            self._processes.close()
