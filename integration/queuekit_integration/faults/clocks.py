"""Clocks that are wrong: injected, because a machine's real clock is everybody's."""

from __future__ import annotations

import time

from queuekit import SystemClock

__all__ = ["ShiftedClock"]


class ShiftedClock(SystemClock):
    """A wall clock that is `seconds` off and runs `rate` times as fast; how long things take stays true."""

    def __init__(self, seconds: float = 0.0, *, rate: float = 1.0) -> None:
        self._seconds = seconds
        self._rate = rate
        self._begun = time.time()

    def time(self) -> float:
        """Return the wrong instant."""
        return self._begun + (super().time() - self._begun) * self._rate + self._seconds

    def step(self, seconds: float) -> None:
        """Set it forward or back, as an operator does."""
        self._seconds += seconds
