"""Async handlers on an event loop in a thread of its own, hundreds at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from queuekit.contract import Outcome
from queuekit.errors import JobTimeout
from queuekit.worker import verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.runtime import Runtime
from queuekit.worker.slots import Slots

__all__ = ["LoopExecutor"]

_log = logging.getLogger("queuekit.worker")


class LoopExecutor:
    """Runs up to `size` tasks; attempts cross the thread border in batches."""

    def __init__(
        self,
        size: int,
        runtime: Runtime,
        *,
        before: Callable[[Attempt], bool],
        after: Callable[[Attempt, Outcome | None], None],
        slots: Slots,
        name: str,
    ) -> None:
        self._size = size
        self._runtime = runtime
        self._before = before
        self._after = after
        self._slots = slots
        self._waiting: deque[Attempt] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        """Start the loop's thread."""
        self._slots.on_free(lambda: self._call(self._start_waiting))
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._stopping:
                self._run_loop()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _run_loop(self) -> None:
        """Run until `stop`; asyncio lets the SystemExit of a task that a handler started end the loop, and this does not."""
        try:
            self._loop.run_forever()
        except BaseException:
            _log.exception("a task of a handler would have ended the event loop; it goes on")

    def submit(self, attempts: Iterable[Attempt]) -> None:
        """Let attempts be started, in order, as places become free."""
        self._waiting.extend(attempts)
        self._call(self._start_waiting)

    def _call(self, fn: Callable[[], Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(fn)

    def take_back(self) -> list[Attempt]:
        """Return what has not been started."""
        taken: list[Attempt] = []
        while self._waiting:
            try:
                taken.append(self._waiting.popleft())
            except IndexError:
                break
        return taken

    @property
    def unstarted(self) -> int:
        """How many attempts wait for a place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many tasks are at work."""
        return len(self._tasks)

    def stop(self) -> None:
        """End the loop once its tasks have ended; does not wait."""
        self._call(self._stop_loop)

    def _stop_loop(self) -> None:
        self._stopping = True
        self._loop.stop()

    def join(self, timeout: float) -> None:
        """Wait for the loop's thread."""
        self._thread.join(timeout)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._tasks) < self._size and self._slots.try_take():
            try:
                attempt = self._waiting.popleft()
            except IndexError:
                self._slots.give()
                return
            task = self._loop.create_task(self._run(attempt))
            attempt.stop = lambda task=task: self._call(task.cancel)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.give()
        self._start_waiting()

    async def _run(self, attempt: Attempt) -> None:
        outcome: Outcome | None = None
        try:
            if self._before(attempt):
                outcome = await self._outcome(attempt)
            else:
                outcome = attempt.outcome
        except BaseException as error:
            outcome = verdict.of_error(attempt, error)
        self._after(attempt, outcome)

    async def _outcome(self, attempt: Attempt) -> Outcome:
        try:
            return await run_async(self._runtime, attempt)
        except asyncio.CancelledError as error:
            stopped = attempt.give_back and not attempt.cancelled
            return verdict.of_error(attempt, verdict.Stopped() if stopped else error)


async def run_async(runtime: Runtime, attempt: Attempt) -> Outcome:
    """Run an async handler in this task to its outcome, bounded by its timeout; only a cancellation gets out."""
    timeout = attempt.policy.timeout
    limit: asyncio.Timeout | None = None
    try:
        call = runtime.call_for(attempt)
        async with asyncio.timeout(timeout) as limit:
            value = await runtime.run_async(attempt, call)
        return verdict.of_result(attempt, value)
    except asyncio.CancelledError:
        raise
    except TimeoutError as error:
        if limit is None or not limit.expired():
            return verdict.of_error(attempt, error)
        attempt.timed_out = True
        runtime.tell(attempt, "timed_out", reason=f"{timeout} s")
        late = JobTimeout(verdict.too_long(attempt))
        late.__cause__ = error
        return verdict.of_error(attempt, late)
    except BaseException as error:
        return verdict.of_error(attempt, error)
