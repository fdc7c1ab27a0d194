"""What travels on the transport: a ticket with the job's id. The job itself stays in the store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import msgspec

from queuekit.contract import ConfigurationError, Delivery, Message
from queuekit.ids import checked_id

__all__ = ["TICKET", "chunks", "is_ticket", "known", "ticket"]

TICKET = '{"queuekit":"ticket"}'
"""The body of every ticket. Whatever else arrives was written by somebody else."""


def ticket(message: Message, *, priorities: bool) -> Message:
    """Return what the transport carries for a job: its id, queue and type, due now, and its priority where the transport has any."""
    plain = Message(message.id, message.queue, message.type, TICKET, retain=0.0)
    return msgspec.structs.replace(plain, priority=message.priority) if priorities else plain


def is_ticket(message: Message) -> bool:
    """Whether a message from the transport is one of ours."""
    return message.body == TICKET


def foreign(message: Message) -> Message:
    """Return a message that nobody admitted as the job that the store shall keep: undecodable, its body untouched.

    Its id and type become such as every store takes. The id stays the same each time that the message comes: a UUID made of what
    was no UUID (RFC 9562, section 5.5).
    """
    try:
        id = checked_id(message.id)
    except ConfigurationError:
        id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{message.queue}/{message.id}"))
    type = message.type.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return msgspec.structs.replace(message, id=id, type=type, delay=0.0, at=None, retain=None)


def known(tickets: Sequence[Delivery]) -> list[Delivery]:
    """Return tickets, and what somebody else wrote as the jobs that they become."""
    return [
        ticket if is_ticket(ticket.message) else msgspec.structs.replace(ticket, message=foreign(ticket.message))
        for ticket in tickets
    ]


def chunks(messages: Sequence[Message], size: int) -> Iterator[Sequence[Message]]:
    """Cut into pieces that the transport takes at once."""
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
