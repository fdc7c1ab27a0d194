"""The floor of RabbitMQ: pika alone, with a window of confirms, and with acknowledgements for many deliveries at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jobs import BODY, batches

QUEUE = "floor"
WINDOW = 1000
"""Publishes that may wait for their confirms at once, as in the driver."""
SILENT = 0.5
"""Seconds after which nothing more is expected."""


class BareRabbitMQ:
    """pika: a SelectConnection for publishing, a BlockingConnection (its fastest consumer) for the rest."""

    def __init__(self, address: str) -> None:
        import pika  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - only where RabbitMQ is measured

        self._pika: Any = pika
        self._parameters = pika.URLParameters(address.partition("?")[0])
        self._kind = "classic" if "queue_type=classic" in address else "quorum"
        self._stored = 0

    def reset(self) -> None:
        """Begin with an empty queue."""
        connection = self._pika.BlockingConnection(self._parameters)
        channel = connection.channel()
        channel.queue_delete(QUEUE)
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": self._kind})
        connection.close()
        self._stored = 0

    def prepare(self, ids: Sequence[str], size: int) -> list[Any]:
        """Return ids and bodies."""
        return [[(id, (BODY % id).encode()) for id in part] for part in batches(ids, size)]

    def store(self, calls: list[Any]) -> None:
        """Publish persistent, mandatory messages with confirms; a call is over when its last confirm has come."""
        publisher = Publisher(self._pika, self._parameters, calls)
        publisher.run()
        self._stored += sum(map(len, calls))

    def drain(self, size: int) -> int:
        """Consume all, and acknowledge `size` deliveries at once."""
        connection = self._pika.BlockingConnection(self._parameters)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2 * size)
        settled = 0
        for method, _, _ in channel.consume(QUEUE, inactivity_timeout=SILENT):
            if method is None:
                break
            settled += 1
            if settled % size == 0 or settled == self._stored:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if settled == self._stored:
                break
        channel.basic_qos(prefetch_count=1)  # answered behind the last acknowledgement
        connection.close()
        self._stored -= settled
        return settled


class Publisher:
    """Publishes on pika's SelectConnection: the next call begins when the one before is confirmed."""

    def __init__(self, pika: Any, parameters: Any, calls: Sequence[Sequence[tuple[str, bytes]]]) -> None:
        self._properties = pika.BasicProperties
        self._calls = iter(calls)
        self._left: Iterator[tuple[str, bytes]] = iter(())
        self._sent = self._confirmed = 0
        self._connection = pika.SelectConnection(parameters, on_open_callback=self._opened)

    def run(self) -> None:
        """Publish all."""
        self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._publish())

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self._confirmed = max(self._confirmed, tag) if frame.method.multiple else self._confirmed + 1
        self._publish()

    def _publish(self) -> None:
        while self._sent - self._confirmed < WINDOW:
            item = next(self._left, None)
            if item is None:
                if self._sent > self._confirmed:
                    return
                call = next(self._calls, None)
                if call is None:
                    self._end()
                    return
                self._left = iter(call)
                continue
            id, body = item
            properties = self._properties(delivery_mode=2, message_id=id, type="noop")
            self._channel.basic_publish("", QUEUE, body, properties, mandatory=True)
            self._sent += 1

    def _end(self) -> None:
        if not self._connection.is_closing and not self._connection.is_closed:
            self._connection.add_on_close_callback(lambda *_: self._connection.ioloop.stop())
            self._connection.close()
