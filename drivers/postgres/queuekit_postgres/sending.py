"""Storing messages: one in one statement, many by COPY, unique ones each with its scope."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from queuekit.contract import Message, Receipt
from queuekit_postgres.connections import pipelined
from queuekit_postgres.records import bytes_of, digest, is_plain, options_of, row_of
from queuekit_postgres.work import Work, listed

COPY_FROM = 8
"""Messages from which on COPY is quicker than as many inserts."""
NARROW = 10_000
"""Milliseconds that the ids of a batch may span for their finished namesakes to be looked for by range."""
EPOCH_2000 = 946_684_800
"""PostgreSQL's binary times count microseconds from the year 2000."""
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)
_head = struct.Struct("!hiii")
_int16 = struct.Struct("!ih")
_int64 = struct.Struct("!iq")
_length = struct.Struct("!i")


class Duplicate(Exception):  # noqa: N818 - it is caught in the driver, and nobody else sees it
    """A COPY failed because an unfinished job has one of its ids; nothing was stored."""


def send_one(work: Work, message: Message, channel: str | None) -> None:
    """Store a plain message; ring in the same statement."""
    work.run("insert", **_plain_values(work, message, channel))


def send_fresh(work: Work, message: Message, channel: str | None, *, unknown_until: float) -> None:
    """Store a plain message whose id nobody knows until then, by the server's clock, which is noted; ring in the same statement."""
    rows = work.rows("insert_fresh", **_plain_values(work, message, channel), unknown_until=unknown_until)
    if rows:
        work.connection.hear(rows[0][0])


def _plain_values(work: Work, message: Message, channel: str | None) -> dict[str, Any]:
    return {
        "id": message.id,
        "queue": message.queue,
        "type": message.type,
        "body": bytes_of(message.body),
        "channel": channel,
        "bell": bell(work, message.queue),
    }


def send_few(work: Work, messages: Sequence[Message]) -> None:
    """Store messages one after the other, in one round trip."""
    with pipelined(work.connection):
        for message in messages:
            work.run("insert_full", **row_of(message))


def send_many(work: Work, messages: Sequence[Message]) -> None:
    """Store messages by COPY; raises `Duplicate` when one has the id of an unfinished job."""
    fresh = {message.id: message for message in messages}
    [(now, _number)] = work.rows("begin_copy")
    plain = all(map(is_plain, fresh.values()))
    pack = _plain_row if plain else _full_row
    try:
        with work.connection.cursor() as cursor, cursor.copy(work.sql["copy_plain" if plain else "copy_full"]) as copy:
            copy.write(b"".join([HEADER, *(pack(work.base["ns"], m, now) for m in fresh.values()), TRAILER]))
    except psycopg.errors.UniqueViolation as error:
        raise Duplicate from error
    _drop_known(work, fresh)


def _drop_known(work: Work, fresh: Iterable[str]) -> Any:
    """Take out again what has the id of a finished job; the cursor returned has their ids."""
    ids = sorted(fresh)
    narrow = ids[0][14] == ids[-1][14] == "7" and _millisecond(ids[-1]) - _millisecond(ids[0]) <= NARROW
    if narrow:
        return work.run("drop_known_between", first=ids[0], last=ids[-1], ids=listed(ids))
    return work.run("drop_known", ids=listed(ids))


def _millisecond(id: str) -> int:
    """Return the time in a UUIDv7."""
    return int(id[:8] + id[9:13], 16)


def store(work: Work, message: Message) -> bool:
    """Store one message; False when its id is known."""
    return bool(work.rows("insert_full", **row_of(message))[0][0])


def admit_plain(work: Work, messages: Sequence[Message], wait: float) -> list[Receipt]:
    """Store plain messages that a transport carries, in one go; each id counts once."""
    with pipelined(work.connection):
        stored = work.run(
            "admit",
            ids=listed([message.id for message in messages]),
            queues=[message.queue for message in messages],
            types=[message.type for message in messages],
            bodies=[bytes_of(message.body) for message in messages],
            wait=wait,
        )
        dropped = _drop_known(work, {message.id for message in messages})
    fresh = {row[0] for row in stored.fetchall()}.difference(row[0] for row in dropped.fetchall())
    return [Receipt(message.id, created=_taken(fresh, message.id)) for message in messages]


