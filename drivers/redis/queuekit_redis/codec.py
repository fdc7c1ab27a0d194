"""Between the contract's values and what the scripts store: records, replies, outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import msgspec

from queuekit.contract import (
    Again,
    Concurrency,
    Dead,
    Delivery,
    Done,
    Failure,
    Message,
    Outcome,
    Rate,
    Record,
    Released,
    State,
    Token,
    Unique,
)

__all__ = [
    "STATES",
    "delivery_of",
    "is_plain",
    "micros",
    "pack",
    "packed_message",
    "packed_outcome",
    "plain_record",
    "record_of",
]

STATES: dict[str, State] = {
    "p": "pending",
    "s": "scheduled",
    "r": "running",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
}
CODES = {state: code for code, state in STATES.items()}
SECOND = 1_000_000


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a record has beyond type and body; `scripts/parts/job.lua` reads it."""

    k: str | None = None
    c: tuple[str, int] | None = None
    r: tuple[str, int, float] | None = None
    u: tuple[str, float, str, str] | None = None
    t: float | None = None
    g: tuple[str, ...] = ()
    y: str | None = None
    """The type, where it has a newline."""


_pack = msgspec.msgpack.Encoder().encode
_head = msgspec.json.Decoder(Head)
_failure = msgspec.json.Decoder(Failure)
_result = msgspec.json.Decoder(tuple[str | None, str | None])
_progress = msgspec.json.Decoder(tuple[float, str | None])


def micros(seconds: float) -> int:
    """Return microseconds, rounded up so that nothing is early; what binary fractions cannot say exactly does not count."""
    return math.ceil(round(seconds * SECOND, 3))


def pack(value: Any) -> bytes:
    """Return a value as one argument for a script, in MessagePack; texts may hold bytes that were not UTF-8."""
    try:
        return _pack(value)
    except UnicodeEncodeError:
        return _pack_raw(value)


def _pack_raw(value: Any) -> bytes:
    """Pack without looking into texts: surrogates become the bytes that they stand for.

    MessagePack's type for bytes would be right, and Redis' decoder does not know it.
    """
    match value:
        case str():
            data = value.encode("utf-8", "surrogateescape")
            return b"\xdb" + len(data).to_bytes(4) + data
        case list() | tuple():
            return b"\xdd" + len(value).to_bytes(4) + b"".join(map(_pack_raw, value))
        case dict():
            return b"\xdf" + len(value).to_bytes(4) + b"".join(_pack_raw(k) + _pack_raw(v) for k, v in value.items())
        case _:
            return _pack(value)


# ------------------------------------------------------------------------------------------------------------ messages


def is_plain(message: Message) -> bool:
    """Whether a message has nothing that a script must read."""
    return (
        message.key is None
        and message.concurrency is None
        and message.rate is None
        and message.unique is None
        and (message.retain is None or message.retain == 0)
        and not message.tags
        and "\n" not in message.type
    )


def plain_record(message: Message) -> str:
    """Return the record of a plain message."""
    return f"{'P' if message.retain is None else 'F'}{message.type}\n{message.body}"


def stored_record(message: Message) -> str:
    """Return the record of any message."""
    if is_plain(message):
        return plain_record(message)
    newline = "\n" in message.type
    head = msgspec.json.encode(_head_of(message, newline)).decode()
    return f"X{len(head.encode())}:{head}{'' if newline else message.type}\n{message.body}"


def _head_of(message: Message, newline: bool) -> Head:
    concurrency, rate, unique = message.concurrency, message.rate, message.unique
    return Head(
        k=message.key,
        c=None if concurrency is None else (concurrency.key, concurrency.limit),
        r=None if rate is None else (rate.key, rate.limit, micros(rate.period)),
        u=None
        if unique is None
        else (unique.scope, 0 if unique.ttl is None else max(1, micros(unique.ttl)), unique.until, unique.on_conflict),
        t=message.retain,
        g=message.tags,
        y=message.type if newline else None,
    )


def packed_message(message: Message) -> list[Any]:
    """Return a message as the scripts take it."""
    at = -1 if message.at is None else max(0, micros(message.at))
    rank = str(9 - message.priority)
    return [message.queue, rank, message.id, stored_record(message), micros(message.delay), at]


def message_of(value: bytes) -> tuple[Message, int]:
    """Return a stored message, and when it was accepted."""
    place, accepted, kind, body = value.decode("utf-8", "surrogateescape").split("\n", 3)
    queue, rank, _seq, id = place.split(":", 3)
    if kind[0] == "P":
        if rank == "5":
            return Message(id, queue, kind[1:], body), int(accepted)
        return Message(id, queue, kind[1:], body, priority=9 - int(rank)), int(accepted)
    if kind[0] == "F":
        return Message(id, queue, kind[1:], body, priority=9 - int(rank), retain=0.0), int(accepted)
    return _full_message(id, queue, 9 - int(rank), kind, body), int(accepted)


def _full_message(id: str, queue: str, priority: int, kind: str, body: str) -> Message:
    length, _, rest = kind[1:].partition(":")
    raw = rest.encode("utf-8", "surrogateescape")
    head = _head.decode(raw[: int(length)])
    type_ = head.y if head.y is not None else raw[int(length) :].decode("utf-8", "surrogateescape")
    return Message(
        id,
        queue,
        type_,
        body,
        priority=priority,
        key=head.k,
        concurrency=None if head.c is None else Concurrency(*head.c),
        rate=None if head.r is None else Rate(head.r[0], head.r[1], head.r[2] / SECOND),
        unique=_unique_of(head.u),
        retain=head.t,
        tags=head.g,
    )


