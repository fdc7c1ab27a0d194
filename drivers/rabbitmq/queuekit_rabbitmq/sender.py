"""Sending: messages become parcels with an address, and each one's fate is known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuekit.contract import (
    AmbiguousSend,
    Clock,
    ConfigurationError,
    DispatchTimeout,
    DriverUnavailable,
    Message,
    PartialSend,
    Patience,
)
from queuekit_rabbitmq.broker import Broker, Place
from queuekit_rabbitmq.delays import STEPS, longest, units_of
from queuekit_rabbitmq.links import Links, Publishing
from queuekit_rabbitmq.messages import body_of, properties_of, refuse_fields
from queuekit_rabbitmq.publisher import Batch, Parcel, Refusal, UnroutableError
from queuekit_rabbitmq.session import Session
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import lane_of

__all__ = ["Sender"]


class Sender:
    """Publishes messages and what follows from settled ones."""

    def __init__(self, links: Links, settings: Settings, clock: Clock) -> None:
        self._links = links
        self._settings = settings
        self._clock = clock

    def send(self, messages: Sequence[Message], patience: Patience | None) -> None:
        """Publish with confirms; raises for what was not accepted, exactly."""
        for message in messages:
            refuse_fields(message)
        publishing = self._links.publishing(patience)
        batch = self._publish(publishing, messages, patience)
        if len(batch.accepted) == len(messages):
            return
        self._resend_returned(publishing, messages, batch, patience)
        _report(messages, batch)

    def _publish(self, publishing: Publishing, messages: Sequence[Message], patience: Patience | None) -> Batch:
        """Make the places that are missing, and publish once they are written down."""
        places = self.places(messages)
        publishing.broker.need(places, patience)
        if patience is not None:
            patience.check()
        return self.publish(publishing, self.parcels(publishing.broker, messages, places), patience)

    def parcels(self, broker: Broker, messages: Sequence[Message], places: Sequence[Place]) -> list[Parcel]:
        """Address messages to their places."""
        addresses = {place: broker.address(*place) for place in dict.fromkeys(places)}
        return [
            (*addresses[place], message.id, properties_of(message), body_of(message))
            for place, message in zip(places, messages, strict=True)
        ]

    def places(self, messages: Sequence[Message]) -> list[Place]:
        """Return where messages go."""
        wall = self._clock.time()
        return [self._place(message, wall) for message in messages]

    def _place(self, message: Message, wall: float) -> Place:
        if not message.delay and message.at is None:
            return message.queue, lane_of(message.priority), 0
        delay = message.delay if message.at is None else max(message.delay, message.at - wall)
        return message.queue, lane_of(message.priority), self.units(delay)

    def units(self, delay: float) -> int:
        """Return a delay in steps of the ladder; raises for one that is longer than the ladder."""
        unit = self._settings.delay_unit
        units = units_of(delay, unit) if delay > 0 else 0
        if units >= 1 << STEPS:
            raise ConfigurationError(f"delay={delay} is longer than {longest(unit)} s, which is the longest here")
        return units

    def publish(self, publishing: Publishing, parcels: Sequence[Parcel], patience: Patience | None = None) -> Batch:
        """Publish and wait for the confirms; what has not left when the time is over is withdrawn."""
        batch = publishing.publisher.publish(parcels)
        left = None if patience is None else patience.remaining()
        timeout = self._settings.confirm_timeout if left is None else left
        if not batch.wait(timeout):
            publishing.publisher.withdraw(batch, self._late(publishing.session, patience))
        return batch

    def _late(self, session: Session, patience: Patience | None) -> Refusal:
        why = f"RabbitMQ takes no messages at the moment: {session.blocked}" if session.blocked else "no confirm came"
        if patience is not None and patience.remaining() is not None:
            return DispatchTimeout(f"the dispatch's time ran out before anything was sent: {why}")
        return DriverUnavailable(f"{why} within {self._settings.confirm_timeout} s; nothing was sent")

    def _resend_returned(
        self, publishing: Publishing, messages: Sequence[Message], batch: Batch, patience: Patience | None
    ) -> None:
        """Send what had no queue once more after making the queue again: it was deleted, and nothing was stored."""
        returned = [index for index, error in batch.errors.items() if isinstance(error, UnroutableError)]
        if not returned or not publishing.session.alive:
            return
        for index in returned:
            publishing.broker.forget(messages[index].queue)
        again = self._publish(publishing, [messages[index] for index in returned], patience)
        for position, index in enumerate(returned):
            batch.states[index] = again.states[position]
            batch.errors.pop(index)
            if position in again.errors:
                batch.errors[index] = again.errors[position]


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
