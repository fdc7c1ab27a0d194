"""Plain handlers on threads, each of which can be interrupted, but only while it is inside a handler."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

from queuekit.contract import Outcome
from queuekit.errors import JobError
from queuekit.worker import verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.runtime import Runtime

__all__ = ["Slot", "ThreadExecutor"]

_log = logging.getLogger("queuekit.worker")
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in.restype = ctypes.c_int


class Slot:
    """One executor thread, and the door through which its handler can be interrupted.

    `PyThreadState_SetAsyncExc` raises at the thread's next bytecode, wherever that is. So it is called only under the
    door's lock while a handler is inside, and leaving takes the same lock: no later code is ever hit.
    """

    __slots__ = ("_interrupted", "_lock", "attempt", "thread_id")

    def __init__(self) -> None:
        self.attempt: Attempt | None = None
        """Whose handler is inside."""
        self.thread_id = 0
        self._lock = threading.Lock()
        self._interrupted = False

    def run(self, attempt: Attempt, runtime: Runtime) -> Outcome:
        """Run the attempt's handler on this thread."""
        self.attempt = attempt
        try:
            outcome = runtime.run_plain(attempt)
        except BaseException as error:
            outcome = verdict.of_error(attempt, error)
        self._leave()
        return outcome

    def _leave(self) -> None:
        while True:
            try:
                with self._lock:
                    self.attempt = None
                if self._interrupted:
                    self._interrupted = False
                    self._let_it_come()
            except (JobError, verdict.Stopped):
                continue  # the interruption came just now, too late to matter
            return

    def _let_it_come(self) -> None:
        """Let an exception arrive in place of the interruption, which may have been raised in the handler or not.

        Taking it back would do, but leaves CPython 3.11 looking for it in every thread for good; and one that begins to be traced then, by a
        debugger or for coverage, stands still.
        """
        _raise_in(self.thread_id, verdict.Stopped)
        while True:
            pass

    def interrupt(self, attempt: Attempt, error: type[BaseException]) -> bool:
        """Raise `error` in the handler of this attempt; False when it is not inside any more."""
        with self._lock:
            if self.attempt is not attempt:
                return False
            self._interrupted = True
            _raise_in(self.thread_id, error)
            return True


class ThreadExecutor:
    """`size` threads that take attempts from one queue."""

    def __init__(self, size: int, perform: Callable[[Attempt, Slot], None], *, name: str) -> None:
        self._size = size
        self._perform = perform
        self._name = name
        self._waiting: SimpleQueue[Attempt | None] = SimpleQueue()
        self.slots: list[Slot] = []
        self._threads: list[threading.Thread] = []
        self._busy = [False] * size

    def start(self) -> None:
        """Start the threads."""
        for index in range(self._size):
            slot = Slot()
            self.slots.append(slot)
            thread = threading.Thread(target=self._work, args=(index, slot), name=f"{self._name}-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, attempts: Iterable[Attempt]) -> None:
        """Let attempts be started, in order, as threads become free."""
        put = self._waiting.put
        for attempt in attempts:
            put(attempt)

    def take_back(self) -> list[Attempt]:
        """Return what has not been started."""
        taken: list[Attempt] = []
        while True:
            try:
                attempt = self._waiting.get_nowait()
            except Empty:
                return taken
            if attempt is None:
                self._waiting.put(None)
                return taken
            taken.append(attempt)

    @property
    def unstarted(self) -> int:
        """How many attempts wait for a thread."""
        return self._waiting.qsize()

    @property
    def running(self) -> int:
        """How many threads are at work."""
        return sum(self._busy)

    def stop(self) -> None:
        """Let each thread end after what it runs now; does not wait."""
        for _ in self._threads:
            self._waiting.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the threads that are not stuck in a handler."""
        for thread, slot in zip(self._threads, self.slots, strict=True):
            if slot.attempt is None:
                thread.join(timeout)

    def _work(self, index: int, slot: Slot) -> None:
        slot.thread_id = threading.get_ident()
        busy, get = self._busy, self._waiting.get
        while (attempt := get()) is not None:
            busy[index] = True
            try:
                self._perform(attempt, slot)
            except BaseException:
                _log.exception("job %s could not be brought to an outcome", attempt.delivery.message.id)
            busy[index] = False
