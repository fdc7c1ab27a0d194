"""Which queues may have jobs that were given back: those come first, and are fetched one by one, so that they keep their order."""

from __future__ import annotations

import time

__all__ = ["Backs"]

LOOK = 1.0
"""Seconds after which it is looked anew: whoever gave something back may have died before it could tell."""


class Backs:
    """What this session has been told of the lanes of what was given back; from any thread.

    Nothing is pushed from such a lane. What is pushed may have to be given back again, and would then stand behind the rest of it.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._looked: dict[str, float] = {}

    def note(self, queue: str) -> None:
        """Note that something is, or soon will be, given back."""
        self._told.add(queue)

    def looked(self, queue: str) -> None:
        """Note that it is about to be looked."""
        self._told.discard(queue)
        self._looked[queue] = time.monotonic()

    def told(self, queue: str) -> bool:
        """Whether there is news since it was looked."""
        return queue in self._told

    def due(self, queue: str) -> bool:
        """Whether it must be looked before anything else of the queue is lent."""
        return queue in self._told or time.monotonic() - self._looked.get(queue, -LOOK) >= LOOK
