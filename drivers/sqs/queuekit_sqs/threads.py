"""Daemon threads for blocking requests: made on demand, at most so many, ended when idle."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")
IDLE = 1.0
"""Seconds without a call after which a thread ends: a queue that is not used costs nothing."""


class Threads:
    """Runs calls at the same time; what cannot start at once waits for a thread.

    Not the standard library's executor: its threads keep an interpreter from ending while a poll waits for a message.
    """

    def __init__(self, most: int, *, name: str, idle: float = IDLE) -> None:
        self._most = most
        self._name = name
        self._idle = idle
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """To wait and to tell; the lock itself is taken past it, for callers may be interrupted within Python code."""
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting = 0
        """Threads without a call; each call that is queued has one of them, or is taken by the first that is done."""
        self._threads: set[threading.Thread] = set()
        self._ended = False

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Run a call on a thread, and return what will hold its answer."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                answer = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(answer)

        with self._lock:
            self._calls.append(run)
            if self._waiting >= len(self._calls):
                self._changed.notify()
            elif len(self._threads) < self._most:
                self._grow()
        return future

    def all(self, calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
        """Run calls at the same time, the last one on this thread; return answers or errors, in order."""
        futures = [self.start(call) for call in calls[:-1]]
        last = [_answer(call) for call in calls[-1:]]
        return [*(_answer(future.result) for future in futures), *last]

    def end(self, timeout: float) -> None:
        """Let every thread end after what it does now, and wait for that, `timeout` seconds at most each."""
        with self._lock:
            self._ended = True
            threads = list(self._threads)
            self._changed.notify_all()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _grow(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.add(thread)  # one that was not started, its caller interrupted, would never leave

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        """Return the next call; None when this thread is to end, and then it is counted no more."""
        with self._lock:
            in_time = True
            while not self._calls:
                if self._ended or not in_time:
                    self._threads.discard(threading.current_thread())
                    return None
                self._waiting += 1
                in_time = self._changed.wait(self._idle)
                self._waiting -= 1
            return self._calls.popleft()


def _answer(call: Callable[[], T]) -> T | BaseException:
    try:
        return call()
    except BaseException as error:
        return error
