"""What travels on the transport: a ticket with the job's id. The job itself stays in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from queuekit.contract import Message

__all__ = ["TICKET", "chunks", "is_ticket", "ticket"]

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
    """Return a message that nobody admitted as the job that the store shall keep: undecodable, its body untouched."""
    return msgspec.structs.replace(message, delay=0.0, at=None, retain=None)


def chunks(messages: Sequence[Message], size: int) -> Iterator[Sequence[Message]]:
    """Cut into pieces that the transport takes at once."""
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
