"""Settling: what follows is published and confirmed, then the message is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from queuekit.contract import (
    Again,
    Dead,
    Delivery,
    Done,
    DriverError,
    DriverUnavailable,
    Extension,
    Outcome,
    Released,
    Settlement,
)
from queuekit_rabbitmq.broker import Broker, Place
from queuekit_rabbitmq.consumer import Consumer
from queuekit_rabbitmq.links import Links
from queuekit_rabbitmq.messages import body_of, dead_properties, properties_of
from queuekit_rabbitmq.publisher import Parcel
from queuekit_rabbitmq.sender import Sender
from queuekit_rabbitmq.session import ANSWER, Session
from queuekit_rabbitmq.source import Held
from queuekit_rabbitmq.topology import BACK, NORMAL, lane_of

__all__ = ["Settler"]


class Settler:
    """Ends leases; each counts once, whoever asks."""

    def __init__(self, links: Links, sender: Sender, *, longest_lease: float) -> None:
        self._links = links
        self._sender = sender
        self._longest_lease = longest_lease
        self._lock = threading.Lock()
        self._later: set[threading.Thread] = set()

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Publish what follows, await its confirms, then acknowledge; say of each what came of it."""
        answers: list[Settlement] = []
        applied: list[Outcome] = []
        with self._lock:
            for outcome in outcomes:
                held: Held = outcome.delivery.receipt
                if held.settled:
                    answers.append("lost" if held.lost else "already_settled")
                elif not held.session.alive:
                    answers.append("lost")
                else:
                    held.settled = True
                    answers.append("applied")
                    applied.append(outcome)
        lost = self._apply(applied) if applied else set()
        if lost:
            return [
                "lost" if answer == "applied" and outcome.delivery.receipt.session in lost else answer
                for answer, outcome in zip(answers, outcomes, strict=True)
            ]
        return answers

    def let_go(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge soon, and ask for no answer: what the broker did not hear of comes back."""
        open_: list[Held] = []
        with self._lock:
            for delivery in deliveries:
                held: Held = delivery.receipt
                if not held.settled:
                    held.settled = True
                    open_.append(held)
        for consumer, found in _by_consumer(open_):
            consumer.let_go(found)

    def _apply(self, outcomes: Sequence[Outcome]) -> set[Session]:
        """Acknowledge what nothing follows from, then publish and acknowledge the rest; return the sessions lost meanwhile.

        So an alarm, which stops publishers alone, does not stop jobs from being completed.
        """
        plain = [outcome for outcome in outcomes if type(outcome) is Done and not outcome.follow_ups]
        lost = self._acknowledge(plain)
        if len(plain) < len(outcomes):
            others = [outcome for outcome in outcomes if type(outcome) is not Done or outcome.follow_ups]
            try:
                written = self._publish_followers(others)
            except BaseException:
                for outcome in others:
                    outcome.delivery.receipt.settled = False
                raise
            if written is None:
                lost |= self._acknowledge(others)
            else:
                self._acknowledge_when(written, others)
        return lost

    def _acknowledge_when(self, written: Callable[[], None], outcomes: Sequence[Outcome]) -> None:
        """Acknowledge once a new queue that something was sent to is written down; the worker goes on meanwhile.

        Should the node die before, these messages come back, and what was sent is in the new queue or not: twice rather than never.
        """

        def wait() -> None:
            written()
            self._acknowledge(outcomes)
            self._later.discard(thread)

        for outcome in outcomes:
            outcome.delivery.receipt.followed = True
        thread = threading.Thread(target=wait, name="queuekit-amqp-acknowledge", daemon=True)
        self._later.add(thread)
        thread.start()

    def close(self) -> None:
        """Block until all is acknowledged that waits for a new queue; idempotent."""
        for thread in list(self._later):
            thread.join()

    def _acknowledge(self, outcomes: Sequence[Outcome]) -> set[Session]:
        lost: set[Session] = set()
        for consumer, held in _by_consumer([outcome.delivery.receipt for outcome in outcomes]):
            try:
                consumer.acknowledge(held, timeout=ANSWER)
            except DriverError:
                consumer.session.close()  # whatever it is that does not answer, the broker must not think that we hold these
                lost.add(consumer.session)
                for each in held:
                    each.lost = True
        return lost

    def _publish_followers(self, outcomes: Sequence[Outcome]) -> Callable[[], None] | None:
        """Publish what follows; return what blocks until the queues are written down that it went to, None where they are."""
        publishing = self._links.publishing()
        if publishing.session.blocked is not None:
            raise DriverUnavailable(
                f"what follows from settled jobs waits for the broker: {publishing.session.blocked}"
            )
        followers = [message for outcome in outcomes for message in outcome.follow_ups]
        places = self._sender.places(followers)
        taken = [place for outcome in outcomes if (place := self._place(outcome))]
        making = publishing.broker.begin([*places, *taken])
        parcels = self._sender.parcels(publishing.broker, followers, places)
        for outcome in outcomes:
            parcels += self._successors(publishing.broker, outcome)
        if not parcels:
            return None
        returned = {outcome.delivery.message.queue for outcome in outcomes if type(outcome) is Released}
        for queue in returned:
            self._links.note_back(queue)
        batch = self._sender.publish(publishing, parcels)
        if returned:
            publishing.broker.tell_back(returned)
        if len(batch.accepted) < len(parcels):
            error = next(iter(batch.errors.values()), None)
            for outcome in outcomes:
                publishing.broker.forget(outcome.delivery.message.queue)
            raise DriverUnavailable(f"what follows from settled jobs could not be sent, so they stay open: {error}")
        return publishing.broker.until_written(making)

    def _successors(self, broker: Broker, outcome: Outcome) -> list[Parcel]:
        """Return what takes the place of the message that is acknowledged."""
        delivery = outcome.delivery
        message, place = delivery.message, self._place(outcome)
        if place is None:
            return []
        match outcome:
            case Again(successor=successor):
                heir = successor or message
                properties = properties_of(heir, delivery.attempt, delivery.generation)
                return [(*broker.address(*place), heir.id, properties, body_of(heir))]
            case Released(successor=successor):
                heir = successor or message
                properties = properties_of(heir, delivery.attempt - 1, delivery.generation)
                return [(*broker.address(*place), heir.id, properties, body_of(heir))]
            case Dead():
                dead = self._links.names.dead(message.queue)
                return [("", dead, message.id, dead_properties(outcome), body_of(message))]
            case _:
                return []

    def _place(self, outcome: Outcome) -> Place | None:
        """Return where what takes a message's place goes; None where nothing does."""
        message = outcome.delivery.message
        match outcome:
            case Again(delay=delay):
                return message.queue, lane_of(message.priority), self._sender.units(delay)
            case Released(delay=delay):
                units = self._sender.units(delay)
                return message.queue, lane_of(message.priority) if units else BACK, units
            case Dead() if message.retain != 0:
                return message.queue, NORMAL, 0
            case _:
                return None

    def extend(self, deliveries: Sequence[Delivery]) -> list[Extension]:
        """Say which leases still stand: those whose connection does. Nothing is to be renewed."""
        return [
            Extension(held=d.receipt.session.alive and not d.receipt.settled and not self._overdue(d))
            for d in deliveries
        ]

    def _overdue(self, delivery: Delivery) -> bool:
        """Hand a job on that has been held for as long as the broker allows, before that costs the whole channel."""
        held: Held = delivery.receipt
        if time.monotonic() - held.came < self._longest_lease:
            return False
        self.settle([Again(delivery)])
        return True


def _by_consumer(found: Sequence[Held]) -> Iterable[tuple[Consumer, list[Held]]]:
    groups: dict[Consumer, list[Held]] = {}
    for held in found:
        groups.setdefault(held.consumer, []).append(held)
    return groups.items()
