"""Wakes a main thread that sleeps: from signal handlers, from other threads, and when a socket has something to say."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

__all__ = ["Bell"]


class Readable(Protocol):
    """What `select` can watch."""

    def fileno(self) -> int:
        """Return its file descriptor."""
        ...


class Bell:
    """Collects signals and interrupts `wait`; a context manager for the main thread.

    An `Event` would not do: a signal handler that calls `set` while its own thread is inside `wait` may find the
    event's lock taken by that very thread, and hang for ever. Writing to a pipe takes no lock.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
        self._read, self._write = os.pipe()
        self._arrived: list[signal.Signals] = []

    def __enter__(self) -> Self:
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(signal.Signals(number))

    def ring(self) -> None:
        """End `wait` from another thread."""
        try:
            os.write(self._write, b"\0")
        except OSError:
            return  # it rings already, or the program is over

    def wait(self, timeout: float | None, also: Sequence[Readable] = ()) -> None:
        """Sleep until a signal, a ring or something to read on `also`, at most `timeout` seconds."""
        watched: list[int | Readable] = [self._read, *also]
        ready, _, _ = select.select(watched, [], [], timeout)
        if self._read in ready:
            os.read(self._read, 65_536)  # at most what a pipe holds

    def signals(self) -> list[signal.Signals]:
        """Take the signals that have arrived since the last call, in order."""
        return [self._arrived.pop(0) for _ in range(len(self._arrived))]
