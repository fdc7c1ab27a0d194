"""Keeps this worker's leases alive, on a thread of its own, so that no handler can starve it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from queuekit.clock import Clock, Wakeup
from queuekit.contract import Done, Driver, Progress, WorkerInfo
from queuekit.errors import DriverError, QueueClosed
from queuekit.worker.attempt import Attempt
from queuekit.worker.lapses import Lapses
from queuekit.worker.runtime import Runtime

__all__ = ["LeaseKeeper"]

_log = logging.getLogger("queuekit.worker")
TICK = 1.0
"""Seconds between looks for cancellations and pauses: what "told within about a second" rests on."""
PROGRESS_EVERY = 0.1
"""Seconds between sendings of progress."""
PRUNES_PER_TICK = 1000


class LeaseKeeper:
    """Renews every lease of the worker in one call, every third of a lease.

    What it learns on the way it tells the attempts: lost, to be cancelled, queue paused. It also sends progress, signs of
    life, and prunes old records, because those share its rhythm.
    """

    def __init__(
        self,
        *,
        driver: Driver,
        features: frozenset[str],
        runtime: Runtime,
        clock: Clock,
        lease: float,
        held: Callable[[], list[Attempt]],
        describe: Callable[[], WorkerInfo],
        give_back: Callable[[Iterable[Attempt]], None],
    ) -> None:
        self._driver = driver
        self._features = features
        self._runtime = runtime
        self._clock = clock
        self._lease = lease
        self._held = held
        self._describe = describe
        self._give_back = give_back
        self._wakeup = Wakeup()
        self._dirty: set[Attempt] = set()
        self._writing = threading.Lock()
        """Held while jobs are written to: a handler whose own transaction is to lock one waits until that is over."""
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="queuekit-leases", daemon=True)
        self._lapses = Lapses(clock, lease=lease, held=held, tell=self._tell_lost)
        self._telling = threading.Lock()
        self._failing = False
        self._renewed = clock.monotonic()
        self._ticked = clock.monotonic()
        self.outages_over = 0
        """How often the backend has answered again after it had not."""
        self.recover_from = 0.0
        """Take no expired lease back before this moment: after an outage live workers need time to renew."""

    def start(self) -> None:
        """Start renewing."""
        self._beat(self._lease * 3)
        self._thread.start()
        self._lapses.start()

    def stop(self) -> None:
        """Renew no more; blocks for one call to the backend at most."""
        self._stopping = True
        self._wakeup.set()
        if self._thread.is_alive():
            self._thread.join()
        self._lapses.stop()
        self._guarded(lambda: self._beat(0.0))

    def progress_waits(self, attempt: Attempt) -> None:
        """Send this attempt's progress soon."""
        self._dirty.add(attempt)
        self._wakeup.set()

    def let_be(self, attempt: Attempt, done: Done) -> None:
        """Send its progress, and from now on write nothing to this job: its handler's transaction will lock it."""
        if attempt.progress is not None:
            self.send_progress()
        with self._writing:
            attempt.completing = done

    def send_progress(self) -> None:
        """Send what progress was reported."""
        with self._writing:
            self._send_progress()

    def _send_progress(self) -> None:
        noted = [attempt for attempt in list(self._dirty) if attempt.progress is not None]
        self._dirty.difference_update(noted)
        attempts = [attempt for attempt in noted if attempt.completing is None]
        if attempts and "records" in self._features:
            reports = [Progress(attempt.delivery, *progress) for attempt in attempts if (progress := attempt.progress)]
            for attempt in attempts:
                attempt.progress = None
            self._driver.report(reports)  # type: ignore[attr-defined]  # the feature was checked

    # ---------------------------------------------------------------------------------------------------- the loop

    def _loop(self) -> None:
        while not self._stopping:
            self._wakeup.clear()
            self._guarded(self._step)
            self._clock.wait(self._wakeup, self._pause())

    def _pause(self) -> float:
        if self._stopping:
            return 0.0
        if self._dirty:
            return PROGRESS_EVERY
        third = self._lease / 3
        if self._failing:
            return min(TICK, third)
        return max(0.0, min(TICK, third - (self._clock.monotonic() - self._renewed)))

    def _step(self) -> None:
        if self._dirty:
            self.send_progress()
        now = self._clock.monotonic()
        third = self._lease / 3
        due = now - self._renewed >= third or self._failing
        if due:
            self.renew()  # first: among busy threads each of the calls below may take a while
        if now - self._ticked >= min(TICK, third):
            self._ticked = now
            self._look_for_cancels()
            self._look_for_pauses()
        if due:
            self._beat(self._lease * 3)
            self._prune()
        if self._failing:
            self._recovered()

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except QueueClosed:
            self._stopping = True
        except DriverError as error:
            self._outage(error)
        except Exception:
            _log.exception("the lease keeper failed; it goes on")

    def renew(self) -> None:
        """Renew every lease now."""
        with self._writing:
            self._renew()

    def _renew(self) -> None:
        attempts = [a for a in self._held() if not (a.finished or a.lost or a.completing)]
        size = self._driver.limits.batch
        asked = self._clock.monotonic()
        for start in range(0, len(attempts), size):
            chunk = attempts[start : start + size]
            answers = self._driver.extend([attempt.delivery for attempt in chunk], lease=self._lease)
            for attempt, answer in zip(chunk, answers, strict=True):
                if not answer.held:
                    self._lose(attempt)
                    continue
                attempt.renewed(asked + self._lease)
                if answer.cancel:
                    self._cancel(attempt)
                if answer.paused and not attempt.started:
                    attempt.give_back = True
        self._renewed = asked

    def _lose(self, attempt: Attempt) -> None:
        if not attempt.lost:
            attempt.lost = True
            self._tell_lost(attempt)

    def _tell_lost(self, attempt: Attempt) -> None:
        """Tell observers, once: the backend refused a renewal, or the lease ended and none had got through."""
        with self._telling:
            if attempt.finished or attempt.told_lost:
                return
            attempt.told_lost = True
        self._runtime.tell(attempt, "lease_lost")

    def _cancel(self, attempt: Attempt) -> None:
        if not attempt.cancelled:
            attempt.cancelled = True
            if attempt.stop is not None:
                attempt.stop()

    def _look_for_cancels(self) -> None:
        running = [attempt for attempt in self._held() if not attempt.finished]
        if not running or "control" not in self._features:
            return  # an idle worker asks for nothing
        asked = set(self._driver.requested())  # type: ignore[attr-defined]  # the feature was checked
        for attempt in running:
            if attempt.delivery.message.id in asked and not attempt.finished:
                self._cancel(attempt)

    def _look_for_pauses(self) -> None:
        waiting = [attempt for attempt in self._held() if not attempt.started]
        if not waiting or "pause" not in self._features:
            return
        paused = set(self._driver.paused())  # type: ignore[attr-defined]  # the feature was checked
        if paused:
            self._give_back(a for a in waiting if not a.started and a.delivery.message.queue in paused)

    def _beat(self, ttl: float) -> None:
        if "registry" in self._features:
            self._driver.beat(self._describe(), ttl=ttl)  # type: ignore[attr-defined]  # the feature was checked

    def _prune(self) -> None:
        if "records" in self._features:
            self._driver.prune(limit=PRUNES_PER_TICK)  # type: ignore[attr-defined]  # the feature was checked

    # ---------------------------------------------------------------------------------------------------- outages

    def _outage(self, error: DriverError) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("the backend does not answer, leases cannot be renewed: %s", error)

    def _recovered(self) -> None:
        self._failing = False
        self.outages_over += 1
        self.recover_from = self._clock.monotonic() + self._lease
        _log.warning("the backend answers again; expired leases of others are left alone for %s s", self._lease)
