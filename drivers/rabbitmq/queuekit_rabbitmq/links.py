"""The two connections of a process, one to publish and one to lend on: made when needed, replaced when lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from queuekit.contract import DriverError, DriverUnavailable, Patience, QueueClosed
from queuekit_rabbitmq.broker import Broker
from queuekit_rabbitmq.consumer import Consumer
from queuekit_rabbitmq.messages import attempts_of, generation_of, message_of, properties_of
from queuekit_rabbitmq.presence import Presence
from queuekit_rabbitmq.publisher import Parcel, Publisher
from queuekit_rabbitmq.session import ANSWER, Session
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.source import Held
from queuekit_rabbitmq.topology import Names
from queuekit_rabbitmq.wire import BLANK, fleeting

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Lending", "Links", "Publishing"]

CLOSED = "the queue was closed"
BLANK_PROPERTIES = fleeting("")
FILLED = 0.5
"""Seconds that the broker has to take blanks."""


class Publishing:
    """A session for publishing, with what it knows of the broker."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self.session = Session(settings, role="publisher")
        self.publisher = Publisher(self.session, window=settings.window)
        self.broker = Broker(self.session, self.publisher, settings, names)
        self.session.prepare = self.broker.prepare
        self.session.on_lost = self.publisher.lose
        self.session.start()


class Lending:
    """A session for consuming, with what it has lent."""

    def __init__(self, settings: Settings, links: Links) -> None:
        self.session = Session(settings, role="consumer")
        quorum = settings.queue_type == "quorum"
        self.consumer = Consumer(self.session, quorum=quorum, give_back=links.give_back_later, gone=links.forget)
        self._presence = Presence(
            links.names,
            on_lane=links.note_lane,
            on_back=links.hear_of_back,
            held=self.consumer.held,
            answer=links.answer,
        )
        self.session.prepare = self._prepare
        self.session.start()

    def _prepare(self, channel: Channel, ready: Callable[[], None]) -> None:
        self.consumer.prepare(channel)
        self._presence.prepare(channel, ready)


