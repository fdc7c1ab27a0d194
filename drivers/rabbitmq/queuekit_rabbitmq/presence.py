"""What processes tell one another through the broker: that a lane is new, that jobs were given back, and how many jobs they hold.

Every consuming session has a queue of its own, bound to the exchange of the lanes. RabbitMQ says how many messages of a queue are
ready, not how many are lent, so whoever counts asks all that lend, and each hears of it on the channel that its deliveries come by: what
was on its way before is counted. How many have to answer shows in the consumers of one queue that all of them consume.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from queuekit_rabbitmq.publisher import Parcel, Publisher
from queuekit_rabbitmq.topology import Names
from queuekit_rabbitmq.wire import fleeting

if TYPE_CHECKING:
    import pika
    from pika.channel import Channel

__all__ = ["Census", "Presence"]

REPLY_TO = "amq.rabbitmq.reply-to"
SILENT = 1.0
"""Seconds that a process has to answer; one that does not (it is frozen, or gone a moment ago) is taken to hold one job."""


class Presence:
    """The answering side, on a consuming session."""

    def __init__(
        self,
        names: Names,
        *,
        on_lane: Callable[[str, str], None],
        on_back: Callable[[str], None],
        held: Callable[[], dict[str, int]],
        answer: Callable[[Parcel], None],
    ) -> None:
        self._names = names
        self._on_lane = on_lane
        self._on_back = on_back
        self._held = held
        self._answer = answer

    def prepare(self, channel: Channel, ready: Callable[[], None]) -> None:
        """Listen; on the I/O thread."""

        def declared(frame: Any) -> None:
            mine = frame.method.queue
            for key in ("new.#", "back.#", "ask"):
                channel.queue_bind(mine, self._names.lanes, key)
            channel.queue_declare(self._names.workers, durable=True)
            channel.basic_consume(self._names.workers, _ignore, auto_ack=True)
            channel.basic_consume(mine, self._heard, auto_ack=True, callback=lambda _: ready())

        channel.exchange_declare(self._names.lanes, "topic", durable=True)
        channel.queue_declare("", exclusive=True, callback=declared)

    def _heard(self, _channel: Channel, method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        if method.routing_key == "ask":
            name = str(uuid.uuid4())
            fields = fleeting(name, correlation_id=properties.correlation_id)
            self._answer(("", properties.reply_to, name, fields, msgspec.json.encode(self._held())))
        elif method.routing_key.startswith("back."):
            self._on_back(method.routing_key.partition(".")[2])
        else:
            _, lane, queue = method.routing_key.split(".", 2)
            self._on_lane(queue, lane)


class Census:
    """The asking side, on a publishing session."""

    def __init__(self, publisher: Publisher, names: Names) -> None:
        self._publisher = publisher
        self._names = names
        self._polls: dict[str, Poll] = {}

    def prepare(self, channel: Channel) -> None:
        """Listen for answers; on the I/O thread."""
        channel.basic_consume(REPLY_TO, self._heard, auto_ack=True)

    def ask(self, processes: int) -> tuple[Counter[str], int]:
        """Return how many jobs each queue has lent, as far as the processes answer, and how many did not."""
        poll = Poll(processes)
        name = str(uuid.uuid4())
        self._polls[name] = poll
        try:
            if processes:
                self._publisher.publish([self._question(name)])
                poll.complete.wait(SILENT)
            return poll.held, max(0, processes - poll.answers)
        finally:
            del self._polls[name]

    def _question(self, name: str) -> Parcel:
        return self._names.lanes, "ask", name, fleeting(name, correlation_id=name, reply_to=REPLY_TO), b""

    def _heard(self, _channel: Channel, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        poll = self._polls.get(properties.correlation_id)
        if poll is not None:
            poll.take(msgspec.json.decode(body, type=dict[str, int]))


class Poll:
    """The answers to one question."""

    def __init__(self, processes: int) -> None:
        self.held: Counter[str] = Counter()
        self.answers = 0
        self.complete = threading.Event()
        self._processes = processes

    def take(self, held: dict[str, int]) -> None:
        """Take one answer in; on the I/O thread."""
        self.held.update(held)
        self.answers += 1
        if self.answers >= self._processes:
            self.complete.set()


def _ignore(*_: Any) -> None:
    """Nobody writes to the queue that shows who is there."""