def _taken(fresh: set[str], id: str) -> bool:
    if id not in fresh:
        return False
    fresh.remove(id)
    return True


def store_all(work: Work, messages: Sequence[Message]) -> list[Receipt]:
    """Store messages one after the other, in one round trip; none has a unique scope."""
    with pipelined(work.connection):
        cursors = [work.run("insert_full", **row_of(message)) for message in messages]
    return [
        Receipt(message.id, created=bool(cursor.fetchall()[0][0]))
        for message, cursor in zip(messages, cursors, strict=True)
    ]


# ------------------------------------------------------------------------------------------------ unique messages


def send_unique(work: Work, messages: Sequence[Message]) -> list[Receipt]:
    """Store messages unless an unfinished job holds their scope."""
    return [_send_one_unique(work, message) for message in messages]


def _send_one_unique(work: Work, message: Message) -> Receipt:
    unique = message.unique
    if unique is None:
        return Receipt(message.id, created=store(work, message))
    [(known,)] = work.rows("known", id=message.id)
    if known:
        return Receipt(message.id, created=False)
    scope = digest(unique.scope)
    while not work.rows("hold_scope", scope=scope, id=message.id, ttl=unique.ttl):
        holder = work.rows("holder_of_scope", scope=scope)
        if holder:
            return _conflict(work, str(holder[0][0]), message)
    return Receipt(message.id, created=store(work, message))


def _conflict(work: Work, id: str, message: Message) -> Receipt:
    if message.unique is None or message.unique.on_conflict != "replace":
        return Receipt(id, created=False)
    rows = work.rows("held_rows", ids=[id])
    untouched = bool(rows) and rows[0][2] in {"pending", "scheduled"} and rows[0][11] == 0
    if not untouched:
        return Receipt(id, created=False)
    key, extra = rows[0][5], rows[0][9]
    work.lock([key])
    row = row_of(msgspec.structs.replace(message, id=id, unique=options_of(extra).unique))
    work.run("replace_job", **row)
    if key is not None:
        work.run("next_of_key", keys=[key])
    return Receipt(id, created=False, replaced=True)


# ------------------------------------------------------------------------------------------------------- ringing


def bell(work: Work, queue: str) -> str:
    """Return what a notification says: whose queue has something."""
    return f"{work.base['ns']}:{queue}"


def ring(work: Work, queues: Iterable[str], channel: str | None) -> None:
    """Wake those who wait for these queues, once each, when the transaction commits."""
    if channel is not None:
        for queue in sorted(set(queues)):
            work.run("notify", channel=channel, bell=bell(work, queue))


# ------------------------------------------------------------------------------------------- COPY's binary format


def _plain_row(ns: int, message: Message, now: float) -> bytes:
    return b"".join(_plain_fields(6, ns, message, now))


def _plain_fields(count: int, ns: int, message: Message, now: float) -> list[bytes]:
    queue, type, body = message.queue.encode(), message.type.encode(), bytes_of(message.body)
    return [
        _head.pack(count, 4, ns, 16),
        bytes.fromhex(message.id.replace("-", "")),
        _length.pack(len(queue)),
        queue,
        _length.pack(len(type)),
        type,
        _length.pack(len(body)),
        body,
        _int64.pack(8, _micros(now)),
    ]


def _full_row(ns: int, message: Message, now: float) -> bytes:
    row = row_of(message)
    later = max(now + row["delay"], row["at"] or 0.0)
    due = later if later > now else None
    extra = row["extra"]
    fields = _plain_fields(15, ns, message, now)
    fields += [
        _sized(None if extra is None else extra.encode()),
        _int16.pack(2, row["rank"]),
        _sized(b"\1" if row["gated"] else b"\0"),
        _sized(row["key"]),
        _sized(row["limit_key"]),
        _sized(row["rate_key"]),
        NULL if due is None else _int64.pack(8, _micros(due)),
        _int16.pack(2, 1 if due is None else 0),
        _sized(b"pending" if due is None else b"scheduled"),
    ]
    return b"".join(fields)


def _sized(value: bytes | None) -> bytes:
    return NULL if value is None else _length.pack(len(value)) + value


def _micros(seconds: float) -> int:
    return round((seconds - EPOCH_2000) * 1e6)
