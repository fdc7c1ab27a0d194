"""Storing messages: plain ones in bulk, the others one by one with their keys and unique scopes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from queuekit.contract import Message, Receipt
from queuekit.sqlite.records import extra_of, stored_body
from queuekit.sqlite.statements import Statements, listed


class Sending:
    """The transitions of `send`, inside the caller's transaction."""

    def __init__(self, statements: Statements, namespace: str) -> None:
        self._sql = statements
        self._uniques = f'"{namespace}.uniques"'
        self._jobs = f'"{namespace}.jobs"'

    def send(self, connection: sqlite3.Connection, messages: Sequence[Message], wall: float) -> None:
        """Store messages in order; those with a known id are dropped."""
        plain: list[tuple[str, str, str, str, float]] = []
        for message in messages:
            if is_plain(message):
                plain.append((message.id, message.queue, message.type, message.body, wall))
                continue
            self._flush(connection, plain)
            self.store(connection, message, wall)
        self._flush(connection, plain)

    def _flush(self, connection: sqlite3.Connection, rows: list[tuple[str, str, str, str, float]]) -> None:
        if len(rows) == 1:
            connection.execute(self._sql["insert"], rows[0])
        elif rows:
            connection.executemany(self._sql["insert"], rows)
        rows.clear()

    def store(self, connection: sqlite3.Connection, message: Message, wall: float, until: float | None = None) -> bool:
        """Store one message; False when its id is known. With `until`, a transport carries it."""
        row = {**self._row(connection, message, wall), "until": until}
        cursor = connection.execute(self._sql["insert_full"], row)
        return cursor.rowcount == 1

    def _row(self, connection: sqlite3.Connection, message: Message, wall: float) -> dict[str, Any]:
        key = message.key
        turn = 1 if key is None else connection.execute(self._sql["key_turn"], (key,)).fetchone()[0]
        due = max(wall + message.delay, message.at or 0.0)
        return {
            "id": message.id,
            "queue": message.queue,
            "type": message.type,
            "body": stored_body(message.body),
            "extra": extra_of(message) if has_extra(message) else None,
            "rank": 9 - message.priority,
            "key": key,
            "turn": turn,
            "limit_key": None if message.concurrency is None else message.concurrency.key,
            "rate_key": None if message.rate is None else message.rate.key,
            "scope": None if message.unique is None else message.unique.scope,
            "now": wall,
            "due": due if due > wall else None,
        }

    def send_unique(
        self,
        connection: sqlite3.Connection,
        messages: Sequence[Message],
        wall: float,
        carried_until: float | None = None,
    ) -> list[Receipt]:
        """Store messages unless an unfinished job holds their scope; runs of plain ones in bulk.

        With `carried_until` a transport carries them, and the outbox names them from then on.
        """
        receipts: list[Receipt] = []
        for plain, run in groupby(messages, is_plain):
            if plain:
                receipts += self._send_run(connection, list(run), wall, carried_until)
            else:
                receipts += [self._send_one(connection, message, wall, carried_until) for message in run]
        return receipts

    def _send_run(
        self, connection: sqlite3.Connection, messages: list[Message], wall: float, carried_until: float | None
    ) -> list[Receipt]:
        """Store plain messages; each id counts once."""
        ids = listed(message.id for message in messages)
        query = f"SELECT id FROM {self._jobs} WHERE id IN (SELECT value FROM json_each(?))"
        known = {row[0] for row in connection.execute(query, (ids,))}
        if carried_until is None:
            self.send(connection, messages, wall)
        else:
            rows = [(m.id, m.queue, m.type, stored_body(m.body), wall, carried_until) for m in messages]
            connection.executemany(self._sql["insert_admitted"], rows)
        receipts: list[Receipt] = []
        for message in messages:
            receipts.append(Receipt(message.id, created=message.id not in known))
            known.add(message.id)
        return receipts

    def _send_one(
        self, connection: sqlite3.Connection, message: Message, wall: float, carried_until: float | None = None
    ) -> Receipt:
        unique = message.unique
        known = connection.execute(f"SELECT 1 FROM {self._jobs} WHERE id = ?", (message.id,)).fetchone()
        if known is not None:
            return Receipt(message.id, created=False)
        if unique is not None:
            holder = self._holder(connection, unique.scope, wall)
            if holder is not None:
                return self._conflict(connection, holder, message, wall)
            until = None if unique.ttl is None else wall + unique.ttl
            connection.execute(
                f"INSERT OR REPLACE INTO {self._uniques} (scope, id, until) VALUES (?, ?, ?)",
                (unique.scope, message.id, until),
            )
        return Receipt(message.id, created=self.store(connection, message, wall, carried_until))

    def _holder(self, connection: sqlite3.Connection, scope: str, wall: float) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = connection.execute(
            f"SELECT j.seq, j.id, j.state, j.attempt, j.extra FROM {self._uniques} u JOIN {self._jobs} j ON j.id = u.id "
            "WHERE u.scope = ? AND (u.until IS NULL OR u.until > ?) AND j.finished_at IS NULL",
            (scope, wall),
        ).fetchone()
        return row

    def _conflict(
        self, connection: sqlite3.Connection, holder: tuple[Any, ...], message: Message, wall: float
    ) -> Receipt:
        seq, id, state, attempt, extra = holder
        untouched = state in {"pending", "scheduled"} and attempt == 0
        if message.unique is None or message.unique.on_conflict != "replace" or not untouched:
            return Receipt(id, created=False)
        old = msgspec.json.decode(extra, type=Message)
        connection.execute(f"UPDATE {self._jobs} SET finished_at = 0, ready = 0, due = NULL WHERE seq = ?", (seq,))
        if old.key is not None:
            connection.execute(self._sql["next_of_key"], (old.key,))
        row = self._row(connection, msgspec.structs.replace(message, id=id, unique=old.unique), wall)
        connection.execute(
            f"UPDATE {self._jobs} SET finished_at = NULL, body = :body, type = :type, extra = :extra, rank = :rank, key = :key, turn = :turn, "
            "limit_key = :limit_key, rate_key = :rate_key, due = :due, "
            "state = CASE WHEN :due IS NULL THEN 'pending' ELSE 'scheduled' END, ready = (:due IS NULL AND :turn = 1), "
            "held = CASE WHEN :due IS NULL AND :turn > 1 THEN 'key' END WHERE id = :id",
            row,
        )
        return Receipt(id, created=False, replaced=True)


PLAIN = msgspec.structs.astuple(Message("", "", "", ""))[4:]
"""What follows id, queue, type and body in a message that goes straight to the end of its line."""


def is_plain(message: Message) -> bool:
    """Whether a message goes straight to the end of its line."""
    return msgspec.structs.astuple(message)[4:] == PLAIN


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
