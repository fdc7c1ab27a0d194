"""Settling outcomes: fenced by their token, plain successes in one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from queuekit.contract import (
    MAX_ERRORS,
    RETAIN,
    Again,
    Dead,
    Delivery,
    Done,
    Extension,
    Failure,
    Message,
    Outcome,
    Released,
    Settlement,
)
from queuekit.sqlite.lending import Finishing
from queuekit.sqlite.records import errors_of, extra_of
from queuekit.sqlite.sending import Sending, has_extra
from queuekit.sqlite.statements import Statements, listed


class Settling:
    """The transitions of `settle` and `extend`, inside the caller's transaction."""

    def __init__(self, statements: Statements, namespace: str, sending: Sending) -> None:
        self._sql = statements
        self._ns = namespace
        self._sending = sending
        self._finishing = Finishing(statements, namespace)

    def settle(self, connection: sqlite3.Connection, outcomes: Sequence[Outcome], wall: float) -> list[Settlement]:
        """Apply the outcomes whose token still is the newest."""
        rows = self._rows(connection, [outcome.delivery for outcome in outcomes])
        settled: set[int] = set()
        plain: list[int] = []
        answers: list[Settlement] = []
        for outcome in outcomes:
            row = rows.get(outcome.delivery.receipt)
            answer = _judge(row, outcome.delivery, settled)
            answers.append(answer)
            if answer != "applied" or row is None:
                continue
            settled.add(row[0])
            if _is_plain(row, outcome):
                plain.append(row[0])
            else:
                self._apply(connection, row, outcome, wall)
            if outcome.follow_ups:
                self._sending.send_unique(connection, outcome.follow_ups, wall)
        if plain:
            connection.execute(self._sql["complete"], (wall, wall + RETAIN, listed(plain)))
        return answers

    def _rows(self, connection: sqlite3.Connection, deliveries: Sequence[Delivery]) -> dict[Any, tuple[Any, ...]]:
        seqs = listed(delivery.receipt for delivery in deliveries)
        return {row[0]: row for row in connection.execute(self._sql["held_rows"], (seqs,))}

    def _apply(self, connection: sqlite3.Connection, row: tuple[Any, ...], outcome: Outcome, wall: float) -> None:
        seq = row[0]
        match outcome:
            case Done():
                self._finishing.finish(
                    connection, seq, "completed", None, wall, result=outcome.result, result_error=outcome.result_error
                )
            case Dead():
                errors = self._errors(connection, seq, outcome.error)
                self._finishing.finish(connection, seq, outcome.state, outcome.reason, wall, errors=errors)
            case Again():
                self._return(connection, row, outcome, wall, used=1, error=outcome.error)
            case Released():
                self._return(connection, row, outcome, wall, used=0, error=None)

    def _return(
        self,
        connection: sqlite3.Connection,
        row: tuple[Any, ...],
        outcome: Again | Released,
        wall: float,
        *,
        used: int,
        error: Failure | None,
    ) -> None:
        """Give a job back, or end it as cancelled where that was asked for."""
        seq, limit_key, cancel = row[0], row[7], row[9]
        changed = self._changed(connection, seq, outcome.delivery.message, None if cancel else outcome.successor)
        connection.execute(
            self._sql["give_back"],
            {
                "seq": seq,
                "due": wall + outcome.delay if outcome.delay > 0 else None,
                "used": used,
                "errors": self._errors(connection, seq, error),
                **changed,
            },
        )
        if cancel:
            self._finishing.finish(connection, seq, "cancelled", "cancelled", wall)
        elif limit_key is not None:
            connection.execute(self._sql["next_of_limit"], (limit_key,))

    def _changed(
        self, connection: sqlite3.Connection, seq: int, lent: Message, successor: Message | None
    ) -> dict[str, Any]:
        """Return what a successor changes: its body, concurrency and rate."""
        if successor is None:
            return {"body": None, "extra": None, "limit_key": None, "rate_key": None}
        [extra] = connection.execute(f'SELECT extra FROM "{self._ns}.jobs" WHERE seq = ?', (seq,)).fetchone()
        old = lent if extra is None else msgspec.json.decode(extra, type=Message)
        new = msgspec.structs.replace(old, concurrency=successor.concurrency, rate=successor.rate)
        return {
            "body": successor.body,
            "extra": extra_of(new) if has_extra(new) else None,
            "limit_key": None if new.concurrency is None else new.concurrency.key,
            "rate_key": None if new.rate is None else new.rate.key,
        }

    def _errors(self, connection: sqlite3.Connection, seq: int, error: Failure | None) -> str | None:
        if error is None:
            return None
        [text] = connection.execute(f'SELECT errors FROM "{self._ns}.jobs" WHERE seq = ?', (seq,)).fetchone()
        kept = (*errors_of(text), error)[-MAX_ERRORS:]
        return msgspec.json.encode(kept).decode()

    def extend(
        self, connection: sqlite3.Connection, deliveries: Sequence[Delivery], *, lease: float, now: float
    ) -> list[Extension]:
        """Renew the leases that have not run out."""
        rows = self._rows(connection, deliveries)
        paused = {row[0] for row in connection.execute(f'SELECT queue FROM "{self._ns}.paused"')}
        answers: list[Extension] = []
        held: list[int] = []
        for delivery in deliveries:
            row = rows.get(delivery.receipt)
            if row is None or row[2] != delivery.token or row[3] != "running" or row[11] <= now:
                answers.append(Extension(held=False))
                continue
            held.append(row[0])
            answers.append(Extension(held=True, cancel=bool(row[9]), paused=row[12] in paused))
        if held:
            connection.execute(self._sql["extend"], (now + lease, listed(held)))
        return answers


def _judge(row: tuple[Any, ...] | None, delivery: Delivery, settled: set[int]) -> Settlement:
    """Decide by the token alone whether an outcome counts."""
    if row is None or row[2] != delivery.token or row[1] != delivery.message.id or row[5] != delivery.generation:
        return "lost"
    if row[0] in settled:
        return "already_settled"
    if row[3] == "running":
        return "applied"
    return "already_settled" if row[4] else "lost"


def _is_plain(row: tuple[Any, ...], outcome: Outcome) -> bool:
    """Whether one statement for many can complete this job."""
    return (
        type(outcome) is Done
        and bool(row[10])
        and not row[9]
        and outcome.result is None
        and outcome.result_error is None
    )
