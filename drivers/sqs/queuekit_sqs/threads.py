"""Daemon threads for blocking requests: made on demand, at most so many, ended together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")
IDLE = 1.0
"""Seconds without a call after which a thread ends: a queue that is not used costs nothing."""


class Threads:
    """Runs calls at the same time; what cannot start at once waits for a thread, and idle threads end by themselves.

    Not the standard library's executor: its threads keep an interpreter from ending while a poll waits for a message.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

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

        self._calls.put(run)
        if not self._idle.acquire(blocking=False):
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
            threads, self._threads, self._most = self._threads, [], 0
        for _ in threads:
            self._calls.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _grow(self) -> None:
        with self._lock:
            if len(self._threads) < self._most:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE)
            except queue.Empty:
                if self._may_leave():
                    return
                continue
            if call is None:
                return
            call()
            self._idle.release()

    def _may_leave(self) -> bool:
        """Leave the pool, unless somebody counts on this thread for a call that is on its way."""
        with self._lock:
            if not self._idle.acquire(blocking=False):
                return False
            if threading.current_thread() in self._threads:
                self._threads.remove(threading.current_thread())
            return True


def _answer(call: Callable[[], T]) -> T | BaseException:
    try:
        return call()
    except BaseException as error:
        return error