class Links:
    """The connections of one driver, from any thread.

    1. `publishing` and `lending` return a live one, and connect where there is none.
    2. What the broker pushed and nobody claimed is given back on the other connection.
    3. After a fork the child makes its own; the parent's stay with their threads.
    """

    def __init__(self, settings: Settings, names: Names) -> None:
        self.names = names
        self._settings = settings
        self._lock = threading.RLock()
        self._publishing: Publishing | None = None
        self._lending: Lending | None = None
        self._pid = os.getpid()
        self._closed = False

    def publishing(self, patience: Patience | None = None) -> Publishing:
        """Return a live connection for publishing; connects, and blocks until that is done or patience has ended."""
        self.check()
        with self._lock:
            self.check()
            publishing = self._publishing
            if publishing is None or not publishing.session.alive:
                publishing = self._publishing = Publishing(self._settings, self.names)
        left = None if patience is None else patience.remaining()
        if not publishing.session.ready(left):
            assert patience is not None
            patience.check()
        return publishing

    def lending(self) -> Lending:
        """Return a live connection for lending; connects, and blocks until that is done."""
        self.check()
        with self._lock:
            self.check()
            lending = self._lending
            if lending is None or not lending.session.alive:
                lending = self._lending = Lending(self._settings, self)
        lending.session.ready(None)
        return lending

    def live(self) -> tuple[Publishing, Lending] | None:
        """Return both connections where they live and are this process's own; None otherwise, and nothing is connected."""
        self.check()
        publishing, lending = self._publishing, self._lending
        if publishing is None or lending is None or not (publishing.session.alive and lending.session.alive):
            return None
        return publishing, lending

    @property
    def told(self) -> set[str]:
        """The queues of whose new lanes this process is told, because it lends from them."""
        lending = self._lending
        return lending.consumer.looked if lending is not None and lending.session.alive else set()

    def check(self) -> None:
        """Raise `QueueClosed` once it is closed."""
        if self._closed:
            raise QueueClosed(CLOSED)
        if os.getpid() != self._pid:
            # Threads and their connections stay with the parent of a fork; one of them may have held the lock.
            self._lock = threading.RLock()
            self._publishing = self._lending = None
            self._pid = os.getpid()

    def close(self) -> None:
        """Give back what nobody has claimed, and disconnect; what is lent goes back with the connection."""
        if os.getpid() != self._pid:
            self._closed = True
            return
        with self._lock:
            self._closed = True
            publishing, lending = self._publishing, self._lending
            self._publishing = self._lending = None
        if lending is not None:
            if lending.session.alive:
                self._give_back(lending, publishing, every=True)
                lending.consumer.await_acknowledgements()
            lending.session.close(QueueClosed(CLOSED))
            lending.consumer.wake()
        if publishing is not None:
            publishing.session.close(QueueClosed(CLOSED))

    # ------------------------------------------------------------------------------------------ from the I/O threads

    def forget(self, queue: str) -> None:
        """Make everything of a queue again: something of it was deleted."""
        if self._publishing is not None:
            self._publishing.broker.forget(queue)

    def note_lane(self, queue: str, lane: str) -> None:
        """Lend from a lane that somebody has made."""
        publishing, lending = self._publishing, self._lending
        if publishing is not None and lending is not None and lane not in publishing.broker.lanes(queue):
            publishing.broker.note_lane(queue, lane)
            lending.consumer.wake()

    def hear_of_back(self, queue: str) -> None:
        """Lend first what somebody has given back."""
        self.note_back(queue)
        lending = self._lending
        if lending is not None:
            lending.consumer.wake()

    def answer(self, parcel: Parcel) -> None:
        """Publish an answer to another process, if the broker takes one, and never on the connection that lends.

        An alarm blocks whatever connection publishes: it is read from no more, so that no acknowledgement arrives either.
        """
        publishing = self._publishing
        if publishing is not None and not publishing.broker.blocked:
            publishing.publisher.publish([parcel])

    def give_back_later(self) -> None:
        """Give back without holding the I/O thread up, which serves the answers this waits for."""
        lending = self._lending
        if lending is not None:
            threading.Thread(
                target=self._give_back_now, args=(lending,), name="queuekit-amqp-return", daemon=True
            ).start()

    # --------------------------------------------------------------------------------------------------- giving back

    def note_back(self, queue: str) -> None:
        """Note that something of a queue is about to be given back: this process lends nothing before it has looked there."""
        lending = self._lending
        if lending is not None:
            lending.consumer.backs.note(queue)

    def _give_back_now(self, lending: Lending) -> None:
        """Give back what turned stale, if the broker takes it: during an alarm it stays here, and others keep what they run."""
        try:
            publishing = self.publishing()
        except (DriverError, QueueClosed):
            return
        if publishing.broker.takes_messages(ANSWER):
            self._give_back(lending, publishing)

    def _give_back(self, lending: Lending, publishing: Publishing | None, *, every: bool = False) -> None:
        """Give back what nobody has claimed: successors before all others of their queue, in order, then the acknowledgements.

        What the broker did not take stays here for the next claim; with `every` it goes back with the connection, which ends then.
        """

        def fill(lane: str, count: int) -> None:
            if publishing is None or publishing.broker.blocked:
                return
            batch = publishing.publisher.publish([("", lane, "", BLANK_PROPERTIES, BLANK)] * count)
            if not batch.wait(FILLED):
                publishing.publisher.withdraw(batch, DriverUnavailable("the broker takes no messages"))

        with lending.consumer.withdrawn(fill, every=every) as (found, blanks):
            ordered = _in_order(found)
            sent = _sent_back(publishing, ordered) if publishing is not None and ordered else set[Held]()
            lending.consumer.keep([held for held in ordered if held not in sent])
            try:
                if sent or blanks:
                    # In one go: a quorum queue's channel puts some dozens of separate ones off, and forgets them when it is closed.
                    lending.consumer.acknowledge([*sent, *blanks], timeout=ANSWER)
            except DriverError:
                lending.session.close()  # with the connection everything goes back at once, each with a hand-out counted
            if sent and publishing is not None:
                publishing.broker.tell_back({held.queue for held in sent})


def _sent_back(publishing: Publishing, found: Sequence[Held]) -> set[Held]:
    """Send successors; return those messages whose successors are stored. Of what had left and was not answered both may run."""
    try:
        batch = publishing.publisher.publish([_returned(publishing.broker, held) for held in found])
    except DriverError:
        return set()
    if not batch.wait(ANSWER):  # what left later would be a second job: the first is still here
        publishing.publisher.withdraw(batch, DriverUnavailable("the broker takes no messages"))
    return {found[index] for index in batch.accepted}


def _in_order(found: Sequence[Held]) -> list[Held]:
    """Order as they would have been lent: by priority, then as they came."""
    return sorted(found, key=lambda held: -message_of(held.queue, held.properties, b"").priority)


def _returned(broker: Broker, held: Held) -> Parcel:
    """Return the successor of a message that was never claimed: no attempt is used."""
    message = message_of(held.queue, held.properties, held.body)
    earlier, lent = attempts_of(held.properties, redelivered=held.redelivered)
    properties = properties_of(message, earlier + lent, generation_of(held.properties))
    return (*broker.back(held.queue), message.id, properties, held.body)
