"""From messages to rows, and from rows to deliveries, messages and records."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from queuekit.contract import FAILED_RETAIN, RETAIN, Delivery, Failure, Message, Record

_message = msgspec.json.Decoder(Message)
_errors = msgspec.json.Decoder(tuple[Failure, ...])
PLAIN = msgspec.structs.astuple(Message("", "", "", ""))[4:]
"""What follows id, queue, type and body in a message that goes straight to the end of its line."""


def is_plain(message: Message) -> bool:
    """Whether a message goes straight to the end of its line."""
    return msgspec.structs.astuple(message)[4:] == PLAIN


def digest(text: str) -> bytes:
    """Return what stands for a key or a scope in the tables."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def bytes_of(text: str) -> bytes:
    """Return a body's bytes; what came in as surrogates goes out as the bytes that it was."""
    return text.encode("utf-8", "surrogateescape")


def text_of(body: bytes) -> str:
    """Return a stored body as text, whatever somebody wrote there; its bytes are kept as surrogates."""
    return body.decode("utf-8", "surrogateescape")


def storable(text: str | None) -> str | None:
    """Return a text that a text column can hold: without NUL and lone surrogates."""
    if text is None:
        return None
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def extra_of(message: Message) -> str | None:
    """Return a message without its body as JSON; None when its plain columns say it all."""
    if not has_extra(message):
        return None
    return msgspec.json.encode(msgspec.structs.replace(message, body="", delay=0.0, at=None)).decode()


def has_extra(message: Message) -> bool:
    """Whether a message has more than columns of its own can say."""
    return bool(
        message.key is not None
        or message.concurrency is not None
        or message.rate is not None
        or message.unique is not None
        or message.retain is not None
        or message.tags
    )


def is_gated(message: Message) -> bool:
    """Whether lending a message takes more questions than a plain one's."""
    starts_free = message.unique is not None and message.unique.until == "start"
    return message.key is not None or message.concurrency is not None or message.rate is not None or starts_free


def gates_of(message: Message) -> dict[str, Any]:
    """Return the columns that hold a message back."""
    return {
        "gated": is_gated(message),
        "key": None if message.key is None else digest(message.key),
        "limit_key": None if message.concurrency is None else digest(message.concurrency.key),
        "rate_key": None if message.rate is None else digest(message.rate.key),
    }


def row_of(message: Message) -> dict[str, Any]:
    """Return the parameters with which a message is stored."""
    return {
        "id": message.id,
        "queue": message.queue,
        "type": message.type,
        "body": bytes_of(message.body),
        "extra": extra_of(message),
        "rank": 9 - message.priority,
        "scope": None if message.unique is None else digest(message.unique.scope),
        "delay": float(message.delay),
        "at": message.at,
        **gates_of(message),
    }


def message_of(id: str, queue: str, type: str, body: bytes, extra: str | None, rank: int) -> Message:
    """Build the message that was stored."""
    text = text_of(body)
    if extra is None:
        return Message(id, queue, type, text) if rank == 5 else Message(id, queue, type, text, priority=9 - rank)
    return msgspec.structs.replace(_message.decode(extra), body=text)


def options_of(extra: str) -> Message:
    """Return a message's options, its body left out."""
    return _message.decode(extra)


def delivery_of(row: tuple[Any, ...]) -> Delivery:
    """Build a delivery from a row of `claim` or `lend`."""
    _rank, _seq, id, queue, type, body, extra, attempt, generation, recovered, token = row
    message = message_of(id, queue, type, body, extra, _rank)
    return Delivery(message, token, attempt, generation, recovered)


def errors_of(text: str | None) -> tuple[Failure, ...]:
    """Return the failures that a row keeps."""
    return () if text is None else _errors.decode(text)


def errors_text(failures: tuple[Failure, ...]) -> str:
    """Return failures as JSON."""
    return storable(msgspec.json.encode(failures).decode()) or ""


def retain_of(extra: str | None, state: str) -> float:
    """Return the seconds that a record is kept."""
    retain = None if extra is None else _message.decode(extra).retain
    if retain is not None:
        return retain
    return RETAIN if state == "completed" else FAILED_RETAIN


def record_of(row: tuple[Any, ...]) -> Record:
    """Build a record from a row of `records.sql`."""
    (
        _seq, id, queue, type, state, body, reason, rank, extra, attempt, generation, accepted_at, due, started_at,
        finished_at, percent, step, errors, result, result_error, cancel, token,
    ) = row  # fmt: skip
    message = None if extra is None else _message.decode(extra)
    return Record(
        id=id,
        queue=queue,
        type=type,
        state=state,
        body=text_of(body),
        reason=reason,
        priority=9 - rank,
        key=None if message is None else message.key,
        tags=() if message is None else message.tags,
        attempt=attempt,
        generation=generation,
        accepted_at=accepted_at,
        due_at=due,
        started_at=started_at,
        finished_at=finished_at,
        progress=percent,
        step=step,
        errors=errors_of(errors),
        result=None if result is None else text_of(result),
        result_error=result_error,
        cancel_requested=cancel,
        token=token,
        message=msgspec.structs.replace(message, body=text_of(body))
        if message is not None
        else message_of(id, queue, type, body, extra, rank),
    )
