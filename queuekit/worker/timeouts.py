"""Ends attempts of plain handlers that run longer than their timeout; one thread for all, started with the first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from weakref import ref

from queuekit.clock import Clock, Wakeup
from queuekit.errors import JobTimeout
from queuekit.worker.attempt import Attempt
from queuekit.worker.runtime import Runtime
from queuekit.worker.threads import Slot

__all__ = ["Timeouts"]

GRACE = 5.0
"""Seconds that a handler has to end after it was interrupted; then it is reported as stuck."""
SOON = 0.01
"""Seconds until the next look at an attempt that was not inside its handler."""
IDLE = 3600.0
LEAST = 100


class Timeouts:
    """Interrupts handlers in threads.

    The exception reaches a handler at its next bytecode; C code that blocks for long is not ended by it. Until the
    handler really ends its slot and lease stay held, and no retry starts.
    """

    def __init__(self, runtime: Runtime, clock: Clock, *, stuck: Callable[[Attempt], None]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._stuck = stuck
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, ref[Attempt], Slot]] = []
        """When to look at which attempt; it is kept alive by whoever runs it, and by nothing here."""
        self._most = LEAST
        """How many to watch before those that have finished are looked for."""
        self._order = itertools.count()
        self._wakeup = Wakeup()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def watch(self, attempt: Attempt, slot: Slot, seconds: float) -> None:
        """Interrupt the attempt if it is still inside its handler `seconds` from now."""
        with self._lock:
            self._push(self._clock.monotonic() + seconds, attempt, slot)
            if len(self._heap) > self._most:
                self._forget_finished()
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._loop, name="queuekit-timeouts", daemon=True)
                self._thread.start()
            first = self._heap[0][2]() is attempt
        if first:
            self._wakeup.set()

    def stop(self) -> None:
        """Interrupt nobody any more."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        self._wakeup.set()
        if thread is not None:
            thread.join()

    def _push(self, at: float, attempt: Attempt, slot: Slot) -> None:
        heapq.heappush(self._heap, (at, next(self._order), ref(attempt), slot))

    def _loop(self) -> None:
        while not self._stopping:
            self._wakeup.clear()
            for attempt, slot in self._due():
                self._end(attempt, slot)
            self._clock.wait(self._wakeup, self._until_next())

    def _due(self) -> list[tuple[Attempt, Slot]]:
        now = self._clock.monotonic()
        due: list[tuple[Attempt, Slot]] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                _at, _order, watched, slot = heapq.heappop(self._heap)
                attempt = watched()
                if attempt is not None:
                    due.append((attempt, slot))
            self._forget_finished()
        return due

    def _forget_finished(self) -> None:
        """Keep those that still run; so seldom that it costs an attempt next to nothing."""
        self._heap = [entry for entry in self._heap if _runs(entry[2]())]
        heapq.heapify(self._heap)
        self._most = max(LEAST, 2 * len(self._heap))

    def _until_next(self) -> float:
        with self._lock:
            if self._stopping or not self._heap:
                return 0.0 if self._stopping else IDLE
            return max(0.0, self._heap[0][0] - self._clock.monotonic())

    def _end(self, attempt: Attempt, slot: Slot) -> None:
        if attempt.timed_out:
            if not attempt.finished:
                attempt.stuck = True
                self._runtime.tell(attempt, "attempt_stuck", reason=f"still running {GRACE} s after its timeout")
                self._stuck(attempt)
            return
        attempt.timed_out = True
        if slot.interrupt(attempt, JobTimeout):
            self._runtime.tell(attempt, "timed_out", reason=f"{attempt.policy.timeout} s")
            with self._lock:
                self._push(self._clock.monotonic() + GRACE, attempt, slot)
            return
        attempt.timed_out = False
        if not attempt.finished:  # it has not entered its handler yet, or has just left it
            with self._lock:
                self._push(self._clock.monotonic() + SOON, attempt, slot)


def _runs(attempt: Attempt | None) -> bool:
    return attempt is not None and not attempt.finished
