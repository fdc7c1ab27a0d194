"""When a child that has ended is started again."""

from __future__ import annotations

from queuekit.cli.exits import RECYCLED, RELOADED, STUCK

__all__ = ["Restarts"]

FIRST, MOST = 0.1, 30.0
"""Seconds before a crashed child is replaced: doubling, so that a broken app does not eat the machine."""
SOUND = 10.0
"""A child that lived for so many seconds was sound: the waits begin anew."""
PLANNED = frozenset({RECYCLED, RELOADED, STUCK})


class Restarts:
    """Counts one child's crashes in a row."""

    def __init__(self) -> None:
        self._crashes = 0

    def pause(self, code: int, lived: float) -> float:
        """Return the seconds to wait after a child ended with this code, having lived for so long."""
        if lived >= SOUND:
            self._crashes = 0
        if code in PLANNED and (lived >= 1.0 or code == RELOADED):
            return 0.0
        self._crashes += 1
        return min(MOST, FIRST * 2.0 ** min(self._crashes - 1, 20))
