"""The RabbitMQ driver's verbs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from queuekit.contract import (
    Again,
    AmbiguousSend,
    Clock,
    ConfigurationError,
    Dead,
    Delivery,
    DispatchTimeout,
    Done,
    DriverError,
    DriverRejected,
    DriverUnavailable,
    Extension,
    Finding,
    Limits,
    Message,
    Outcome,
    PartialSend,
    Patience,
    QueueClosed,
    QueueCounts,
    Released,
    Settlement,
    SystemClock,
    Url,
    Wakeup,
)
from queuekit_rabbitmq.broker import Broker
from queuekit_rabbitmq.consumer import Consumer, Held
from queuekit_rabbitmq.counting import count
from queuekit_rabbitmq.delays import STEPS, longest, units_of
from queuekit_rabbitmq.diagnosis import diagnose
from queuekit_rabbitmq.messages import (
    attempts_of,
    body_of,
    dead_properties,
    generation_of,
    message_of,
    properties_of,
    refuse_fields,
)
from queuekit_rabbitmq.presence import Presence
from queuekit_rabbitmq.publisher import Batch, Parcel, Publisher, Refusal, UnroutableError
from queuekit_rabbitmq.session import Session
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import NORMAL, Names, lane_of

if TYPE_CHECKING:
    import pika
    from pika.channel import Channel

__all__ = ["RabbitMQDriver"]

BATCH = 5000
BODY_BYTES = 4 << 20
PUSH_WINDOW = 16
"""Messages beyond a claim's limit that the broker may push: each lane in use gets its whole share, rounded up."""
LATE = 0.25
"""Seconds by which a delay of many steps may be late beyond its unit: some milliseconds a step."""
ANSWER = 30.0
"""Seconds that the broker has to answer."""
OLDEST = (3, 10)
CLOSED = "the queue was closed"
LOOK = 3.0
"""Seconds of silence after which a waiting claim looks whether anything is ready that should have been pushed."""
POLL = 0.2
"""Seconds between looks where there are more lanes than the push window allows consumers."""


class Publishing:
    """A session for publishing, with what it knows of the broker."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self.session = Session(settings, role="publisher")
        self.publisher = Publisher(self.session, window=settings.window)
        self.broker = Broker(self.session, self.publisher, settings, names)
        self.session.prepare = self.broker.prepare
        self.session.on_lost = self.publisher.lose
        self.session.start()


class Lease:
    """A delivery's receipt: the message and the session that it is lent on."""

    __slots__ = ("consumer", "held", "session")

    def __init__(self, session: Session, consumer: Consumer, held: Held) -> None:
        self.session = session
        self.consumer = consumer
        self.held = held


