"""A bounded number of places, of which none is lost, whatever interrupts whoever takes, holds or leaves one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from weakref import ref

__all__ = ["Place", "Places"]

SLICE = 0.05
"""Seconds between looks while all places are taken: at whoever waits, and for places whose holders are gone without a word."""


class Place:
    """The right to be one of so many: until it is left, or nobody has it any more."""

    __slots__ = ("__weakref__", "taken")

    def __init__(self) -> None:
        self.taken = True


class Places:
    """Lets so many in at once.

    Ctrl-C, or the timeout of the handler that dispatches, raises between any two steps of a thread, also between taking a place and the
    `try` that would give it back. So nobody counts: a place is taken as long as somebody has it and has not left it. For the same
    reason there is no `threading.Condition` here: it is Python code, which may be interrupted between getting its lock and saying so.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken: list[ref[Place]] = []
        """Of the places that were let go since it was last full some are still listed."""
        self._left: SimpleQueue[None] = SimpleQueue()
        """Wakes one of those who wait."""

    def take(self, timeout: float, *, look: Callable[[], None]) -> Place | None:
        """Take a place; blocks while there is none, and returns None after `timeout` seconds. `look` is called meanwhile, and may raise."""
        end = time.monotonic() + timeout
        while (place := self._free()) is None:
            look()
            left = end - time.monotonic()
            if left <= 0:
                return None
            with suppress(Empty):
                self._left.get(timeout=min(left, SLICE))
        return place

    def leave(self, place: Place) -> None:
        """Let the next one in."""
        place.taken = False
        if self._left.empty():
            self._left.put(None)

    def _free(self) -> Place | None:
        place = Place()
        with self._lock:
            if len(self._taken) >= self._most:
                self._taken = [one for one in self._taken if (held := one()) is not None and held.taken]
            if len(self._taken) < self._most:
                self._taken.append(ref(place))
                return place
        return None
