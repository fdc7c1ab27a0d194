"""Leases that end unrenewed: told by the worker's own clock, whatever the backend says or leaves unsaid."""

from __future__ import annotations

import threading
from collections.abc import Callable

from queuekit.clock import Clock, Wakeup
from queuekit.worker.attempt import Attempt

__all__ = ["Lapses"]


class Lapses:
    """Looks at the moment at which the first of the held leases would end; nearly always it was renewed by then.

    On a thread of its own, because the one that renews may wait for a backend that is silent just then. Whether the lease is really
    lost the backend says later: a renewal that had reached it in time counts.
    """

    def __init__(
        self, clock: Clock, *, lease: float, held: Callable[[], list[Attempt]], tell: Callable[[Attempt], None]
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._held = held
        self._tell = tell
        self._wakeup = Wakeup()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="queuekit-lapses", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping = True
        self._wakeup.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping:
            self._clock.wait(self._wakeup, self._look())

    def _look(self) -> float:
        """Tell what has lapsed; return the seconds until the next lease may. One that begins later ends later."""
        now = self._clock.monotonic()
        first = now + self._lease
        for attempt in self._held():
            if attempt.finished or attempt.told_lost or attempt.completing or attempt.lease_end <= 0:
                continue
            if attempt.lease_end <= now:
                self._tell(attempt)
            else:
                first = min(first, attempt.lease_end)
        return first - now
