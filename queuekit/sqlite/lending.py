"""Lending jobs: due ones promoted, expired leases taken back, limits kept, hand-outs counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from queuekit.contract import FAILED_RETAIN, RETAIN, Delivery, Message, Rate
from queuekit.sqlite.records import delivery_of
from queuekit.sqlite.statements import Statements, listed

MOST = 500
"""Jobs promoted or taken back per claim: a bound on how long one claim holds the file's lock."""


class Lending:
    """The transitions of `claim`, inside the caller's transaction."""

    def __init__(self, statements: Statements, namespace: str) -> None:
        self._sql = statements
        self._ns = namespace

    def claim(
        self,
        connection: sqlite3.Connection,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None,
        recover: bool,
        now: float,
        wall: float,
    ) -> list[Delivery]:
        """Lend what is due."""
        self.promote(connection, now=now, wall=wall, recover=recover)
        queues = self._unpaused(connection, queues)
        taken: dict[str, int] = {}
        rows = self._recovered(connection, queues, limit if free is None else min(limit, free), now, wall, taken)
        for queue in queues:
            if len(rows) < limit:
                rows += self._ready(connection, queue, limit - len(rows), now, wall, taken)
        return self._lend(connection, rows, lease=lease, now=now, wall=wall) if rows else []

    def promote(self, connection: sqlite3.Connection, *, now: float, wall: float, recover: bool) -> None:
        """Let time do its work: due jobs stand in line, expired leases are taken back."""
        [due] = connection.execute(self._sql["anything_due"], {"now": now, "wall": wall}).fetchone()
        if due:
            connection.execute(self._sql["promote"], {"wall": wall, "most": MOST})
            if recover:
                self._sweep(connection, now, wall)

    def _sweep(self, connection: sqlite3.Connection, now: float, wall: float) -> None:
        rows = connection.execute(self._sql["expired"], {"now": now, "most": MOST}).fetchall()
        back = [seq for seq, _id, cancel, _limit in rows if not cancel]
        connection.execute(self._sql["take_back"], (listed(back),))
        for seq, _id, cancel, limit_key in rows:
            if cancel:
                Finishing(self._sql, self._ns).finish(connection, seq, "cancelled", "cancelled", wall, settled=0)
            elif limit_key is not None:
                connection.execute(self._sql["next_of_limit"], (limit_key,))

    def _unpaused(self, connection: sqlite3.Connection, queues: Sequence[str]) -> list[str]:
        paused = self._paused(connection)
        return [queue for queue in queues if queue not in paused]

    def _paused(self, connection: sqlite3.Connection) -> set[str]:
        return {row[0] for row in connection.execute(f'SELECT queue FROM "{self._ns}.paused"')}

    def _recovered(
        self,
        connection: sqlite3.Connection,
        queues: Sequence[str],
        places: int,
        now: float,
        wall: float,
        taken: dict[str, int],
    ) -> list[tuple[Any, ...]]:
        if places <= 0 or not queues:
            return []
        names = msgspec.json.encode(list(queues)).decode()
        rows = connection.execute(self._sql["pick_recovered"], (names, places)).fetchall()
        return [row for row in rows if self._pass_gates(connection, row, now, wall, taken)]

    def _ready(
        self, connection: sqlite3.Connection, queue: str, limit: int, now: float, wall: float, taken: dict[str, int]
    ) -> list[tuple[Any, ...]]:
        """Pick the head of a line; rows that their limits hold back are replaced by later ones."""
        picked: list[tuple[Any, ...]] = []
        while len(picked) < limit:
            rows = connection.execute(self._sql["pick_ready"], (queue, limit)).fetchall()
            rows = [row for row in rows if row[0] not in {p[0] for p in picked}] if picked else rows
            passed = [row for row in rows if row[5] is None or self._pass_gates(connection, row, now, wall, taken)]
            picked += passed[: limit - len(picked)]
            if len(rows) == len(passed):
                break
        return picked

    # ------------------------------------------------------------------------------------------------------- gates

    def _pass_gates(
        self, connection: sqlite3.Connection, row: tuple[Any, ...], now: float, wall: float, taken: dict[str, int]
    ) -> bool:
        """Whether the limits let a job go now; if not, it is held where it will be woken."""
        if row[5] is None:
            return True
        message = msgspec.json.decode(row[5], type=Message)
        concurrency = message.concurrency
        if concurrency is not None:
            running = self._running(connection, concurrency.key) + taken.get(concurrency.key, 0)
            if running >= concurrency.limit:
                self._hold(connection, row[0], "limit", None)
                return False
        if message.rate is not None:
            again = self._take_grant(connection, message.rate, now)
            if again is not None:
                self._hold(connection, row[0], "rate", wall + (again - now))
                return False
        if concurrency is not None:
            taken[concurrency.key] = taken.get(concurrency.key, 0) + 1
        return True

    def _running(self, connection: sqlite3.Connection, key: str) -> int:
        [count] = connection.execute(
            f"SELECT count(*) FROM \"{self._ns}.jobs\" WHERE limit_key = ? AND state = 'running' AND finished_at IS NULL",
            (key,),
        ).fetchone()
        return int(count)

    def _hold(self, connection: sqlite3.Connection, seq: int, held: str, due: float | None) -> None:
        connection.execute(
            f'UPDATE "{self._ns}.jobs" SET ready = 0, lease_end = NULL, held = ?, due = ? WHERE seq = ?',
            (held, due, seq),
        )

    def _take_grant(self, connection: sqlite3.Connection, rate: Rate, now: float) -> float | None:
        """Take one grant of a sliding window; None when granted, else the moment at which to try again."""
        table = f'"{self._ns}.grants"'
        connection.execute(f"DELETE FROM {table} WHERE rate_key = ? AND at <= ?", (rate.key, now - rate.period))
        count, oldest = connection.execute(
            f"SELECT count(*), min(at) FROM {table} WHERE rate_key = ?",
            (rate.key,),
        ).fetchone()
        if count < rate.limit:
            connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (rate.key, now, now + rate.period))
            return None
        [waiting] = connection.execute(
            f"SELECT count(*) FROM \"{self._ns}.jobs\" WHERE rate_key = ? AND held = 'rate'",
            (rate.key,),
        ).fetchone()
        again: float = oldest + rate.period * (1 + waiting // rate.limit)
        return again

    # ------------------------------------------------------------------------------------------------------ lending

    def _lend(
        self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]], *, lease: float, now: float, wall: float
    ) -> list[Delivery]:
        [token] = connection.execute(self._sql["new_token"], (int(wall * 1e6),)).fetchone()
        connection.execute(self._sql["lend"], (token, now + lease, wall, listed(row[0] for row in rows)))
        for row in rows:
            if row[5] is not None:
                self._free_scope_at_start(connection, row)
        return [delivery_of(row, token) for row in rows]

    def _free_scope_at_start(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        unique = msgspec.json.decode(row[5], type=Message).unique
        if unique is not None and unique.until == "start":
            connection.execute(
                f'DELETE FROM "{self._ns}.uniques" WHERE scope = ? AND id = ?',
                (unique.scope, row[1]),
            )

    def lend_by_ids(
        self,
        connection: sqlite3.Connection,
        ids: Sequence[str],
        *,
        lease: float,
        free: int | None,
        now: float,
        wall: float,
    ) -> list[Any]:
        """Lend jobs by name, for pairing: deliveries, and for the others their states; None where there is no such job."""
        asked = list(dict.fromkeys(ids))
        rows = {row[1]: row for row in connection.execute(self._sql["rows_by_id"], (listed(asked),))}
        open_queues = set(self._unpaused(connection, list({row[2] for row in rows.values()})))
        places = len(ids) if free is None else free
        taken: dict[str, int] = {}
        chosen: list[tuple[Any, ...]] = []
        for id in asked:
            row = rows.get(id)
            if row is None or not _may_be_lent(row):
                continue
            if row[2] not in open_queues or (row[9] and places <= 0):
                if row[11] == "published":  # its ticket is gone: the outbox shall name it again
                    connection.execute(self._sql["promote_one"], (row[0],))
            elif self._pass_gates(connection, row[:10], now, wall, taken):
                chosen.append(row[:10])
                places -= row[9]
        lent = self._lend(connection, chosen, lease=lease, now=now, wall=wall) if chosen else []
        deliveries = {delivery.message.id: delivery for delivery in lent}
        states = {id: row[10] for id, row in rows.items()} | dict.fromkeys(deliveries, "running")
        return [deliveries.pop(id, None) or states.get(id) for id in ids]


def _may_be_lent(row: tuple[Any, ...]) -> bool:
    """Whether a job waits for nothing but somebody who names it."""
    return row[10] == "pending" and row[11] in {None, "rate", "published"}


class Finishing:
    """Bringing a job to a terminal state, and letting whoever waited for that go on."""

    def __init__(self, statements: Statements, namespace: str) -> None:
        self._sql = statements
        self._ns = namespace

    def finish(
        self,
        connection: sqlite3.Connection,
        seq: int,
        state: str,
        reason: str | None,
        wall: float,
        *,
        settled: int = 1,
        result: str | None = None,
        result_error: str | None = None,
        errors: str | None = None,
    ) -> None:
        """End a job."""
        id, key, limit_key, scope, extra = connection.execute(
            f'SELECT id, key, limit_key, scope, extra FROM "{self._ns}.jobs" WHERE seq = ?',
            (seq,),
        ).fetchone()
        retain = retain_of(extra, state)
        connection.execute(
            self._sql["finish"],
            {
                "seq": seq,
                "state": state,
                "reason": reason,
                "wall": wall,
                "retain": retain,
                "settled": settled,
                "result": result,
                "result_error": result_error,
                "errors": errors,
            },
        )
        if retain <= 0:
            connection.execute(f'DELETE FROM "{self._ns}.jobs" WHERE seq = ?', (seq,))
        self.let_go(connection, id, key, limit_key, scope)

    def let_go(
        self, connection: sqlite3.Connection, id: str, key: str | None, limit_key: str | None, scope: str | None
    ) -> None:
        """Free what an unfinished job held: its unique scope, its key's turn, its place in a limit."""
        if scope is not None:
            connection.execute(f'DELETE FROM "{self._ns}.uniques" WHERE scope = ? AND id = ?', (scope, id))
        if key is not None:
            connection.execute(self._sql["next_of_key"], (key,))
        if limit_key is not None:
            connection.execute(self._sql["next_of_limit"], (limit_key,))


def retain_of(extra: str | None, state: str) -> float:
    """Return the seconds that a record is kept."""
    retain = None if extra is None else msgspec.json.decode(extra, type=Message).retain
    if retain is not None:
        return retain
    return RETAIN if state == "completed" else FAILED_RETAIN