class RabbitMQDriver:
    """Jobs in the queues of one virtual host: a transport, which carries and lends, and keeps no records.

    A lease lasts as long as the connection that it was lent on. See `Settings` for what can be set.
    """

    def __init__(
        self, settings: Settings | None = None, *, namespace: str = "queuekit", clock: Clock | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.namespace = namespace
        self._clock: Clock = clock or SystemClock()
        self._names = Names(namespace)
        self._lock = threading.RLock()
        self._publishing: Publishing | None = None
        self._session: Session | None = None
        self._consumer: Consumer | None = None
        self._pid = os.getpid()
        self._token = 0
        self._turn = ""
        """The queue that was lent from last."""
        self._closed = False
        self.limits = Limits(
            name="rabbitmq",
            batch=BATCH,
            body_bytes=BODY_BYTES,
            longest_delay=longest(self.settings.delay_unit),
            longest_lease=self.settings.consumer_timeout * 0.95,
            resolution=self.settings.delay_unit + LATE,
            keys=False,
            limits=False,
            unique_ids=False,
            atomic=False,
            lease_by="connection",
            push_window=PUSH_WINDOW,
        )

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> RabbitMQDriver:
        """Build the driver for `amqp://user:password@host:port/vhost`."""
        return cls(Settings.from_url(url), namespace=namespace, clock=clock)

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect and check the broker's version; see the contract."""
        publishing = self._publish_session()
        version = _version_text(publishing.session)
        if _version(version) < OLDEST:
            raise DriverRejected(f"RabbitMQ {version} is too old: 3.10 or newer is needed")

    def close(self) -> None:
        """Give back what nobody has claimed, and disconnect; what is lent goes back with the connection."""
        with self._lock:
            self._closed = True
            publishing, session, consumer = self._publishing, self._session, self._consumer
            self._publishing = self._session = self._consumer = None
        if os.getpid() != self._pid:
            return
        if session is not None and consumer is not None:
            if session.alive:
                self._return(session, consumer, publishing, consumer.stop())
            session.close(QueueClosed(CLOSED))
            consumer.wake()
        if publishing is not None:
            publishing.session.close(QueueClosed(CLOSED))

    def prepare(self, queues: Sequence[str]) -> None:
        """Make the queues exist; see the contract."""
        broker = self._publish_session().broker
        for queue in queues:
            broker.address(queue, NORMAL, 0)

    def _publish_session(self, patience: Patience | None = None) -> Publishing:
        """Return a live session for publishing; connects, and blocks until that is done or patience has ended."""
        with self._lock:
            self._check()
            publishing = self._publishing
            if publishing is None or not publishing.session.alive:
                publishing = self._publishing = Publishing(self.settings, self._names)
        left = None if patience is None else patience.remaining()
        if not publishing.session.ready(left):
            assert patience is not None
            patience.check()
        return publishing

    def _consume_session(self) -> tuple[Session, Consumer]:
        with self._lock:
            self._check()
            if self._session is None or not self._session.alive or self._consumer is None:
                self._session = session = Session(self.settings, role="consumer")
                self._consumer = Consumer(session, give_back=self._return_later, gone=self._forget)
                session.prepare = self._prepared(self._consumer)
                session.start()
            session, consumer = self._session, self._consumer
        session.ready(None)
        return session, consumer

    def _prepared(self, consumer: Consumer) -> Callable[[Channel, Callable[[], None]], None]:
        """Return what a consuming session does with its channel first."""
        presence = Presence(self._names, on_lane=self._note_lane, held=consumer.held)

        def prepare(channel: Channel, ready: Callable[[], None]) -> None:
            consumer.prepare(channel)
            presence.prepare(channel, ready)

        return prepare

    def _forget(self, queue: str) -> None:
        """Make everything of a queue again: something of it was deleted. On the I/O thread."""
        if self._publishing is not None:
            self._publishing.broker.forget(queue)

    def _note_lane(self, queue: str, lane: str) -> None:
        """Lend from a lane that somebody has made; on the I/O thread."""
        publishing, consumer = self._publishing, self._consumer
        if publishing is not None and consumer is not None and lane not in publishing.broker.lanes(queue):
            publishing.broker.note_lane(queue, lane)
            consumer.wake()

    def _check(self) -> None:
        if self._closed:
            raise QueueClosed(CLOSED)
        if os.getpid() != self._pid:
            # Threads and their connections stay with the parent of a fork.
            self._pid = os.getpid()
            self._publishing = self._session = self._consumer = None

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Publish with confirms; see the contract."""
        for message in messages:
            refuse_fields(message)
        publishing = self._publish_session(patience)
        parcels = self._parcels(publishing.broker, messages)
        if patience is not None:
            patience.check()
        batch = self._published(publishing, parcels, patience)
        if len(batch.accepted) == len(messages):
            return
        self._resend_returned(publishing, messages, batch, patience)
        _report(messages, batch)

    def _parcels(self, broker: Broker, messages: Iterable[Message]) -> list[Parcel]:
        wall = self._clock.time()
        parcels: list[Parcel] = []
        plain: dict[str, tuple[str, str]] = {}
        for message in messages:
            if message.delay or message.at is not None or message.priority != 4:
                delay = message.delay if message.at is None else max(message.delay, message.at - wall)
                address = broker.address(message.queue, lane_of(message.priority), self._units(delay))
            else:
                address = plain.get(message.queue) or plain.setdefault(
                    message.queue, broker.address(message.queue, NORMAL, 0)
                )
            parcels.append((*address, properties_of(message), body_of(message)))
        return parcels

    def _units(self, delay: float) -> int:
        units = units_of(delay, self.settings.delay_unit) if delay > 0 else 0
        if units >= 1 << STEPS:
            raise ConfigurationError(
                f"delay={delay} is longer than {self.limits.longest_delay} s, which is the longest here"
            )
        return units

    def _published(self, publishing: Publishing, parcels: Sequence[Parcel], patience: Patience | None) -> Batch:
        batch = publishing.publisher.publish(parcels)
        left = None if patience is None else patience.remaining()
        timeout = self.settings.confirm_timeout if left is None else left
        if not batch.wait(timeout):
            publishing.publisher.withdraw(batch, self._late(publishing.session, patience))
        return batch

    def _late(self, session: Session, patience: Patience | None) -> Refusal:
        why = f"RabbitMQ takes no messages at the moment: {session.blocked}" if session.blocked else "no confirm came"
        if patience is not None:
            return DispatchTimeout(f"the dispatch's time ran out before anything was sent: {why}")
        return DriverUnavailable(f"{why} within {self.settings.confirm_timeout} s; nothing was sent")

    def _resend_returned(
        self, publishing: Publishing, messages: Sequence[Message], batch: Batch, patience: Patience | None
    ) -> None:
        """Send what had no queue once more after making the queue again: it was deleted, and nothing was stored."""
        returned = [index for index, error in batch.errors.items() if isinstance(error, UnroutableError)]
        if not returned or not publishing.session.alive:
            return
        for index in returned:
            publishing.broker.forget(messages[index].queue)
        again = self._published(
            publishing, self._parcels(publishing.broker, [messages[index] for index in returned]), patience
        )
        for position, index in enumerate(returned):
            batch.states[index] = again.states[position]
            batch.errors.pop(index)
            if position in again.errors:
                batch.errors[index] = again.errors[position]

    # ------------------------------------------------------------------------------------------------------ lending

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
        wait: float = 0.0,
        wakeup: Wakeup | None = None,
    ) -> list[Delivery]:
        """Lend messages; see the contract.

        `lease` bounds nothing here, and `recover` need not be asked: a lost connection has ended its leases for good.
        """
        del lease, recover
        session, consumer = self._consume_session()
        lanes = self._in_turn(self._lanes(consumer, queues))
        recovered = limit if free is None else free
        found = consumer.take(lanes, limit=limit, recovered=recovered)
        if not found and wait > 0:
            found = self._wait(session, consumer, lanes, limit, recovered, wait, wakeup or Wakeup())
        elif not found or len(found) < recovered:
            silent = [lane for lane in lanes if not consumer.pushed(lane[1])]
            if silent:
                found += consumer.fetch(silent, limit=limit - len(found), timeout=ANSWER)
        if found:
            self._turn = found[-1].queue
        return [self._delivery(session, consumer, held) for held in found]

    def _in_turn(self, lanes: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Begin behind the queue that was lent from last, where lanes are so many that each is fetched from by itself."""
        if len(lanes) <= PUSH_WINDOW:
            return lanes
        last = max((index for index, (queue, _) in enumerate(lanes) if queue == self._turn), default=-1)
        return lanes[last + 1 :] + lanes[: last + 1]

    def _wait(
        self,
        session: Session,
        consumer: Consumer,
        lanes: Sequence[tuple[str, str]],
        limit: int,
        recovered: int,
        wait: float,
        wakeup: Wakeup,
    ) -> list[Held]:
        end = self._clock.monotonic() + wait
        if len(lanes) > PUSH_WINDOW:
            return self._poll(consumer, lanes, limit, end, wakeup)
        if consumer.silent_for() > LOOK:
            self._look(consumer, lanes)
        consumer.add_waiter(wakeup)
        try:
            consumer.subscribe(lanes, want=limit + consumer.lent)
            while True:
                found = consumer.take(lanes, limit=limit, recovered=recovered)
                left = end - self._clock.monotonic()
                if found or left <= 0 or wakeup.is_set():
                    return found
                if not session.alive:
                    self._check()
                    raise DriverUnavailable(str(session.error))
                self._clock.wait(wakeup, left)
                if wakeup.is_set():
                    return consumer.take(lanes, limit=limit, recovered=recovered)
        finally:
            consumer.remove_waiter(wakeup)

    def _poll(
        self, consumer: Consumer, lanes: Sequence[tuple[str, str]], limit: int, end: float, wakeup: Wakeup
    ) -> list[Held]:
        """Fetch from lanes that are too many to be pushed from: each consumer may hold a message that nobody claims."""
        while True:
            found = consumer.fetch(lanes, limit=limit, timeout=ANSWER)
            left = end - self._clock.monotonic()
            if found or left <= 0 or self._clock.wait(wakeup, min(left, POLL)):
                return found

    def _look(self, consumer: Consumer, lanes: Sequence[tuple[str, str]]) -> None:
        """Consume anew where messages are ready and the broker pushes none.

        A quorum queue that was deleted and made again at once has no consumers, and says so to none that it had.
        """
        deserted = self._publish_session().broker.deserted(lane for _, lane in lanes)
        consumer.look_again([lane for lane in deserted if consumer.pushed(lane)])

    def _lanes(self, consumer: Consumer, queues: Sequence[str]) -> list[tuple[str, str]]:
        """Return queue and lane's name for everything to lend from, in order.

        The broker is asked once a session for lanes that exist; of those that come later the session is told.
        """
        broker = self._publish_session().broker
        lanes: list[tuple[str, str]] = []
        unknown = [queue for queue in queues if queue not in consumer.looked or not broker.lanes(queue)]
        if unknown and not broker.blocked:
            broker.look_for_lanes(unknown)
            consumer.looked.update(unknown)
        for queue in queues:
            lanes += [(queue, self._names.lane(queue, lane)) for lane in broker.lanes(queue) or [NORMAL]]
        return lanes

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery]]:
        """Settle, and lend what the broker has pushed meanwhile; see the contract."""
        settlements = self.settle(outcomes)
        return settlements, self.claim(queues, limit=limit, lease=lease, free=free, recover=recover)

    def _delivery(self, session: Session, consumer: Consumer, held: Held) -> Delivery:
        message = message_of(held.queue, held.properties, held.body)
        earlier, lent = attempts_of(held.properties, redelivered=held.redelivered)
        return Delivery(
            message=message,
            token=self._next_token(),
            attempt=earlier + lent + 1,
            generation=generation_of(held.properties),
            recovered=lent > 0,
            receipt=Lease(session, consumer, held),
        )

    def _next_token(self) -> int:
        self._token = token = max(self._token + 1, time.time_ns())
        return token

    # ------------------------------------------------------------------------------------------------------ settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Publish what follows, await its confirms, then acknowledge; see the contract."""
        answers: list[Settlement] = []
        applied: list[Outcome] = []
        with self._lock:
            for outcome in outcomes:
                lease: Lease = outcome.delivery.receipt
                if lease.held.settled:
                    answers.append("already_settled")
                elif not lease.session.alive:
                    answers.append("lost")
                else:
                    lease.held.settled = True
                    answers.append("applied")
                    applied.append(outcome)
        lost = self._apply(applied) if applied else set()
        if lost:
            return [
                "lost" if answer == "applied" and outcome.delivery.receipt.session in lost else answer
                for answer, outcome in zip(answers, outcomes, strict=True)
            ]
        return answers

    def _apply(self, outcomes: Sequence[Outcome]) -> set[Session]:
        """Acknowledge what nothing follows from, then publish and acknowledge the rest; return the sessions lost meanwhile.

        So an alarm, which stops publishers alone, does not stop jobs from being completed.
        """
        plain = [outcome for outcome in outcomes if type(outcome) is Done and not outcome.follow_ups]
        lost = self._acknowledge(plain)
        if len(plain) < len(outcomes):
            others = [outcome for outcome in outcomes if type(outcome) is not Done or outcome.follow_ups]
            try:
                self._publish_followers(others)
            except BaseException:
                for outcome in others:
                    outcome.delivery.receipt.held.settled = False
                raise
            lost |= self._acknowledge(others)
        return lost

    def _acknowledge(self, outcomes: Sequence[Outcome]) -> set[Session]:
        lost: set[Session] = set()
        for lease, held in _by_session(outcomes):
            try:
                lease.consumer.acknowledge(held, timeout=ANSWER)
            except DriverUnavailable:
                lease.session.close()  # whatever it is that does not answer, the broker must not think that we hold these
                lost.add(lease.session)
        return lost

    def _publish_followers(self, outcomes: Sequence[Outcome]) -> None:
        publishing = self._publish_session()
        if publishing.session.blocked is not None:
            raise DriverUnavailable(
                f"what follows from settled jobs waits for the broker: {publishing.session.blocked}"
            )
        parcels: list[Parcel] = []
        for outcome in outcomes:
            parcels += self._parcels(publishing.broker, outcome.follow_ups)
            parcels += self._successors(publishing.broker, outcome)
        if not parcels:
            return
        batch = self._published(publishing, parcels, None)
        if len(batch.accepted) < len(parcels):
            error = next(iter(batch.errors.values()), None)
            for outcome in outcomes:
                publishing.broker.forget(outcome.delivery.message.queue)
            raise DriverUnavailable(f"what follows from settled jobs could not be sent, so they stay open: {error}")

    def _successors(self, broker: Broker, outcome: Outcome) -> list[Parcel]:
        """Return what takes the place of the message that is acknowledged."""
        delivery = outcome.delivery
        message = delivery.message
        match outcome:
            case Again(delay=delay, successor=successor):
                heir = successor or message
                address = broker.address(message.queue, lane_of(message.priority), self._units(delay))
                return [(*address, properties_of(heir, delivery.attempt, delivery.generation), body_of(heir))]
            case Released(delay=delay, successor=successor):
                heir = successor or message
                units = self._units(delay)
                lane = lane_of(message.priority)
                address = broker.address(message.queue, lane, units) if units else broker.back(message.queue)
                return [(*address, properties_of(heir, delivery.attempt - 1, delivery.generation), body_of(heir))]
            case Dead() if message.retain != 0:
                broker.need_lane(message.queue, NORMAL)
                return [("", self._names.dead(message.queue), dead_properties(outcome), body_of(message))]
            case _:
                return []

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Say which leases still stand: those whose connection does. Nothing is to be renewed."""
        del lease
        return [
            Extension(held=d.receipt.session.alive and not d.receipt.held.settled and not self._overdue(d))
            for d in deliveries
        ]

    def _overdue(self, delivery: Delivery) -> bool:
        """Hand a job on that has been held for as long as the broker allows, before that costs the whole channel."""
        held: Held = delivery.receipt.held
        longest_lease = self.limits.longest_lease
        assert longest_lease is not None
        if time.monotonic() - held.came < longest_lease:
            return False
        self.settle([Again(delivery)])
        return True

    # -------------------------------------------------------------------------------------------------- giving back

    def _return_later(self, found: list[Held]) -> None:
        """Give back without holding the I/O thread up, which serves the confirms this waits for."""
        session, consumer, publishing = self._session, self._consumer, self._publishing
        if found and session is not None and consumer is not None:
            arguments = (session, consumer, publishing, found)
            threading.Thread(target=self._return, args=arguments, name="queuekit-amqp-return", daemon=True).start()

    def _return(
        self, session: Session, consumer: Consumer, publishing: Publishing | None, found: Sequence[Held]
    ) -> None:
        """Give back what nobody has claimed: a successor before all others, then the acknowledgement."""
        if not found:
            return
        try:
            assert publishing is not None
            parcels: list[Parcel] = []
            for held in found:
                message = message_of(held.queue, held.properties, held.body)
                earlier, lent = attempts_of(held.properties, redelivered=held.redelivered)
                properties = properties_of(message, earlier + lent, generation_of(held.properties))
                parcels.append((*publishing.broker.back(held.queue), properties, held.body))
            batch = publishing.publisher.publish(parcels)
            if batch.wait(ANSWER) and len(batch.accepted) == len(parcels):
                consumer.acknowledge(found, timeout=ANSWER)
                return
        except DriverError:
            pass
        session.close()  # with the connection everything goes back at once, each with a hand-out counted

    # -------------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count by passive declarations, and by asking every process that lends; see the contract.

        Not of one instant: while nothing seems to be left it looks twice. Without `queues`, those that this driver has used.
        A process that does not answer within a second counts as one running job of the first queue.
        """
        broker = self._publish_session().broker
        found = count(broker, self._names, queues if queues is not None else broker.queues, told=self._told())
        return found if queues is not None else [counts for counts in found if any_of(counts)]

    def _told(self) -> set[str]:
        """Return the queues of whose new lanes this driver is told, because it lends from them."""
        session, consumer = self._session, self._consumer
        return consumer.looked if session is not None and session.alive and consumer is not None else set()

    def purge(self, queue: str) -> int:
        """Delete what waits; see the contract."""
        broker = self._publish_session().broker
        broker.look_for_lanes([queue])
        lanes = [self._names.lane(queue, lane) for lane in broker.lanes(queue)]
        return broker.purge([*lanes, *broker.steps(queue)])

    def replay(self, queue: str, *, limit: int = 100) -> list[str]:
        """Send up to `limit` failed or cancelled jobs of a queue anew: same id, next generation, fresh attempts; return their ids.

        Each is sent before it is removed from among the dead: after a crash in between it runs, and can be replayed, twice.
        """
        publishing = self._publish_session()
        session, consumer = self._consume_session()
        publishing.broker.need_lane(queue, NORMAL)
        dead = consumer.fetch([(queue, self._names.dead(queue))], limit=limit, timeout=ANSWER)
        if not dead:
            return []
        messages = [message_of(queue, held.properties, held.body) for held in dead]
        parcels = [
            (
                *publishing.broker.address(queue, lane_of(message.priority), 0),
                properties_of(message, 0, generation_of(held.properties) + 1),
                held.body,
            )
            for message, held in zip(messages, dead, strict=True)
        ]
        batch = self._published(publishing, parcels, None)
        sent = [dead[index] for index in batch.accepted]
        consumer.acknowledge(sent, timeout=ANSWER)
        if len(sent) < len(dead):
            session.close()  # what was not sent goes back to the dead with the connection
            raise DriverUnavailable(
                f"{len(sent)} of {len(dead)} dead jobs were sent anew; the others stay where they were"
            )
        return [message.id for message in messages]

    def diagnose(self) -> list[Finding]:
        """Say what the broker and this driver's options promise; see the contract."""
        session = self._publish_session().session
        return diagnose(self.settings, _version_text(session), session.blocked)

    def native(self) -> pika.SelectConnection:
        """Return pika's connection for publishing; it belongs to its I/O thread (`ioloop.add_callback_threadsafe`)."""
        return self._publish_session().session.connection


