"""Publishing with confirms: a wide window of messages on their way, and an exact account of each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pika import spec

from queuekit.contract import BackendFull, DispatchTimeout, DriverError, DriverUnavailable
from queuekit_rabbitmq.session import Answer, Session
from queuekit_rabbitmq.wire import content, publication

if TYPE_CHECKING:
    import pika
    from pika.channel import Channel

__all__ = ["Batch", "Parcel", "Publisher", "Refusal", "UnroutableError"]

Parcel: TypeAlias = tuple[str, str, str, bytes, bytes]
"""Exchange, routing key, message id, properties as they travel, body."""
Refusal: TypeAlias = DriverError | DispatchTimeout
"""Why a message was certainly not stored."""
WAITING, LEFT, CONFIRMED, FAILED = 0, 1, 2, 3
PER_TURN = 200
"""Messages encoded before the I/O thread looks after its socket again."""
KNOWN = 1000
"""Addresses whose first frame is kept."""


class UnroutableError(DriverUnavailable):
    """There was no queue for it: it was deleted. Nothing was stored."""


class Batch:
    """Messages that are published together, and what became of each."""

    def __init__(self, parcels: Sequence[Parcel], on_done: Callable[[Batch], None] | None = None) -> None:
        self.parcels = parcels
        self.states = bytearray(len(parcels))
        self.errors: dict[int, Refusal] = {}
        self.next = 0
        """The first that has not left."""
        self._open = len(parcels)
        self._done = threading.Event()
        self._on_done = on_done

    def finish(self, index: int, error: Refusal | None = None) -> None:
        """Note the fate of one message; on the I/O thread."""
        if error is None:
            self.states[index] = CONFIRMED
        else:
            self.states[index] = FAILED
            self.errors[index] = error
        self._open -= 1
        if not self._open and not self._done.is_set():
            self._end()

    def give_up(self, error: Refusal) -> None:
        """Nothing more will be heard: what has not left failed with `error`; what has, nobody knows. On the I/O thread."""
        if self._done.is_set():
            return
        for index in range(self.next, len(self.parcels)):
            self.states[index] = FAILED
            self.errors[index] = error
        self.next = len(self.parcels)
        self._end()

    def wait(self, timeout: float) -> bool:
        """Block until all is known, at most so long."""
        return self._done.wait(timeout)

    @property
    def ended(self) -> bool:
        """Whether all is known that ever will be."""
        return self._done.is_set()

    @property
    def accepted(self) -> list[int]:
        """Which were confirmed."""
        return [index for index, state in enumerate(self.states) if state == CONFIRMED]

    @property
    def unknown(self) -> list[int]:
        """Which left and were not answered."""
        return [index for index, state in enumerate(self.states) if state == LEFT]

    def _end(self) -> None:
        self._done.set()
        if self._on_done is not None:
            self._on_done(self)


class Publisher:
    """Publishes on a session's channel, in confirm mode; lives as long as the session."""

    def __init__(self, session: Session, *, window: int) -> None:
        self._session = session
        self._window = window
        self._number = 0
        self._outstanding: dict[int, tuple[Batch, int]] = {}
        self._beginnings: dict[tuple[str, str], bytes] = {}
        """First frames of publishes, by exchange and routing key."""
        self._backlog: deque[Batch] = deque()
        self._returned: set[str] = set()
        """Ids of messages that came back as unroutable; their confirm follows at once."""
        self._turning = False
        self._open: set[Batch] = set()
        """Batches whose fate is not known yet."""
        self._lost = False
        self._lock = threading.Lock()

    def prepare(self, channel: Channel, ready: Callable[[], None]) -> None:
        """Switch confirms on; on the I/O thread."""
        self._session.on_unblocked = self._pump
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_answer, callback=lambda _: ready())
        self._session.connection.short_cut(channel.channel_number, on_confirm=self._on_confirm)

    def publish(self, parcels: Sequence[Parcel], on_done: Callable[[Batch], None] | None = None) -> Batch:
        """Start publishing; the batch says what became of it. From any thread, never blocks."""
        batch = Batch(parcels, on_done)
        with self._lock:
            lost = self._lost
            if not lost:
                self._open.add(batch)
        if lost:
            batch.give_up(DriverUnavailable(str(self._session.error)))
        else:
            self._session.call(lambda: self._take(batch))
        return batch

    def withdraw(self, batch: Batch, error: Refusal) -> None:
        """Stop waiting for a batch: what has not left will not leave. Blocks until that is sure."""

        def stop(answer: Answer) -> None:
            if batch in self._backlog:
                self._backlog.remove(batch)
            batch.give_up(error)
            self._open.discard(batch)
            answer.set_result(None)

        try:
            self._session.ask(stop, doing="withdrawing messages", timeout=5.0)
        except DriverError as lost:
            batch.wait(5.0)
            batch.give_up(lost)

    def lose(self) -> None:
        """End every batch, since the session was lost; on the I/O thread."""
        error = DriverUnavailable(str(self._session.error))
        with self._lock:
            self._lost = True
            batches = list(self._open)
        self._outstanding.clear()
        self._backlog.clear()
        for batch in batches:
            batch.give_up(error)
        self._open.clear()

    # ---------------------------------------------------------------------------------------- on the I/O thread

    def _take(self, batch: Batch) -> None:
        self._backlog.append(batch)
        if self._outstanding:
            self._pump()
        else:
            self._session.after_reading(self._pump)

    def _pump(self) -> None:
        """Let messages leave while the window has room."""
        if self._turning or self._session.blocked is not None or not self._session.alive:
            return
        room = min(self._window - len(self._outstanding), PER_TURN)
        frames: list[bytes] = []
        while self._backlog and room > 0:
            batch = self._backlog[0]
            stop = min(len(batch.parcels), batch.next + room)
            self._leave(batch, stop, frames)
            room -= stop - batch.next
            batch.next = stop
            if stop == len(batch.parcels):
                self._backlog.popleft()
        if frames:
            self._session.write(b"".join(frames))
        if self._backlog and len(self._outstanding) < self._window:
            self._turning = True
            self._session.later(0, self._turn)

    def _leave(self, batch: Batch, stop: int, frames: list[bytes]) -> None:
        """Encode a batch's messages up to `stop`, and note that they leave."""
        channel, most = self._session.channel.channel_number, self._session.body_most
        beginnings, outstanding, number = self._beginnings, self._outstanding, self._number
        for index in range(batch.next, stop):
            exchange, key, _, properties, body = batch.parcels[index]
            frames.append(beginnings.get((exchange, key)) or self._beginning(channel, exchange, key))
            frames += content(channel, properties, body, most=most)
            number += 1
            outstanding[number] = (batch, index)
            batch.states[index] = LEFT
        self._number = number

    def _beginning(self, channel: int, exchange: str, key: str) -> bytes:
        if len(self._beginnings) >= KNOWN:
            self._beginnings.clear()
        return self._beginnings.setdefault((exchange, key), publication(channel, exchange, key))

    def _turn(self) -> None:
        self._turning = False
        self._pump()

    def _on_return(self, _channel: Any, _method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        self._returned.add(properties.message_id)

    def _on_answer(self, frame: Any) -> None:
        """Take what pika has read: every refusal, and confirms among frames of other channels."""
        method = frame.method
        if isinstance(method, spec.Basic.Nack):
            why = "RabbitMQ refused the message: its queue is full or not available"
            for number in self._confirmed(method.delivery_tag, multiple=method.multiple):
                self._finish(number, BackendFull(why))
            self._pump()
        else:
            self._on_confirm(method.delivery_tag, method.multiple)

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        for number in self._confirmed(tag, multiple=multiple):
            self._finish(number, self._unroutable(number) if self._returned else None)
        if self._backlog:
            self._pump()

    def _finish(self, number: int, error: Refusal | None) -> None:
        batch, index = self._outstanding.pop(number)
        batch.finish(index, error)
        if batch.ended:
            self._open.discard(batch)

    def _unroutable(self, number: int) -> UnroutableError | None:
        """Return what a message failed by that came back just before its confirm."""
        batch, index = self._outstanding[number]
        _, key, id, _, _ = batch.parcels[index]
        if id not in self._returned:
            return None
        self._returned.discard(id)
        return UnroutableError(f"there is no queue {key}")

    def _confirmed(self, tag: int, *, multiple: bool) -> list[int]:
        if not multiple:
            return [tag] if tag in self._outstanding else []
        numbers = []
        for number in self._outstanding:
            if number > tag:
                break
            numbers.append(number)
        return numbers
