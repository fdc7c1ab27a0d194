"""How fast a worker works: counted when it settles, read at its signs of life."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from queuekit.clock import Clock
from queuekit.contract import Again, Dead, Done, Outcome

__all__ = ["Pace"]


class Pace:
    """Counts outcomes between two readings. What is given back counts as neither."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock.monotonic()
        self._completed = 0
        self._failed = 0

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Count a batch."""
        kinds = [type(outcome) for outcome in outcomes]
        with self._lock:
            self._completed += kinds.count(Done)
            self._failed += kinds.count(Again) + kinds.count(Dead)

    def per_second(self) -> tuple[float, float]:
        """Return jobs completed and attempts failed a second since the last reading, and begin anew."""
        with self._lock:
            now = self._clock.monotonic()
            seconds = now - self._since
            counted = (self._completed, self._failed)
            self._since, self._completed, self._failed = now, 0, 0
        return (counted[0] / seconds, counted[1] / seconds) if seconds > 0 else (0.0, 0.0)
