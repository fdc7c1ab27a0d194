"""A worker: claims jobs, runs them, settles them, and stops in good order."""

from __future__ import annotations

import logging
import math
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from queuekit.clock import Wakeup
from queuekit.contract import Delivery, Done, Outcome, Released, Settlement, WorkerInfo
from queuekit.durations import Duration, seconds, whole
from queuekit.errors import ConfigurationError, DriverError, DriverUnavailable, JobTimeout, QueueClosed
from queuekit.ids import new_id
from queuekit.worker import verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.demand import Demand
from queuekit.worker.leases import LeaseKeeper
from queuekit.worker.pace import Pace
from queuekit.worker.performing import Performer
from queuekit.worker.runtime import Runtime
from queuekit.worker.shares import Shares
from queuekit.worker.slots import Slots
from queuekit.worker.threads import ThreadExecutor
from queuekit.worker.timeouts import Timeouts

if TYPE_CHECKING:
    from queuekit.queue import Queue
    from queuekit.worker.loop import LoopExecutor

__all__ = ["Worker"]

_log = logging.getLogger("queuekit.worker")
WAIT = 1.0
"""Seconds that an idle claim waits before it looks around."""
SHARE = 10
"""Part of a lease that it waits at most: a lease counts from before the claim, whenever it began meanwhile."""
OVERDUE = 0.2
"""Seconds after which a job that was claimed and not started is given back: its slots turned out to be slow."""
RETRY_FIRST, RETRY_MOST = 0.1, 5.0
"""Seconds between tries to reach a backend that does not answer: doubling, for ever."""
LAST_WORD = 2.0
"""Seconds that interrupted handlers have to end before `stop` returns without them."""


