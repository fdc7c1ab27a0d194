"""What is declared for lanes and delays: queues, exchanges and bindings with their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from queuekit.contract import FAILED_RETAIN
from queuekit_rabbitmq.delays import STEPS
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import BACK, Lane, Names

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Maker", "parts_of", "waits_of"]

NEVER = (1 << 31) - 1
"""A delivery limit that nothing reaches: left out, it is 20 from RabbitMQ 4.0 on; -1 means none there, and no return at all before."""


def waits_of(units: int) -> list[int]:
    """Return the steps of the ladder at which delays wait whose bits, all of them together, are these."""
    return [number for number in range(STEPS) if units >> number & 1]


def parts_of(queue: str, lane: Lane, units: int) -> set[str]:
    """Return the parts of a queue's ladder that such delays need."""
    steps = {f"{queue}:step:{number}" for number in range(units.bit_length())}
    return {f"{queue}:due:{lane}", *steps, *(f"{queue}:wait:{number}" for number in waits_of(units))}


class Maker:
    """Declares on a channel, on the I/O thread; everything may be there already, and must then be the same."""

    def __init__(self, names: Names, settings: Settings) -> None:
        self._names = names
        self._settings = settings

    def base(self, channel: Channel) -> None:
        """Declare what every queue needs."""
        names = self._names
        channel.exchange_declare(names.lanes, "topic", durable=True)
        channel.queue_declare(names.void, durable=True, arguments={"x-max-length": 0})
        channel.queue_declare(names.workers, durable=True)

    def lanes(self, channel: Channel, lanes: Iterable[tuple[str, Lane]], marked: AbstractSet[str]) -> None:
        """Declare lanes, with what is needed in a hurry later: where the dead go, and what is given back.

        Of those that are `marked` all must exist; otherwise the broker closes the channel.
        """
        names = self._names
        for queue, lane in lanes:
            dead, lent = names.dead(queue), {names.lane(queue, lane), names.lane(queue, BACK)}
            if names.mark(queue, lane) in marked:
                for name in {dead, *lent}:
                    channel.queue_declare(name, passive=True)
            channel.queue_declare(dead, durable=True, arguments=self._dead_arguments())
            for name in lent:
                channel.queue_declare(name, durable=True, arguments=self._lane_arguments(queue))
            channel.queue_bind(names.void, names.lanes, f"is.{lane}.{queue}")

    def ladder(
        self, channel: Channel, queue: str, lane: Lane, parts: AbstractSet[str], marked: AbstractSet[str]
    ) -> None:
        """Declare parts of a queue's ladder; of those that are `marked` all must exist."""
        names = self._names
        if f"{queue}:due:{lane}" in parts:
            channel.exchange_declare(names.due(queue), "topic", durable=True)
            channel.queue_bind(names.lane(queue, lane), names.due(queue), "*." * STEPS + lane)
        for number in range(STEPS):
            below = names.step(queue, number - 1) if number else names.due(queue)
            step = names.step(queue, number)
            above = "*." * (STEPS - 1 - number)
            if f"{queue}:step:{number}" in parts:
                channel.exchange_declare(step, "topic", durable=True)
                channel.exchange_bind(below, step, f"{above}0.#")
            if f"{queue}:wait:{number}" in parts:
                if names.mark(queue, f"step-{number}") in marked:
                    channel.queue_declare(step, passive=True)
                channel.queue_declare(step, durable=True, arguments=self._step_arguments(number, below))
                channel.queue_bind(step, step, f"{above}1.#")

    def _lane_arguments(self, queue: str) -> dict[str, Any]:
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self._names.dead(queue)}
        if self._settings.queue_type == "classic":
            return {"x-queue-type": "classic", **dead}
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self._settings.delivery_limit,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            **dead,
        }

    def _step_arguments(self, number: int, below: str) -> dict[str, Any]:
        """Return what makes a queue a step; always a quorum queue, since a classic one cannot dead-letter at least once."""
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": round((1 << number) * self._settings.delay_unit * 1000),
            "x-delivery-limit": NEVER,
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def _dead_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "x-queue-type": self._settings.queue_type,
            "x-message-ttl": round(FAILED_RETAIN * 1000),
        }
        return arguments if self._settings.queue_type == "classic" else {**arguments, "x-delivery-limit": NEVER}
