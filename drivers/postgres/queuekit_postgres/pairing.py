"""Carrying jobs by a transport while they are kept here: the store's transitions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from queuekit.contract import Delivery, Message, Receipt, State
from queuekit_postgres import lending, sending
from queuekit_postgres.records import delivery_of, is_plain, message_of, options_of
from queuekit_postgres.work import Work, listed

PLAIN, FULL, UNIQUE = range(3)
"""Messages that go in bulk, in one round trip, and one by one."""


def admit(work: Work, messages: Sequence[Message], publish_within: float) -> list[Receipt]:
    """Store messages that their sender publishes, in order; the outbox names them only if it did not."""
    receipts: list[Receipt] = []
    for kind, run in groupby(messages, _kind):
        found = list(run)
        if kind == PLAIN:
            receipts += sending.admit_plain(work, found, publish_within)
        else:
            receipts += _admit_others(work, found, publish_within, unique=kind == UNIQUE)
    return receipts


def _kind(message: Message) -> int:
    if message.unique is not None:
        return UNIQUE
    return PLAIN if is_plain(message) else FULL


def _admit_others(work: Work, messages: Sequence[Message], publish_within: float, *, unique: bool) -> list[Receipt]:
    """Store messages with options; those due now leave the line, which is the transport's business."""
    receipts = (sending.send_unique if unique else sending.store_all)(work, messages)
    created = [receipt.id for receipt in receipts if receipt.created]
    # One that is to run later stands in no line yet, and must keep its time: it is asked for its key when that has come.
    keyed = {
        m.id: m.key
        for m, receipt in zip(messages, receipts, strict=True)
        if receipt.created and m.key is not None and not m.delay and m.at is None
    }
    if keyed:
        lending.hold_behind_keys(work, keyed)
    if created:
        work.run("set_aside", ids=created, wait=publish_within)
    return receipts


def outbox_waits(work: Work, *, recover: bool) -> bool:
    """Whether the outbox has anything to look for."""
    floors = {"due_floor": work.known.due, "started_floor": work.known.started}
    return bool(work.rows("outbox_waits", recover=recover, **floors)[0][0])


def outbox(work: Work, limit: int, again_after: float, *, recover: bool) -> list[Message]:
    """Return jobs that stand in line because nobody published them in time."""
    lending.promote(work, recover=recover)
    rows = work.rows("outbox", limit=limit)
    keys = {row[0]: options_of(row[4]).key for row in rows if row[4] is not None}
    behind = lending.hold_behind_keys(work, {id: key for id, key in keys.items() if key is not None})
    rows = [row for row in rows if row[0] not in behind]
    if rows:
        work.run("set_aside", ids=[row[0] for row in rows], wait=again_after)
    return [message_of(*row) for row in rows]


def lend_plain(work: Work, ids: Sequence[str], lease: float) -> Any:
    """Lend those of these jobs that need no questions; the cursor returned has what `lent` reads."""
    return work.run("lend_plain", ids=listed(ids), lease=lease)


def lent(rows: Sequence[tuple[Any, ...]]) -> dict[str, Delivery | State]:
    """Return the deliveries by id."""
    return {row[2]: delivery_of(row) for row in rows}


def lend(work: Work, ids: Sequence[str], lease: float, *, places: int, recover: bool) -> dict[str, Delivery | State]:
    """Lend these very jobs where their keys, limits and queues allow it; up to `places` of those whose lease ran out."""
    rows = work.rows("lendable", ids=list(ids))
    if not all(_may_be_lent(row) for row in rows):  # time may have changed that
        lending.promote(work, recover=recover)
        rows = work.rows("lendable", ids=list(ids))
    answers: dict[str, Delivery | State] = {row[0]: row[4] for row in rows}
    may = [row for row in rows if _may_be_lent(row)]
    startable = _startable(may, places)
    refused = {row[0] for row in may}.difference(row[0] for row in startable)
    if refused:  # their tickets are used up: the outbox names them again
        work.run("put_back", ids=sorted(refused))
    passed = lending.pass_gates(work, startable, {}, most=len(may))
    for delivery in lending.lend(work, passed, lease=lease):
        answers[delivery.message.id] = delivery
    others = [id for id in ids if id not in answers]
    answers.update({row[0]: row[2] for row in work.rows("ended_rows", ids=others)} if others else {})
    return answers


def _may_be_lent(row: tuple[Any, ...]) -> bool:
    """Whether a job waits for nothing but somebody who names it."""
    return row[4] == "pending" and row[5] in {None, "rate", "published"}


def _startable(rows: Sequence[tuple[Any, ...]], places: int) -> list[tuple[Any, ...]]:
    """Leave out paused ones, and of the recovered ones those beyond the places that will start them at once."""
    found = []
    for row in rows:
        recovered = row[7]
        if row[6] or (recovered and places <= 0):
            continue
        places -= recovered
        found.append(row)
    return found
