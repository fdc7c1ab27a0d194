"""What the driver remembers of a message on loan: it travels with the delivery and comes back with its outcome."""

from __future__ import annotations

from typing import Any

import msgspec

from queuekit.contract import Delivery, Message
from queuekit_sqs.settings import LONGEST_LEASE
from queuekit_sqs.wire import Label, message_of, read_label

__all__ = ["MARGIN", "Lent", "delivery_of", "lent_of"]

MARGIN = 5.0
"""Seconds before the end of the 12 hours at which a lease is given up: clocks differ, and requests take time."""


class Lent(msgspec.Struct, kw_only=True):
    """One receipt of one message."""

    queue: str
    handle: str
    label: Label
    body: str
    """As the message has it."""
    ends: float
    """The lease's end on the monotonic clock of this process; the service's own may be a little later."""
    last: float
    """When no extension helps any more."""
    count: int
    """How often the service has handed the message out."""
    arrived: float
    settled: bool = False
    sent: bool = False
    """Successor and follow-ups are stored already: only the message itself is still to be settled."""
    message: Message

    @property
    def attempt(self) -> int:
        """Hand-outs of this job so far, over all its messages."""
        return self.label.base + self.count

    @property
    def recovered(self) -> bool:
        """Whether an earlier lease ran out, or a retry waited in place: the service counts both alike."""
        return self.label.recovered or self.count > 1


def lent_of(received: dict[str, Any], queue: str, *, now: float, lease: float) -> Lent:
    """Read a received message that is leased from `now` on."""
    label = read_label(received)
    return Lent(
        queue=queue,
        handle=received["ReceiptHandle"],
        label=label,
        body=received["Body"],
        ends=now + lease,
        last=now + LONGEST_LEASE - MARGIN,
        count=int(received.get("Attributes", {}).get("ApproximateReceiveCount", "1")),
        arrived=now,
        message=message_of(received, label, queue),
    )


def delivery_of(lent: Lent, message: Message) -> Delivery:
    """Return what the core gets; the receipt handle's end tells hand-outs apart."""
    return Delivery(
        message=message,
        token=f"{lent.label.id}:{lent.attempt}:{lent.handle[-16:]}",
        attempt=lent.attempt,
        generation=lent.label.generation,
        recovered=lent.recovered,
        receipt=lent,
    )
