"""Dispatching from event loops: concurrent dispatches of all loops travel in one batched send, on one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from queuekit.contract import Message, Receipt
from queuekit.dispatcher import Dispatcher
from queuekit.errors import PartialDispatch, QueueClosed

__all__ = ["Coalescer"]


class Pending:
    """One awaited dispatch."""

    __slots__ = ("future", "loop", "message")

    def __init__(self, message: Message, loop: asyncio.AbstractEventLoop) -> None:
        self.message = message
        self.loop = loop
        self.future: asyncio.Future[Receipt] = loop.create_future()

    def resolve(self, outcome: Receipt | BaseException) -> None:
        """Hand the outcome to the awaiting task, on its own loop."""
        try:
            self.loop.call_soon_threadsafe(self._set, outcome)
        except RuntimeError:
            return  # its loop was closed meanwhile: nobody awaits the answer any more

    def _set(self, outcome: Receipt | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Coalescer:
    """A thread that sends what event loops dispatch; it starts with the first dispatch."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._waiting: SimpleQueue[Pending | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def dispatch(self, message: Message) -> Receipt:
        """Send one message with whatever else is waiting; a cancelled wait withdraws what was not sent yet."""
        pending = Pending(message, asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                text = "this queue was closed; build a new one"
                raise QueueClosed(text)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queuekit-dispatch", daemon=True)
                self._thread.start()
            self._waiting.put(pending)
        return await pending.future

    def close(self) -> None:
        """Send what is waiting and end the thread; blocks for one send at most."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            self._waiting.put(None)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = self._gather(first)
            self._send(batch)
            if last:
                return

    def _gather(self, first: Pending) -> tuple[list[Pending], bool]:
        batch = [first]
        while not self._waiting.empty():
            pending = self._waiting.get()
            if pending is None:
                return batch, True
            batch.append(pending)
        return batch, False

    def _send(self, batch: list[Pending]) -> None:
        wanted = [pending for pending in batch if not pending.future.cancelled()]
        for group in _by_id(wanted):
            self._send_group(group)

    def _send_group(self, group: list[Pending]) -> None:
        try:
            receipts = self._dispatcher.dispatch_many([pending.message for pending in group])
        except PartialDispatch as error:
            for pending in group:
                self._settle(pending, error, alone=len(group) == 1)
        except BaseException as error:
            for pending in group:
                pending.resolve(error)
        else:
            for pending, receipt in zip(group, receipts, strict=True):
                pending.resolve(receipt)

    def _settle(self, pending: Pending, error: PartialDispatch, *, alone: bool) -> None:
        """Resolve one of a batch that went wrong; what an earlier job stands for is asked for once more, by itself."""
        outcome = _outcome_of(pending.message.id, error)
        if outcome is None and not alone:
            self._send_group([pending])
        else:
            pending.resolve(outcome or error)


def _by_id(batch: Sequence[Pending]) -> list[list[Pending]]:
    """Split so that no group has one id twice."""
    groups: list[list[Pending]] = []
    seen: list[set[str]] = []
    for pending in batch:
        place = next((i for i, ids in enumerate(seen) if pending.message.id not in ids), None)
        if place is None:
            groups.append([])
            seen.append(set())
            place = len(groups) - 1
        groups[place].append(pending)
        seen[place].add(pending.message.id)
    return groups


def _outcome_of(id: str, error: PartialDispatch) -> Receipt | BaseException | None:
    if id in error.accepted:
        return Receipt(id, created=True)
    return error.failed.get(id) or error.unknown.get(id)