class Worker:
    """Works off the queues of one `Queue` object, `concurrency` jobs at once.

    1. The pump thread exchanges finished outcomes for new deliveries, in batches.
    2. Executor threads (or the event loop, or child processes) run handlers.
    3. The lease keeper renews every lease on a thread of its own.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        concurrency: int = 10,
        queues: Mapping[str, int] | Sequence[str] | None = None,
        lease: Duration = 30,
        name: str | None = None,
    ) -> None:
        self._queue = queue
        self._driver = queue.driver
        self._clock = queue.clock
        self._concurrency = whole("concurrency", concurrency, least=1, most=10_000)
        self._lease = _checked_lease(lease, self._driver.limits.longest_lease)
        self._by_time = self._driver.limits.lease_by == "time"
        self._asked_queues = None if queues is None else Shares.of(queues)
        self._shares = self._asked_queues or Shares.of([queue.default_queue])
        self.id = name or f"{platform.node()}-{os.getpid()}-{new_id()[-8:]}"
        if self._driver.limits.inline:
            message = f"{self._driver.limits.name}:// runs jobs in their dispatcher: it needs no workers"
            raise ConfigurationError(message)
        self._runtime = Runtime(queue, self.id, progress=self._note_progress, let_be=self._let_be)
        self._keeper = LeaseKeeper(
            driver=self._driver,
            features=queue.features,
            runtime=self._runtime,
            clock=self._clock,
            lease=self._lease,
            held=self._held_now,
            describe=self._describe,
            give_back=self._mark_give_back,
        )
        self._timeouts = Timeouts(self._runtime, self._clock, stuck=self._note_stuck)
        self._pace = Pace(self._clock)
        self._performer = Performer(
            queue, self._runtime, self._timeouts, self._pace, stopping=lambda: self._stopping, finish=self._finish
        )
        self._threads = ThreadExecutor(self._concurrency, self._performer.perform, name="queuekit-job")
        self._loop: LoopExecutor | None = None
        self._demand = Demand(self._concurrency)
        self._wakeup = Wakeup()
        self._held: set[Attempt] = set()
        self._finished: deque[Attempt] = deque()
        self._lock = threading.Lock()
        self._pump: threading.Thread | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._stopping = False
        self._abandoned = False
        self._started_at = 0.0
        self._failures = 0
        self.error: Exception | None = None
        """What ended it, when it was an error."""
        self.stuck = threading.Event()
        """Set when a handler did not end after its timeout and the grace: a supervisor replaces such a process."""
        self.done = 0
        """Jobs settled so far."""

    # ------------------------------------------------------------------------------------------------------- life

    def start(self) -> Worker:
        """Start working in the background. Idempotent, from any thread; a stopped worker cannot be started again."""
        with self._lock:
            if self._stopping:
                message = "this worker was stopped; ask the queue for a new one"
                raise ConfigurationError(message)
            if self._pump is None:
                self._pump = threading.Thread(target=self._run, name="queuekit-pump", daemon=True)
                self._pump.start()
        return self

    def ready(self, timeout: Duration = 5) -> bool:
        """Block until the backend has answered the worker's first claim, at most `timeout` seconds; whether it has."""
        return self._ready.wait(seconds("timeout", timeout))

    def stop(self, timeout: Duration = 30) -> list[str]:
        """Stop in good order, and return the ids of jobs that still run.

        Claims no more, gives back at once what has not started, waits up to `timeout` seconds for what runs, then
        interrupts it. A handler that cannot be interrupted keeps its lease until it ends. Idempotent, from any thread.
        """
        grace = seconds("timeout", timeout)
        with self._lock:
            self._stopping = True
            pump = self._pump
        self._wakeup.set()
        if pump is None:
            return []
        if not self._ended.wait(grace):
            self._interrupt_all()
            self._ended.wait(LAST_WORD)
        return [attempt.delivery.message.id for attempt in self._held_now()]

    def abandon(self) -> list[str]:
        """Give every lease back, those of running handlers too: for a process that leaves at once. Returns their ids.

        The worker claims nothing more, or it would take back what it gives.
        """
        self._stopping = self._abandoned = True
        self._wakeup.set()
        attempts = [attempt for attempt in self._held_now() if not attempt.finished and attempt.completing is None]
        for attempt in attempts:
            attempt.lost = True
        if attempts:
            self._driver.settle([_abandoned(attempt) for attempt in attempts])
        return [attempt.delivery.message.id for attempt in attempts]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was asked for, in the units that it works with: the same for two workers that do the same."""
        queues = None if self._asked_queues is None else self._asked_queues.weights
        return {"concurrency": self._concurrency, "queues": queues, "lease": self._lease}

    @property
    def ended(self) -> bool:
        """Whether it works no more: it was stopped and all has ended, or an `error` ended it."""
        return self._ended.is_set()

    @property
    def running(self) -> list[str]:
        """Ids of the jobs whose handlers run now."""
        return [a.delivery.message.id for a in self._held_now() if a.started and not a.finished]

    # --------------------------------------------------------------------------------------------------- the pump

    def _run(self) -> None:
        try:
            if self._open():
                self._start_parts()
                while not self._stopping:
                    self._step()
                self._release_unstarted()
                self._finish_running()
        except QueueClosed as error:
            self.error = error
            _log.warning("the queue was closed under its worker %s; leases run out by themselves", self.id)
        except Exception as error:
            self.error = error
            _log.exception("the worker %s ended by an error", self.id)
        finally:
            self._stop_parts()

    def _open(self) -> bool:
        """Connect, with patience; False when the worker was stopped before it could."""
        while not self._stopping:
            try:
                self._queue.open()
                if self._asked_queues is None:
                    self._shares = Shares.of(_all_queues(self._queue))
                self._driver.prepare(self._shares.names)
            except DriverUnavailable as error:
                self._unavailable(error)
            else:
                return True
        return False

    def _start_parts(self) -> None:
        self._warn_of_few_connections()
        kinds = {handler.is_async for handler in self._queue.handlers}
        if kinds == {True, False}:
            self._performer.slots = Slots(self._concurrency)
        if True in kinds:
            self._event_loop()  # before the first claim: an import that failed later would end the worker
        if any(handler.options.executor == "process" for handler in self._queue.handlers):
            self._performer.process_pool()  # likewise: an import that failed later would cost an attempt
        self._threads.start()
        self._started_at = self._clock.time()
        self._guard(self._keeper.start)
        self._queue.hooks.call("worker_start")
        self._queue.events.emit("worker_started", worker=self.id)

    def _warn_of_few_connections(self) -> None:
        most = self._driver.limits.connections
        if most is not None and most < self._concurrency:
            _log.warning(
                "the %s driver opens at most %d connections, and this worker runs %d jobs at once: handlers that dispatch "
                "wait for one another; allow it more connections, or run fewer jobs at once",
                self._driver.limits.name,
                most,
                self._concurrency,
            )

    def _step(self) -> None:
        self._wakeup.clear()
        attempts = self._drain()
        self._give_back_overdue()
        limit = self._limit(settling=len(attempts))
        asked = self._clock.monotonic()
        try:
            if attempts:
                found = self._exchange(attempts, limit)
            elif limit:
                found = self._claim(limit)
            else:
                found = []
                self._clock.wait(self._wakeup, OVERDUE)
            self._start(found, asked)
            self._available()
        except DriverUnavailable as error:
            self._unavailable(error)
        else:
            self._let_start(self._demand.patience(len(found), limit))

    def _let_start(self, patience: float) -> None:
        """Leave the interpreter to the threads for a moment, until one has finished; that the claim was woken says nothing of that."""
        if patience:
            self._wakeup.clear()
            if not (self._finished or self._stopping):
                self._wakeup.wait(patience)

    def _limit(self, *, settling: int) -> int:
        limit = self._demand.limit(len(self._held) - settling, self._unstarted())
        return min(limit, self._driver.limits.batch)

    def _free(self) -> int:
        running = self._threads.running + (0 if self._loop is None else self._loop.running)
        return max(0, self._concurrency - running - self._unstarted())

    def _unstarted(self) -> int:
        return self._threads.unstarted + (0 if self._loop is None else self._loop.unstarted)

    def _drain(self) -> list[Attempt]:
        """Take what has finished; waits a little for more when plenty is still to be started."""
        finished = self._finished
        if not finished:
            return []
        linger = self._demand.linger(len(finished), self._unstarted())
        if linger:
            time.sleep(linger)
        attempts = [finished.popleft() for _ in range(min(len(finished), self._driver.limits.batch))]
        if finished:
            self._wakeup.set()
        ran = [attempt.duration for attempt in attempts if attempt.duration]
        self._demand.measured(len(ran), sum(ran))
        return attempts

    def _claim(self, limit: int) -> list[Delivery]:
        return self._driver.claim(
            self._shares.order(),
            limit=limit,
            lease=self._lease,
            free=self._free(),
            recover=self._may_recover(),
            wait=min(WAIT, self._lease / SHARE) if self._ready.is_set() else 0.0,
            wakeup=self._wakeup,
        )

    def _may_recover(self) -> bool:
        return self._clock.monotonic() >= self._keeper.recover_from

    def _exchange(self, attempts: list[Attempt], limit: int) -> list[Delivery]:
        """Settle what has finished and claim more, in one round trip where the driver can."""
        outcomes = [attempt.outcome for attempt in attempts if attempt.outcome is not None]
        deliveries: list[Delivery] = []
        try:
            if any(attempt.progress is not None for attempt in attempts):
                self._keeper.send_progress()
            if limit and "exchange" in self._queue.features:
                settled, deliveries = self._driver.exchange(  # type: ignore[attr-defined]  # the feature was checked
                    outcomes,
                    self._shares.order(),
                    limit=limit,
                    lease=self._lease,
                    free=self._free(),
                    recover=self._may_recover(),
                )
            else:
                settled = self._driver.settle(outcomes)
        except DriverError:
            self._finished.extendleft(reversed(attempts))  # they are settled later
            self._keep_leases(attempts)
            raise
        self._held.difference_update(attempts)
        self.done += len(attempts)
        self._pace.note(outcomes)
        if self._runtime.listening:
            self._tell_settled(attempts, settled)
        return deliveries

    def _keep_leases(self, attempts: list[Attempt]) -> None:
        """Renew the leases of what could not be settled, when a third of them is over: the keeper renews only what runs."""
        asked = self._clock.monotonic()
        due = [a for a in attempts if a.outcome is not None and 0 < a.lease_end < asked + self._lease * 2 / 3]
        try:
            answers = self._driver.extend([attempt.delivery for attempt in due], lease=self._lease) if due else []
        except DriverError as error:
            _log.debug("jobs that ended and are not settled cannot be renewed either: %s", error)
            return
        for attempt, answer in zip(due, answers, strict=True):
            if answer.held:
                attempt.renewed(asked + self._lease)

    def _tell_settled(self, attempts: list[Attempt], settled: list[Settlement]) -> None:
        answers = iter(settled)
        for attempt in attempts:
            if attempt.outcome is not None:
                self._runtime.tell(attempt, verdict.event_of(next(answers)))

    def _start(self, deliveries: list[Delivery], asked: float) -> None:
        """Hand deliveries to whatever runs their kind of handler; they were `asked` for then, and their answer may have come late."""
        if not deliveries:
            return
        now = self._clock.monotonic()
        end = asked + self._lease if self._by_time else math.inf
        runtime = self._runtime
        attempts = [Attempt(delivery, runtime, now) for delivery in deliveries]
        for attempt in attempts:
            attempt.lease_end = end
        self._held.update(attempts)
        if runtime.listening:
            for attempt in attempts:
                runtime.tell(attempt, "claimed")
        asynchronous = [attempt for attempt in attempts if self._is_async(attempt)] if self._has_async() else []
        if asynchronous:
            self._event_loop().submit(asynchronous)
            attempts = [attempt for attempt in attempts if not self._is_async(attempt)]
        self._threads.submit(attempts)

    def _finish(self, attempt: Attempt) -> None:
        """Take an attempt that has its outcome, on whatever thread it came to it."""
        attempt.finished = True
        self._finished.append(attempt)
        self._wakeup.set()

    def _has_async(self) -> bool:
        return any(handler.is_async for handler in self._queue.handlers)

    def _is_async(self, attempt: Attempt) -> bool:
        handler = self._queue.handlers.get(attempt.delivery.message.type)
        return handler is not None and handler.is_async

    def _event_loop(self) -> LoopExecutor:
        if self._loop is None:
            from queuekit.worker.loop import LoopExecutor  # noqa: PLC0415 - asyncio costs what plain handlers never need

            self._loop = LoopExecutor(
                self._concurrency,
                self._runtime,
                before=self._performer.before,
                after=self._performer.after,
                slots=self._performer.slots or Slots(self._concurrency),
                name="queuekit-loop",
            )
            self._loop.start()
        return self._loop

    # ------------------------------------------------------------------------------------------------- giving back

    def _held_now(self) -> list[Attempt]:
        while True:
            try:
                return list(self._held)
            except RuntimeError:  # the pump changed the set meanwhile
                continue

    def _mark_give_back(self, attempts: Iterable[Attempt]) -> None:
        for attempt in list(attempts):
            attempt.give_back = True
        self._wakeup.set()

    def _give_back_overdue(self) -> None:
        """Give back what slow slots will not start soon, and what stands in a queue that was paused."""
        if not self._unstarted():
            return
        limit = self._clock.monotonic() - OVERDUE
        waiting = [attempt for attempt in self._held_now() if not attempt.started]
        if any(attempt.give_back or attempt.claimed_at < limit for attempt in waiting):
            self._demand.stalled()
            self._release(self._take_back())

    def _take_back(self) -> list[Attempt]:
        return [*self._threads.take_back(), *(() if self._loop is None else self._loop.take_back())]

    def _release(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            attempt.outcome = None if attempt.lost else Released(attempt.delivery)
            attempt.finished = True
            if attempt.outcome is not None:
                self._runtime.tell(attempt, "released")
        self._finished.extend(attempts)

    def _release_unstarted(self) -> None:
        self._release(self._take_back())
        self._settle_finished()

    def _finish_running(self) -> None:
        while self._held and not self._abandoned:
            self._wakeup.clear()
            if not self._settle_finished():
                self._clock.wait(self._wakeup, 0.1)

    def _settle_finished(self) -> bool:
        attempts = self._drain()
        if not attempts:
            return False
        try:
            self._exchange(attempts, 0)
        except DriverUnavailable as error:
            self._unavailable(error)
        return True

    def _interrupt_all(self) -> None:
        """Interrupt every running handler: their jobs are given back when they end."""
        for attempt in self._held_now():
            attempt.give_back = True
            if attempt.stop is not None:
                attempt.stop()
        for slot in self._threads.slots:
            attempt_inside = slot.attempt
            if attempt_inside is not None:
                slot.interrupt(attempt_inside, verdict.Stopped)

    def _note_progress(self, attempt: Attempt) -> None:
        self._keeper.progress_waits(attempt)

    def _let_be(self, attempt: Attempt, done: Done) -> None:
        self._keeper.let_be(attempt, done)

    def _note_stuck(self, attempt: Attempt) -> None:
        _log.error("job %s did not end after its timeout; its slot stays taken", attempt.delivery.message.id)
        self.stuck.set()

    # ------------------------------------------------------------------------------------------------ the backend

    def _unavailable(self, error: DriverError) -> None:
        self._failures += 1
        pause = min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(self._failures - 1, 10))
        if self._failures == 1:
            self._queue.events.emit("driver_unavailable", worker=self.id, error=f"{type(error).__name__}: {error}")
        _log.warning("the backend is unavailable (%s); next try in %.1f s", error, pause)
        flag, outages = Wakeup(), self._keeper.outages_over
        end = self._clock.monotonic() + pause
        while not self._stopping and (left := end - self._clock.monotonic()) > 0:
            self._clock.wait(flag, min(left, 0.2))
            if self._keeper.outages_over > outages:
                break  # it has heard the backend meanwhile

    def _available(self) -> None:
        self._ready.set()
        if self._failures:
            self._failures = 0
            self._keeper.recover_from = self._clock.monotonic() + self._lease
            self._queue.events.emit("driver_recovered", worker=self.id)
            _log.warning("the backend is available again")

    def _guard(self, call: Any) -> None:
        try:
            call()
        except DriverUnavailable as error:
            self._unavailable(error)

    def _stop_parts(self) -> None:
        try:
            self._queue.hooks.call("worker_stop")
        except Exception:
            _log.exception("a worker_stop hook failed")
        if self._started_at:
            self._keeper.stop()
        self._timeouts.stop()
        self._threads.stop()
        self._threads.join(1.0)
        if self._loop is not None:
            self._loop.stop()
            self._loop.join(1.0)
        self._performer.close()
        self._queue.events.emit("worker_stopped", worker=self.id)
        self._ended.set()

    def _describe(self) -> WorkerInfo:
        completed, failed = self._pace.per_second()
        return WorkerInfo(
            id=self.id,
            host=platform.node(),
            pid=os.getpid(),
            started_at=self._started_at,
            queues=self._shares.names,
            concurrency=self._concurrency,
            running=tuple(self.running),
            stopping=self._stopping,
            completed_per_second=completed,
            failed_per_second=failed,
        )


def _abandoned(attempt: Attempt) -> Outcome:
    """Give a running job back; one that is stuck past its timeout has used its attempt up."""
    if not attempt.stuck:
        return verdict.given_back(attempt) if attempt.started else Released(attempt.delivery)
    late = JobTimeout(f"the attempt did not end after its timeout of {attempt.policy.timeout} s; its process left")
    return verdict.of_error(attempt, late)


def _checked_lease(lease: Duration, longest: float | None) -> float:
    value = seconds("lease", lease, zero=False)
    if value < 0.05 or (longest is not None and value > longest):
        most = "" if longest is None else f" and at most {longest}"
        message = f"lease={lease!r} is refused: give at least 0.05 s{most}; 30 is usual"
        raise ConfigurationError(message)
    return value


def _all_queues(queue: Queue) -> list[str]:
    return list(dict.fromkeys([queue.default_queue, *queue.handlers.queues()]))