def _by_session(outcomes: Sequence[Outcome]) -> list[tuple[Lease, list[Held]]]:
    groups: dict[int, tuple[Lease, list[Held]]] = {}
    for outcome in outcomes:
        lease: Lease = outcome.delivery.receipt
        groups.setdefault(id(lease.session), (lease, []))[1].append(lease.held)
    return list(groups.values())


def _report(messages: Sequence[Message], batch: Batch) -> None:
    """Raise what a batch that was not accepted whole amounts to."""
    failed = {messages[index].id: error for index, error in batch.errors.items()}
    unknown = batch.unknown
    if not failed and not unknown:
        return
    error: Any = next(iter(failed.values()), None)
    if len(failed) == len(messages):
        raise type(error)(str(error))
    if len(unknown) == len(messages):
        raise AmbiguousSend("RabbitMQ did not confirm what was sent: it may or may not have it")
    raise PartialSend(
        f"{len(batch.accepted)} of {len(messages)} messages were confirmed",
        accepted=[messages[index].id for index in batch.accepted],
        failed=failed,
        unknown={messages[i].id: AmbiguousSend("RabbitMQ did not confirm it") for i in unknown},
    )


def any_of(counts: QueueCounts) -> bool:
    """Whether a queue has any job."""
    return bool(counts.pending or counts.scheduled or counts.running or counts.failed)


def _version_text(session: Session) -> str:
    version = session.server.get("version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


def _version(text: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(text).split(".")[:2] if part.isdecimal())
