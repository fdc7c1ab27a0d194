"""Messages as AMQP carries them: the body as it is, everything else in properties and headers."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from queuekit.contract import Dead, Message, UnsupportedError
from queuekit_rabbitmq.wire import Properties, encoded

__all__ = [
    "attempts_of",
    "body_of",
    "dead_properties",
    "generation_of",
    "message_of",
    "properties_of",
    "refuse_fields",
]

ATTEMPTS, GENERATION, PRIORITY, TAGS, RETAIN, REASON, STATE, ERROR = (
    f"queuekit-{name}" for name in ("attempts", "generation", "priority", "tags", "retain", "reason", "state", "error")
)
DELIVERIES = "x-delivery-count"
"""Set by quorum queues: how often a message was handed out and came back."""
_ABSENT = ("key", "concurrency", "rate", "unique")


def refuse_fields(message: Message) -> None:
    """Raise for what a message asks for and no queue of RabbitMQ can do."""
    for name in _ABSENT:
        if getattr(message, name) is not None:
            feature = "rate_limit" if name == "rate" else name
            remedy = 'pair it with a store, as in Queue("amqp://…", store="redis://…"), or leave the option out'
            text = f"the rabbitmq driver cannot honour {feature}: {remedy}"
            raise UnsupportedError(text, driver="rabbitmq", feature=feature, remedy=remedy)


def body_of(message: Message) -> bytes:
    """Return the body's bytes, also of one that was no UTF-8 when it came."""
    return message.body.encode("utf-8", "surrogateescape")


def properties_of(message: Message, attempts: int = 0, generation: int = 0) -> bytes:
    """Describe a message; `attempts` were made under earlier messages of the same job in this `generation`."""
    return encoded(message.id, message.type, _headers_of(message, attempts, generation))


def _headers_of(message: Message, attempts: int, generation: int) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if generation:
        headers[GENERATION] = generation
    if attempts:
        headers[ATTEMPTS] = attempts
    if message.priority != 4:
        headers[PRIORITY] = message.priority
    if message.tags:
        headers[TAGS] = list(message.tags)
    if message.retain is not None:
        headers[RETAIN] = str(message.retain)
    return headers


def dead_properties(outcome: Dead) -> bytes:
    """Describe a message that ends in the queue of failed jobs."""
    delivery = outcome.delivery
    message = delivery.message
    headers = _headers_of(message, delivery.attempt, delivery.generation)
    headers[REASON] = outcome.reason
    headers[STATE] = outcome.state
    if outcome.error is not None:
        headers[ERROR] = msgspec.json.encode(outcome.error).decode()
    return encoded(message.id, message.type, headers)


def message_of(queue: str, properties: Properties, body: bytes) -> Message:
    """Read a message; one that queuekit did not write gets a fresh id."""
    id, type, headers = properties
    text = body.decode("utf-8", "surrogateescape")
    if not headers:
        return Message(id or str(uuid.uuid4()), queue, type or "", text)
    return Message(
        id or str(uuid.uuid4()),
        queue,
        type or "",
        text,
        priority=min(9, max(0, _whole(headers, PRIORITY, 4))),
        tags=_texts(headers.get(TAGS)),
        retain=_seconds(headers.get(RETAIN)),
    )


def attempts_of(properties: Properties, *, redelivered: bool) -> tuple[int, int]:
    """Return how many attempts earlier messages of the job had, and how often this one was lent before.

    A classic queue knows of the latter only whether it was at all.
    """
    headers = properties[2]
    if not headers:
        return 0, int(redelivered)
    lent = _whole(headers, DELIVERIES, 1 if redelivered and DELIVERIES not in headers else 0)
    return _whole(headers, ATTEMPTS, 0), lent


def generation_of(properties: Properties) -> int:
    """Return how often the job was started over."""
    return _whole(properties[2], GENERATION, 0)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _seconds(value: Any) -> float | None:
    """Read a duration; what is none was not written by queuekit, and is left out like whatever else it does not know."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _whole(headers: Mapping[str, Any], name: str, default: int) -> int:
    value = headers.get(name)
    return value if isinstance(value, int) else default
