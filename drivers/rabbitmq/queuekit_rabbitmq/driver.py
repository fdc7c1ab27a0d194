"""The RabbitMQ driver's verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from queuekit.contract import (
    Clock,
    Delivery,
    Driver,
    DriverRejected,
    DriverUnavailable,
    Extension,
    Finding,
    Limits,
    Message,
    Namespace,
    Outcome,
    Patience,
    QueueCounts,
    Settlement,
    SystemClock,
    Url,
    Wakeup,
)
from queuekit_rabbitmq.broker import Broker
from queuekit_rabbitmq.counting import count
from queuekit_rabbitmq.dead import replay
from queuekit_rabbitmq.delays import longest
from queuekit_rabbitmq.diagnosis import diagnose
from queuekit_rabbitmq.lender import PUSH_WINDOW, Lender
from queuekit_rabbitmq.links import Links
from queuekit_rabbitmq.sender import Sender
from queuekit_rabbitmq.session import Session
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.settler import Settler
from queuekit_rabbitmq.topology import NORMAL, Names

if TYPE_CHECKING:
    import pika

__all__ = ["RabbitMQDriver"]

BATCH = 5000
BODY_BYTES = 4 << 20
LATE = 0.25
"""Seconds by which a delay of many steps may be late beyond its unit: some milliseconds a step."""
OLDEST = (3, 10)


class RabbitMQDriver:
    """Jobs in the queues of one virtual host: a transport, which carries and lends, and keeps no records.

    A lease lasts as long as the connection that it was lent on. Give an address (`amqp://user:password@host/vhost?heartbeat=10`) or
    `Settings`.
    """

    def __init__(
        self,
        settings: Settings | Url | str | None = None,
        *,
        namespace: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = Settings.of(settings)
        self._namespace = Namespace(namespace)
        self._clock: Clock = clock or SystemClock()
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
        self._make_parts()

    def _make_parts(self) -> None:
        """Make what knows the namespace's names; connects nothing."""
        self._links = Links(self.settings, Names(self.namespace))
        self._sender = Sender(self._links, self.settings, self._clock)
        self._lender = Lender(self._links, self._clock)
        longest = self.settings.consumer_timeout * 0.95
        self._settler = Settler(self._links, self._sender, longest_lease=longest)

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> RabbitMQDriver:
        """Build the driver for `amqp://user:password@host:port/vhost`."""
        return cls(Settings.from_url(url), namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Use this namespace's queues; see the contract."""
        if self._namespace.take(namespace, driver=self.limits.name):
            self._make_parts()

    @property
    def _broker(self) -> Broker:
        return self._links.publishing().broker

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect and check the broker's version; see the contract."""
        self._namespace.fix()
        version = _version_text(self._links.publishing().session)
        if _version(version) < OLDEST:
            raise DriverRejected(f"RabbitMQ {version} is too old: 3.10 or newer is needed")

    def close(self) -> None:
        """Give back what nobody has claimed, and disconnect; what is lent goes back with the connection."""
        self._settler.close()
        self._links.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Make the queues exist; see the contract."""
        self._broker.exist((queue, NORMAL) for queue in queues)

    # -------------------------------------------------------------------------------------------------------- verbs

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Publish with confirms; see the contract."""
        self._sender.send(messages, patience)

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
        recovered = limit if free is None else free
        return self._lender.claim(queues, limit=limit, recovered=recovered, wait=wait, wakeup=wakeup)

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
        try:
            return settlements, self.claim(queues, limit=limit, lease=lease, free=free, recover=recover)
        except DriverUnavailable:
            return settlements, []  # what was settled is to be told; the next claim meets the trouble again

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Publish what follows, await its confirms, then acknowledge; see the contract."""
        return self._settler.settle(outcomes)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Say which leases still stand: those whose connection does. Nothing is to be renewed."""
        del lease
        return self._settler.extend(deliveries)

    # ---------------------------------------------------------------------------------------- pairing (the transport)

    def take(
        self, queues: Sequence[str], *, limit: int, ahead: int = 0, wait: float = 0.0, wakeup: Wakeup | None = None
    ) -> list[Delivery]:
        """Hand tickets over; see the contract."""
        return self._lender.take(queues, limit=limit, ahead=ahead, wait=wait, wakeup=wakeup)

    def let_go(self, tickets: Sequence[Delivery]) -> None:
        """Acknowledge tickets without waiting for that; see the contract."""
        self._settler.let_go(tickets)

    # -------------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count by passive declarations, and by asking every process that lends; see the contract.

        Not of one instant: while nothing seems to be left it looks twice. Without `queues`, those that this driver has used.
        A process that does not answer within a second counts as one running job of the first queue.
        """
        broker = self._broker
        found = count(broker, self._links.names, queues if queues is not None else broker.queues, told=self._links.told)
        return found if queues is not None else [counts for counts in found if any_of(counts)]

    def purge(self, queue: str) -> int:
        """Delete what waits; see the contract."""
        broker = self._broker
        broker.look_for_lanes([queue])
        lanes = [self._links.names.lane(queue, lane) for lane in broker.lanes(queue)]
        return broker.purge([*lanes, *broker.steps(queue)])

    def same_queue(self, other: Driver, queue: str) -> bool:
        """Bind a key that nobody can guess, and look for it there: one namespace of one virtual host has all its queues in common."""
        del queue
        if not isinstance(other, RabbitMQDriver):
            return False
        with self._broker.marked() as key:
            return other._broker.has_binding(key)  # noqa: SLF001 - another one of this class

    def replay(self, queue: str, *, limit: int = 100) -> list[str]:
        """Send up to `limit` failed or cancelled jobs of a queue anew: same id, next generation, fresh attempts; return their ids.

        Each is sent before it is removed from among the dead: after a crash in between it runs, and can be replayed, twice.
        """
        return replay(self._links, self._sender, queue, limit=limit)

    def diagnose(self) -> list[Finding]:
        """Say what the broker and this driver's options promise; see the contract."""
        session = self._links.publishing().session
        return diagnose(self.settings, _version_text(session), session.blocked)

    def native(self) -> pika.SelectConnection:
        """Return pika's connection for publishing; it belongs to its I/O thread (`ioloop.add_callback_threadsafe`)."""
        return self._links.publishing().session.connection


def any_of(counts: QueueCounts) -> bool:
    """Whether a queue has any job."""
    return bool(counts.pending or counts.scheduled or counts.running or counts.failed)


def _version_text(session: Session) -> str:
    version = session.server.get("version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


def _version(text: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(text).split(".")[:2] if part.isdecimal())
