"""How many handlers run at once when some are plain and some are async: together no more than the concurrency."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Slots"]


class Slots:
    """Places shared by threads, which wait for one, and an event loop, which is called when one is free."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._condition = threading.Condition()
        self._told: Callable[[], None] | None = None

    def take(self) -> None:
        """Take a place; blocks until one is free."""
        with self._condition:
            while self._free <= 0:
                self._condition.wait()
            self._free -= 1

    def try_take(self) -> bool:
        """Take a place if one is free."""
        with self._condition:
            if self._free <= 0:
                return False
            self._free -= 1
            return True

    def give(self) -> None:
        """Give a place back."""
        with self._condition:
            self._free += 1
            self._condition.notify()
            told = self._told
        if told is not None:
            told()

    def on_free(self, fn: Callable[[], None]) -> None:
        """Call `fn` whenever a place becomes free."""
        self._told = fn