def _unique_of(parts: tuple[str, float, str, str] | None) -> Unique | None:
    if parts is None:
        return None
    scope, ttl, until, on_conflict = parts
    return Unique(
        scope,
        None if ttl == 0 else ttl / SECOND,
        cast("Literal['end', 'start']", until),
        cast("Literal['return', 'raise', 'replace']", on_conflict),
    )


# ---------------------------------------------------------------------------------------------------------- deliveries


def deliveries_of(reply: Sequence[Any]) -> list[Delivery]:
    """Return what a claim lent: token, start, values, notes. A receipt is the state that the job was lent in."""
    token, started, values, notes = reply[0].decode(), reply[1].decode(), reply[2], reply[3]
    number, end = int(token), f" {token} {started}"
    fresh = f"r 1 0 00-{end}"
    made = []
    for value, note in zip(values, notes, strict=True):
        message = message_of(value)[0]
        if note:
            made.append(delivery_of(message, note.decode(), number, end))
        else:
            made.append(Delivery(message, number, 1, 0, False, fresh))
    return made


def delivery_of(message: Message, note: str, token: Token, end: str) -> Delivery:
    """Return a delivery that is not a first plain hand-out."""
    attempt, generation, recovered = note.split(" ")
    state = f"r {attempt} {generation} {recovered}0-{end}"
    return Delivery(message, token, int(attempt), int(generation), recovered == "1", state)


# ------------------------------------------------------------------------------------------------------------ outcomes


def is_bare(outcome: Outcome) -> bool:
    """Whether an outcome says no more than that the attempt succeeded."""
    return type(outcome) is Done and outcome.result is None and outcome.result_error is None and not outcome.follow_ups


def is_plain_success(outcome: Outcome) -> bool:
    """Whether nothing has to be read or written for this outcome but the job's state."""
    return is_bare(outcome) and is_plain(outcome.delivery.message)


def packed_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the scripts take it."""
    delivery = outcome.delivery
    packed: dict[str, Any] = {
        "id": delivery.message.id,
        "token": f"{delivery.token:016}",
        "generation": delivery.generation,
        "follow_ups": [packed_message(message) for message in outcome.follow_ups],
    }
    match outcome:
        case Done(result=None, result_error=None):
            packed["kind"] = "done"
        case Done():
            packed |= {"kind": "done", "result": _json((outcome.result, outcome.result_error))}
        case Again():
            packed |= {"kind": "again", **_returned(outcome), **_error(outcome.error)}
        case Released():
            packed |= {"kind": "released", **_returned(outcome)}
        case Dead():
            code = CODES[outcome.state]
            packed |= {"kind": "dead", "code": code, "reason": outcome.reason, **_error(outcome.error)}
    return packed


def _returned(outcome: Again | Released) -> dict[str, Any]:
    successor = outcome.successor
    if successor is None:
        return {"delay": micros(outcome.delay)}
    changed = msgspec.structs.replace(
        outcome.delivery.message, body=successor.body, concurrency=successor.concurrency, rate=successor.rate
    )
    return {"delay": micros(outcome.delay), "record": stored_record(changed)}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _error(error: Failure | None) -> dict[str, Any]:
    return {} if error is None else {"error": _json(error)}


# ------------------------------------------------------------------------------------------------------------- records


def records_of(reply: Sequence[Any]) -> list[Record | None]:
    """Return the records of a `records` reply."""
    parts, shift = reply
    return [_record_of(parts[i : i + 7], shift) for i in range(0, len(parts), 7)]


def _record_of(parts: Sequence[Any], shift: int) -> Record | None:
    value, state, errors, result, progress, cancel, due = parts
    return None if value is None else record_of(value, state, errors, result, progress, bool(cancel), due, shift)


def record_of(
    value: bytes,
    state: bytes | None,
    errors: bytes | None,
    result: bytes | None,
    progress: bytes | None,
    cancel: bool,
    due: bytes | None,
    shift: int,
) -> Record:
    """Build one record."""
    message, accepted = message_of(value)
    code, attempt, generation, _flags, token, started, *rest = (state or b"p 0 0 00- 0 0").decode().split(" ", 8)
    percent, step = (None, None) if progress is None else _progress.decode(progress)
    text, result_error = (None, None) if result is None else _result.decode(result)
    return Record(
        id=message.id,
        queue=message.queue,
        type=message.type,
        state=STATES[code],
        body=message.body,
        reason=(rest[2] or None) if rest else None,
        priority=message.priority,
        key=message.key,
        tags=message.tags,
        attempt=int(attempt),
        generation=int(generation),
        accepted_at=accepted / SECOND,
        due_at=(float(due) + shift) / SECOND if due is not None and code == "s" else None,
        started_at=int(started) / SECOND if int(started) else None,
        finished_at=int(rest[0]) / SECOND if rest else None,
        progress=percent,
        step=step,
        errors=() if errors is None else tuple(_failure.decode(line) for line in errors.splitlines()),
        result=text,
        result_error=result_error,
        cancel_requested=cancel,
        token=int(token) or None,
        message=message,
    )


def states_of(codes: Iterable[str]) -> list[State | None]:
    """Return the states that a script's codes stand for."""
    return [STATES.get(code) for code in codes]
