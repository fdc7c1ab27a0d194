"""Time as a value that is handed in: the machine's clock, and one that tests move by hand."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "VirtualClock", "Wakeup"]


class Wakeup:
    """A flag that two parties may raise to end one party's waiting.

    A worker hands it to `claim`: the driver raises it when something became due, the worker's own threads when a
    handler has finished. It stays raised until `clear`, so a signal between "look" and "wait" is never missed.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Raise the flag; cheap when it is raised already."""
        if not self._event.is_set():
            self._event.set()

    def clear(self) -> None:
        """Lower the flag; do this before looking for work, never after."""
        self._event.clear()

    def is_set(self) -> bool:
        """Whether the flag is raised."""
        return self._event.is_set()

    def wait(self, timeout: float) -> bool:
        """Block up to `timeout` real seconds; True when the flag is raised."""
        return self._event.wait(timeout)


class Clock(Protocol):
    """Where queuekit reads time from and waits in it."""

    def time(self) -> float:
        """Return seconds since the epoch: for instants that people and other machines see."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back: for leases and intervals. One value for all processes of a host."""
        ...

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """Block until `wakeup` is raised or `timeout` seconds of this clock have passed; True when raised."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        """Return the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """Block in real time."""
        return wakeup.wait(timeout)


class VirtualClock:
    """A clock that stands still until `advance` moves it; whoever waits in it wakes when their time has come."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Condition()
        self._wall = start
        self._elapsed = 1_000.0

    def time(self) -> float:
        """Return the virtual instant."""
        return self._wall

    def monotonic(self) -> float:
        """Return virtual seconds since an arbitrary point."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        if not seconds >= 0:
            message = f"a clock only moves forward: advance({seconds!r}) refused; use step() to set the wall clock back"
            raise ValueError(message)
        with self._lock:
            self._wall += seconds
            self._elapsed += seconds
            self._lock.notify_all()

    def step(self, seconds: float) -> None:
        """Set only the wall clock, forward or back, as an operator or NTP does; the monotonic clock stays."""
        with self._lock:
            self._wall += seconds
            self._lock.notify_all()

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """Block until `wakeup` is raised or the clock was advanced by `timeout`.

        The flag is looked at every 5 real milliseconds: a virtual wait has no other way to watch two things at once.
        """
        end = self._elapsed + timeout
        with self._lock:
            while not wakeup.is_set() and self._elapsed < end:
                self._lock.wait(0.005)
        return wakeup.is_set()
