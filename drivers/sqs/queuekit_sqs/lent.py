"""What the driver remembers of a message on loan: it travels with the delivery and comes back with its outcome."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from queuekit.contract import Clock, Delivery, Message
from queuekit_sqs.settings import LONGEST_LEASE
from queuekit_sqs.wire import Label, message_of, read_label

__all__ = ["MARGIN", "Lent", "Tokens", "delivery_of", "lent_of"]

MARGIN = 5.0
"""Seconds before the end of the 12 hours at which a lease is given up: clocks differ, and requests take time."""


class Lent(msgspec.Struct, kw_only=True):
    """One receipt of one message."""

    queue: str
    service_id: str
    """The service's own id of the message; each receipt has another handle."""
    handle: str
    label: Label
    body: str
    """As the message has it."""
    ends: float
    """The lease's end on the monotonic clock of this process: rather before the service's own than after it."""
    last: float
    """When no extension helps any more."""
    count: int
    """How often the service has handed the message out."""
    hidden: int
    """How many of those times it was not due yet, and hidden until it was: FIFO has no delay of a message."""
    arrived: float
    settled: bool = False
    sent: bool = False
    """Successor and follow-ups are stored already: only the message itself is still to be settled."""
    tried: bool = False
    """It was to be deleted or hidden, and perhaps was: the answer may have been lost."""
    message: Message

    @property
    def attempt(self) -> int:
        """Hand-outs of this job so far, over all its messages."""
        return self.label.base + self.count - self.hidden

    @property
    def recovered(self) -> bool:
        """Whether an earlier lease ran out, or a retry waited in place: the service counts both alike."""
        return self.label.recovered or self.count - self.hidden > 1


def lent_of(received: dict[str, Any], queue: str, *, began: float, ends: float, now: float) -> Lent:
    """Read a message that was asked for when it `began`, arrived `now`, and is leased until it `ends`."""
    label = read_label(received)
    attributes = received.get("Attributes", {})
    count = int(attributes.get("ApproximateReceiveCount", "1"))
    return Lent(
        queue=queue,
        service_id=received["MessageId"],
        handle=received["ReceiptHandle"],
        label=label,
        body=received["Body"],
        ends=ends,
        last=began + LONGEST_LEASE - MARGIN,
        count=count,
        hidden=_hidden(label, count, attributes),
        arrived=now,
        message=message_of(received, label, queue),
    )


def _hidden(label: Label, count: int, attributes: dict[str, str]) -> int:
    """Return how often a message was received before it was due: its first receipt was early, or none was."""
    first = int(attributes.get("ApproximateFirstReceiveTimestamp", "0")) / 1000
    return int(label.due is not None and count > 1 and first < label.due)


class Tokens:
    """Numbers for hand-outs: the time of day in nanoseconds, each one greater than all before it in this process.

    So a later hand-out has a greater number wherever it happened, as far as the machines' clocks agree.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        """Return a new one."""
        with self._lock:
            self._last = max(self._last + 1, int(self._clock.time() * 1e9))
            return self._last


def delivery_of(lent: Lent, message: Message, token: int = 0) -> Delivery:
    """Return what the core gets."""
    return Delivery(
        message=message,
        token=token,
        attempt=lent.attempt,
        generation=lent.label.generation,
        recovered=lent.recovered,
        receipt=lent,
    )
