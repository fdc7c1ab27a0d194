"""Time as a value that is handed in: the machine's clock, and one that tests move by hand."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from contextlib import suppress
from typing import Protocol

__all__ = ["Clock", "SystemClock", "VirtualClock", "Wakeup"]


class Wakeup:
    """A flag that two parties may raise to end one party's waiting.

    A worker hands it to `claim`: the driver raises it when something became due, the worker's own threads when a
    handler has finished. It stays raised until `clear`, so a signal between "look" and "wait" is never missed.
    """

    __slots__ = ("_event", "_pipe", "_watched")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._pipe: tuple[int, int] | None = None
        self._watched = False

    def __del__(self) -> None:
        """Close the pipe, if there is one."""
        for descriptor in self._pipe or ():
            os.close(descriptor)

    def set(self) -> None:
        """Raise the flag; cheap when it is raised already."""
        if not self._event.is_set():
            self._event.set()
            if self._watched and self._pipe is not None:
                with suppress(BlockingIOError):  # then it has been told often enough
                    os.write(self._pipe[1], b"!")

    def clear(self) -> None:
        """Lower the flag; do this before looking for work, never after."""
        self._event.clear()

    def is_set(self) -> bool:
        """Whether the flag is raised."""
        return self._event.is_set()

    def wait(self, timeout: float, *, beside: int | None = None) -> bool:
        """Block up to `timeout` real seconds; True when the flag is raised.

        With a file descriptor `beside` also when that can be read: so one thread hears of both, and nobody hands it on.
        """
        if beside is None:
            return self._event.wait(timeout)
        heard = self._listen()
        self._watched = True  # from here on `set` writes to the pipe; what was set before is seen in the next line
        try:
            return self._event.is_set() or self._either(heard, beside, timeout)
        finally:
            self._watched = False

    def _either(self, heard: int, beside: int, timeout: float) -> bool:
        poll = select.poll()
        poll.register(heard, select.POLLIN)
        poll.register(beside, select.POLLIN)
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            ready = [descriptor for descriptor, _ in poll.poll(math.ceil(max(0.0, left) * 1000))]
            if heard in ready:
                os.read(heard, 64)  # perhaps of a flag that was lowered since
            if beside in ready or self._event.is_set():
                return True
            if not ready and left <= 0:
                return False

    def _listen(self) -> int:
        """Return the end of a pipe on which `set` is heard by whoever waits for a descriptor as well."""
        if self._pipe is None:
            self._pipe = os.pipe()
            for descriptor in self._pipe:
                os.set_blocking(descriptor, False)
        return self._pipe[0]


class Clock(Protocol):
    """Where queuekit reads time from and waits in it."""

    def time(self) -> float:
        """Return seconds since the epoch: for instants that people and other machines see."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back: for leases and intervals. One value for all processes of a host."""
        ...

    def wait(self, wakeup: Wakeup, timeout: float, *, beside: int | None = None) -> bool:
        """Block until `wakeup` is raised or `timeout` seconds of this clock have passed; True when raised.

        Also when the file descriptor `beside` can be read, if one is given.
        """
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        """Return the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def wait(self, wakeup: Wakeup, timeout: float, *, beside: int | None = None) -> bool:
        """Block in real time."""
        return wakeup.wait(timeout, beside=beside)


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

    def wait(self, wakeup: Wakeup, timeout: float, *, beside: int | None = None) -> bool:
        """Block until `wakeup` is raised, `beside` can be read, or the clock was advanced by `timeout`.

        Flag and descriptor are looked at every 5 real milliseconds: a virtual wait has no other way to watch several things at
        once.
        """
        end = self._elapsed + timeout
        raised = wakeup.wait(0, beside=beside)
        with self._lock:
            while not raised and self._elapsed < end:
                self._lock.wait(0.005)
                raised = wakeup.wait(0, beside=beside)
        return raised
