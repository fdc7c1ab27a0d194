"""From rows to records and messages."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from queuekit.contract import Delivery, Failure, Message, Record

SURROGATE = re.compile("[\ud800-\udfff]")
_message = msgspec.json.Decoder(Message)
_errors = msgspec.json.Decoder(tuple[Failure, ...])


def extra_of(message: Message) -> str:
    """Return a message without its body, as JSON."""
    return msgspec.json.encode(msgspec.structs.replace(message, body="", delay=0.0, at=None)).decode()


def stored_body(text: str) -> str | bytes:
    """Return a body as it is stored: text, or the bytes of one that came from a transport and is no UTF-8."""
    return text if text.isascii() or not SURROGATE.search(text) else text.encode("utf-8", "surrogateescape")


def text_of(body: str | bytes) -> str:
    """Return a stored body as text, whatever somebody wrote there; its bytes are kept as surrogates."""
    return body if isinstance(body, str) else body.decode("utf-8", "surrogateescape")


def delivery_of(row: tuple[Any, ...], token: int) -> Delivery:
    """Build a delivery from a row of `pick_ready` or `pick_recovered`."""
    seq, id, queue, type_, body, extra, rank, attempt, generation, recovered = row
    return Delivery(
        message_of(id, queue, type_, body, extra, rank), token, attempt + 1, generation, bool(recovered), seq
    )


def message_of(id: str, queue: str, type: str, body: str | bytes, extra: str | None, rank: int) -> Message:
    """Build the message that was stored."""
    text = text_of(body)
    if extra is None:
        return Message(id, queue, type, text) if rank == 5 else Message(id, queue, type, text, priority=9 - rank)
    return msgspec.structs.replace(_message.decode(extra), body=text)


def errors_of(text: str | None) -> tuple[Failure, ...]:
    """Return the failures that a row keeps."""
    return () if text is None else _errors.decode(text)


def record_of(row: tuple[Any, ...]) -> Record:
    """Build a record from a row of `record.sql`."""
    (
        _seq, id, queue, type_, state, body, reason, rank, extra, attempt, generation, accepted_at, due, started_at,
        finished_at, percent, step, errors, result, result_error, cancel, token, held,
    ) = row  # fmt: skip
    message = None if extra is None else _message.decode(extra)
    return Record(
        id=id,
        queue=queue,
        type=type_,
        state=state,
        body=text_of(body),
        reason=reason,
        priority=9 - rank,
        key=None if message is None else message.key,
        tags=() if message is None else message.tags,
        attempt=attempt,
        generation=generation,
        accepted_at=accepted_at,
        due_at=due if held is None else None,
        started_at=started_at,
        finished_at=finished_at,
        progress=percent,
        step=step,
        errors=errors_of(errors),
        result=result,
        result_error=result_error,
        cancel_requested=bool(cancel),
        token=token,
        message=message_of(id, queue, type_, body, extra, rank),
    )
