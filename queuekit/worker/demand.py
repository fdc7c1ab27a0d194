"""How many jobs to hold: the free slots, and what they will start within a tenth of a second."""

from __future__ import annotations

__all__ = ["Demand"]

HORIZON = 0.1
"""Seconds of work to hold unstarted: enough to hide a round trip, little enough that a long job hoards nothing."""
MOST = 1000
"""The most jobs to hold unstarted, whatever their speed."""
FULL = 50
"""Outcomes that are worth a round trip of their own: more of them hardly make a job cheaper."""
QUICK = 0.001
"""Seconds below which a handler counts as quick: its outcome is waited for, and travels with the next claim."""
PATIENCE = 0.002
"""Seconds that quick handlers get for that."""
FORGET = 0.3
"""Weight of the newest batch in the average handler time; a slower batch counts at once."""


class Demand:
    """Measures handlers and decides how much to claim."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._mean: float | None = None
        """Seconds a job takes a slot; None before the first measurement."""

    def measured(self, jobs: int, seconds: float) -> None:
        """Take in what a batch of handlers took together; of jobs that never entered one there is nothing to measure."""
        if jobs:
            mean = seconds / jobs
            old = self._mean
            self._mean = mean if old is None or mean > old else old * (1 - FORGET) + mean * FORGET

    def stalled(self) -> None:
        """Take in that what was held was not started in time: handlers take longer than those that were measured, nobody knows how long."""
        self._mean = None

    @property
    def prefetch(self) -> int:
        """How many jobs to hold beyond the slots."""
        if self._mean is None:
            return 0
        return min(MOST, int(self._concurrency * HORIZON / max(self._mean, 1e-6)))

    def limit(self, held: int, unstarted: int) -> int:
        """How many to claim now; 0 while enough wait, so that jobs travel in batches.

        Half of the prefetch at most: while that half travels, the other one keeps the slots busy. `held` leaves out
        what is settled in the same round trip.
        """
        half = self.prefetch // 2
        if unstarted > half:
            return 0
        return max(0, min(self._concurrency + self.prefetch - held, max(self._concurrency, half)))

    def linger(self, finished: int, unstarted: int) -> float:
        """Seconds to wait for more outcomes before settling: never while a slot could starve, nor when a batch is full.

        Waiting costs more than its time: the threads that run jobs keep the interpreter meanwhile (the GIL).
        """
        if self._mean is None or unstarted <= self._concurrency or finished >= FULL:
            return 0.0
        return min(0.003, unstarted * self._mean / self._concurrency / 4)

    def patience(self, found: int, limit: int) -> float:
        """Seconds to wait for outcomes after a claim that found so many, before the next: only where nothing else waits.

        It lets the threads start at once, which a pump that goes on would keep from the interpreter, and saves that claim: quick
        handlers are done before it were answered.
        """
        if not 0 < found < limit or self._mean is None or self._mean > QUICK:
            return 0.0
        return PATIENCE
