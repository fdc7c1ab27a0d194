"""The SQLite driver's verbs: each one transaction, shared with other threads' where they come together."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from queuekit.contract import (
    Clock,
    ConfigurationError,
    Delivery,
    Extension,
    Finding,
    LeaseLost,
    Limits,
    Message,
    Namespace,
    Outcome,
    Page,
    Patience,
    Progress,
    Query,
    QueueCounts,
    Receipt,
    Record,
    Settlement,
    State,
    SystemClock,
    Url,
    Wakeup,
    WorkerInfo,
    place_of,
    read_number,
    seconds,
)
from queuekit.sqlite import diagnosis, schema
from queuekit.sqlite.errors import sqlite_errors
from queuekit.sqlite.lending import Finishing, Lending
from queuekit.sqlite.records import message_of, record_of
from queuekit.sqlite.sending import Sending
from queuekit.sqlite.settling import Settling
from queuekit.sqlite.statements import Statements, listed
from queuekit.sqlite.writer import Writer

T = TypeVar("T")
BODY_BYTES = 16 << 20
BATCH = 5000
"""Messages in one transaction: about 25 ms of the file's lock."""
LONGEST_BUSY = 86_400.0
"""Seconds: SQLite counts them in milliseconds, of which an integer has 24 days."""
SYNCHRONOUS = ("NORMAL", "FULL", "EXTRA", "OFF")
TERMINAL = ("completed", "failed", "cancelled")


class SqliteDriver:
    """Jobs in one SQLite file, for the processes of one machine.

    `synchronous="NORMAL"` (the default, in WAL mode) survives the death of any process; a power failure may lose the
    last commits but never corrupts. `"FULL"` survives that too and syncs the disk at every commit. Other processes' jobs
    are noticed within `poll_interval` seconds, this process's own at once. `busy_timeout` is how long a verb waits for
    another process's transaction before it raises `DriverUnavailable`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        namespace: str | None = None,
        clock: Clock | None = None,
        synchronous: str = "NORMAL",
        busy_timeout: float = 5.0,
        poll_interval: float = 0.02,
    ) -> None:
        self.path = str(path)
        self._namespace = Namespace(namespace)
        if str(synchronous).upper() not in SYNCHRONOUS:
            message = f"synchronous={synchronous!r} is refused: give one of {', '.join(SYNCHRONOUS)}"
            raise ConfigurationError(message)
        self._busy = seconds("busy_timeout", busy_timeout, zero=False, most=LONGEST_BUSY)
        self._poll = seconds("poll_interval", poll_interval, zero=False)
        self._clock: Clock = clock or SystemClock()
        self.limits = Limits(name="sqlite", batch=BATCH, body_bytes=BODY_BYTES, resolution=self._poll + 0.02)
        self._writer = Writer(self.path, synchronous=str(synchronous).upper(), busy_timeout=self._busy)
        self._write_statements()
        self._waiters: set[Wakeup] = set()
        self._waiters_lock = threading.Lock()
        self._opened = False

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> SqliteDriver:
        """Build the driver for `sqlite:///relative.db` or `sqlite:////absolute.db`."""
        url.refuse_unknown({"synchronous", "busy_timeout", "poll_interval"})
        path = url.path[1:]
        if url.host or not path or path == ":memory:":
            message = (
                f"{url} names no file: write sqlite:///jobs.db (relative) or sqlite:////var/lib/jobs.db (absolute); "
                "for jobs in memory use memory://"
            )
            raise ConfigurationError(message)
        options: dict[str, Any] = dict(url.options)
        for name in ("busy_timeout", "poll_interval"):
            if name in options:
                options[name] = read_number(name, options[name])
        return cls(path, namespace=namespace, clock=clock, **options)

    def _write_statements(self) -> None:
        """Write the namespace's name into what runs on its tables."""
        namespace = self.namespace
        self._sql = Statements(namespace)
        self._jobs = f'"{namespace}.jobs"'
        self._sending = Sending(self._sql, namespace)
        self._lending = Lending(self._sql, namespace)
        self._settling = Settling(self._sql, namespace, self._sending)
        self._finishing = Finishing(self._sql, namespace)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Use this namespace's tables; see the contract."""
        if self._namespace.take(namespace, driver=self.limits.name):
            self._write_statements()

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect, make or update the tables, and end leases of an earlier boot."""
        if self._opened:
            self._writer.native()
            return
        self._namespace.fix()
        schema.check_version()
        schema.check_file(self.path)
        try:
            self._write(self._prepare_schema, "opening the file")
        except BaseException:
            self._writer.disconnect()
            raise
        self._opened = True

    def _prepare_schema(self, connection: sqlite3.Connection) -> None:
        schema.migrate(connection, self.namespace)
        schema.note_boot(connection, self.namespace)

    def close(self) -> None:
        """Close the file. Idempotent; what is lent stays lent until its lease ends."""
        self._writer.close()
        self._wake()

    def prepare(self, queues: Sequence[str]) -> None:
        """Check that the file answers; queues come into being with their first message."""
        del queues
        self._read(lambda connection: connection.execute("SELECT 1").fetchone(), "asking for a sign of life")

    def _write(self, operation: Callable[[sqlite3.Connection], T], doing: str, patience: Patience | None = None) -> T:
        return self._writer.write(operation, doing=doing, patience=patience)

    def _read(self, query: Callable[[sqlite3.Connection], T], doing: str) -> T:
        return self._writer.read(query, doing=doing)

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract."""
        wall = self._clock.time()
        self._write(lambda connection: self._sending.send(connection, messages, wall), "sending", patience)
        self._wake()

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""
        wall = self._clock.time()
        receipts = self._write(lambda c: self._sending.send_unique(c, messages, wall), "sending", patience)
        self._wake()
        return receipts

    def send_in(self, connection: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Store messages through the caller's own connection to the same file; see the contract."""
        with sqlite_errors(self.path, doing="sending in the caller's transaction"):
            self._join(connection)
            return self._sending.send_unique(connection, messages, self._clock.time())

    def settle_in(self, connection: Any, outcomes: Sequence[Outcome]) -> None:
        """Settle through the caller's own connection to the same file; see the contract."""
        with sqlite_errors(self.path, doing="settling in the caller's transaction"):
            self._join(connection)
            answers = self._settling.settle(connection, outcomes, self._clock.time())
            if set(answers) != {"applied"}:
                connection.rollback()
                message = "the lease is not this attempt's any more, so its transaction was rolled back"
                raise LeaseLost(message)

    def _join(self, connection: Any) -> None:
        """Take part in the transaction of a connection, which must be to this file."""
        if not isinstance(connection, sqlite3.Connection):
            message = f"connection={type(connection).__name__} is refused: give a sqlite3.Connection to {self.path}"
            raise ConfigurationError(message)
        files = [row[2] for row in connection.execute("PRAGMA database_list")]
        if not files or not files[0] or Path(files[0]).resolve() != Path(self.path).resolve():
            message = f"the connection is to {files[0] or 'memory'}, and this queue's jobs are in {self.path}"
            raise ConfigurationError(message)
        if not connection.in_transaction:
            # A transaction that reads first may not write any more when another connection wrote meanwhile, and SQLite
            # refuses it without waiting (sqlite.org/isolation.html); taking the lock first waits as the connection says.
            connection.execute("BEGIN IMMEDIATE")

    # ------------------------------------------------------------------------------------------------------ lending

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
        wait: float = 0.0,
        wakeup: Wakeup | None = None,
    ) -> list[Delivery]:
        """Lend due messages; see the contract."""

        def look() -> list[Delivery]:
            if not self._may_be_due(queues):
                return []
            return self._write(lambda c: self._claim(c, queues, limit, lease, free, recover), "claiming")

        if wait <= 0:
            return look()
        flag = wakeup or Wakeup()
        end = self._clock.monotonic() + wait
        with self._waiters_lock:
            self._waiters.add(flag)
        try:
            return self._wait_for(look, flag, end, recover=recover)
        finally:
            with self._waiters_lock:
                self._waiters.discard(flag)

    def _wait_for(
        self, look: Callable[[], list[Delivery]], flag: Wakeup, end: float, *, recover: bool
    ) -> list[Delivery]:
        while True:
            seen = self._data_version()
            found = look()
            if found or flag.is_set():
                return found
            moment = min(end, self._next_change(recover=recover))
            while self._data_version() == seen:
                left = moment - self._clock.monotonic()
                if left <= 0:
                    break
                if self._clock.wait(flag, min(left, self._poll)):
                    return look()
            if self._clock.monotonic() >= end:
                return look()

    def _data_version(self) -> int:
        """Return a number that changes when another connection has written to the file."""
        return int(self._read(lambda c: c.execute("PRAGMA data_version").fetchone()[0], "waiting"))

    def _next_change(self, *, recover: bool) -> float:
        """Return the monotonic moment at which time alone makes something due for a claim, which may take leases back or not."""
        due, lease_end = self._read(lambda c: c.execute(self._sql["next_times"]).fetchone(), "waiting")
        now = self._clock.monotonic()
        in_time = float("inf") if due is None else now + max(0.0, due - self._clock.time())
        return min(in_time, float("inf") if lease_end is None or not recover else max(now, lease_end))

    def _may_be_due(self, queues: Sequence[str], *, to_publish: bool = False) -> bool:
        """Ask without a transaction whether these lines, or what a transport shall carry, have anything."""
        times = {"now": self._clock.monotonic(), "wall": self._clock.time()}

        def look(connection: sqlite3.Connection) -> bool:
            ready = self._sql["anything_ready"]
            return (
                any(connection.execute(ready, (queue,)).fetchone()[0] for queue in queues)
                or bool(connection.execute(self._sql["anything_due"], times).fetchone()[0])
                or (to_publish and bool(connection.execute(self._sql["anything_to_publish"]).fetchone()[0]))
            )

        return self._read(look, "looking for due jobs")

    def _claim(
        self,
        connection: sqlite3.Connection,
        queues: Sequence[str],
        limit: int,
        lease: float,
        free: int | None,
        recover: bool,
    ) -> list[Delivery]:
        now, wall = self._clock.monotonic(), self._clock.time()
        return self._lending.claim(
            connection, queues, limit=limit, lease=lease, free=free, recover=recover, now=now, wall=wall
        )

    # ----------------------------------------------------------------------------------------------------- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract."""
        if not outcomes:
            return []
        answers = self._write(lambda c: self._settling.settle(c, outcomes, self._clock.time()), "settling")
        self._wake()
        return answers

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery]]:
        """Settle and claim in one transaction; see the contract."""

        def both(connection: sqlite3.Connection) -> tuple[list[Settlement], list[Delivery]]:
            settled = self._settling.settle(connection, outcomes, self._clock.time())
            return settled, self._claim(connection, queues, limit, lease, free, recover)

        answers = self._write(both, "settling and claiming")
        self._wake()
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        if not deliveries:
            return []
        return self._write(
            lambda c: self._settling.extend(c, deliveries, lease=lease, now=self._clock.monotonic()), "extending leases"
        )

    # ----------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        rows, paused = self._read(lambda c: (c.execute(self._sql["count"]).fetchall(), self._paused(c)), "counting")
        tally: dict[str, dict[str, Any]] = {name: {} for name in queues or ()}
        for queue, state, count, oldest in rows:
            if queues is None or queue in tally:
                counts = tally.setdefault(queue, {})
                counts[state] = count
                if oldest is not None:
                    counts["oldest_ready_age"] = max(0.0, self._clock.time() - oldest)
        return [QueueCounts(queue=name, paused=name in paused, **counts) for name, counts in sorted(tally.items())]

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records; see the contract."""
        text = f"{self._sql['record']} WHERE id = ?"
        rows = self._read(lambda c: [c.execute(text, (id,)).fetchone() for id in ids], "reading records")
        return [None if row is None else record_of(row) for row in rows]

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        conditions, values = _conditions(query)
        text = f"{self._sql['record']} WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT ?"
        rows = self._read(lambda c: c.execute(text, (*values, query.limit + 1)).fetchall(), "listing records")
        page = rows[: query.limit]
        following = str(page[-1][0]) if len(rows) > query.limit and page else None
        return Page(records=[record_of(row) for row in page], next=following)

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel jobs; see the contract."""
        return self._change(ids, self._cancel_one, "cancelling")

    def _cancel_one(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        seq, state = row[0], row[2]
        if state in {"pending", "scheduled"}:
            self._finishing.finish(connection, seq, "cancelled", "cancelled", self._clock.time(), settled=0)
        elif state == "running":
            connection.execute(f"UPDATE {self._jobs} SET cancel = 1 WHERE seq = ?", (seq,))

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start jobs over; see the contract."""
        return self._change(ids, self._retry_one, "retrying")

    def _retry_one(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        seq, state, key = row[0], row[2], row[3]
        if state in {"failed", "cancelled"}:
            turn = 1 if key is None else connection.execute(self._sql["key_turn"], (key,)).fetchone()[0]
            connection.execute(self._sql["restart"], {"seq": seq, "turn": turn})

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs; see the contract."""
        return self._change(ids, self._delete_one, "deleting")

    def _delete_one(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        seq, state, key, limit_key, scope, id = row[0], row[2], row[3], row[4], row[5], row[1]
        if state != "running":
            connection.execute(f"DELETE FROM {self._jobs} WHERE seq = ?", (seq,))
        if state in {"pending", "scheduled"}:
            self._finishing.let_go(connection, id, key, limit_key, scope)

    def _change(
        self, ids: Sequence[str], one: Callable[[sqlite3.Connection, tuple[Any, ...]], None], doing: str
    ) -> list[State | None]:
        def change(connection: sqlite3.Connection) -> list[State | None]:
            before: list[State | None] = []
            for id in ids:
                row = connection.execute(
                    f"SELECT seq, id, state, key, limit_key, scope FROM {self._jobs} WHERE id = ?",
                    (id,),
                ).fetchone()
                before.append(None if row is None else row[2])
                if row is not None:
                    one(connection, row)
            return before

        result = self._write(change, doing)
        self._wake()
        return result

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        text = f"SELECT id FROM {self._jobs} WHERE state = 'running' AND lease_end IS NOT NULL AND cancel = 1"
        return [row[0] for row in self._read(lambda c: c.execute(text).fetchall(), "looking for cancellations")]

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._write(
            lambda c: c.execute(f'INSERT OR IGNORE INTO "{self.namespace}.paused" VALUES (?)', (queue,)), "pausing"
        )

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""
        self._write(lambda c: c.execute(f'DELETE FROM "{self.namespace}.paused" WHERE queue = ?', (queue,)), "resuming")
        self._wake()

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        return sorted(self._read(self._paused, "looking for pauses"))

    def _paused(self, connection: sqlite3.Connection) -> set[str]:
        return {row[0] for row in connection.execute(f'SELECT queue FROM "{self.namespace}.paused"')}

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract."""

        def empty(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                f"SELECT id, key, limit_key, scope, seq FROM {self._jobs} WHERE queue = ? AND state IN ('pending', 'scheduled')",
                (queue,),
            ).fetchall()
            connection.execute(
                f"DELETE FROM {self._jobs} WHERE seq IN (SELECT value FROM json_each(?))",
                (listed(row[4] for row in rows),),
            )
            for row in rows:
                self._finishing.let_go(connection, *row[:4])
            return len(rows)

        count = self._write(empty, "purging")
        self._wake()
        return count

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        text = f"UPDATE {self._jobs} SET percent = ?, step = ? WHERE seq = ? AND token = ? AND state = 'running'"

        def store(connection: sqlite3.Connection) -> list[bool]:
            values = [(r.percent, r.step, r.delivery.receipt, r.delivery.token) for r in reports]
            return [connection.execute(text, row).rowcount == 1 for row in values]

        return self._write(store, "reporting progress")

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract."""
        name = "prune" if older_than is None else "prune_older"
        values = {"wall": self._clock.time(), "age": older_than, "most": limit}

        def forget(connection: sqlite3.Connection) -> int:
            connection.execute(self._sql["forget_grants"], (self._clock.monotonic(),))
            return connection.execute(self._sql[name], values).rowcount

        return self._write(forget, "pruning")

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""
        wall, table = self._clock.time(), f'"{self.namespace}.workers"'

        def store(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM {table} WHERE id = ? OR until <= ?", (worker.id, wall))
            if ttl > 0:
                info = msgspec.json.encode(worker).decode()
                connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", (worker.id, info, wall, wall + ttl))

        self._write(store, "giving a sign of life")

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        text = f'SELECT info, seen_at FROM "{self.namespace}.workers" WHERE until > ?'
        rows = self._read(lambda c: c.execute(text, (self._clock.time(),)).fetchall(), "listing workers")
        return [
            msgspec.structs.replace(msgspec.json.decode(info, type=WorkerInfo), seen_at=seen_at)
            for info, seen_at in rows
        ]

    def migrations(self) -> list[str]:
        """Return what `migrate` would apply; see the contract."""
        return self._read(lambda c: schema.missing(c, self.namespace), "reading the schema")

    def migrate(self) -> list[str]:
        """Apply missing migrations; see the contract."""
        return self._write(lambda c: schema.migrate(c, self.namespace), "migrating")

    def diagnose(self) -> list[Finding]:
        """Say what the file and its settings promise; reads the whole file, see the contract."""
        settings = self._read(diagnosis.settings_of, "looking at its settings")
        return diagnosis.diagnose(settings, self.path)

    def native(self) -> sqlite3.Connection:
        """Return the writing connection; do not use it while other threads work."""
        return self._writer.native()

    # ----------------------------------------------------------------------------------------- pairing (the store)

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store messages that a transport carries; see the contract."""
        wall = self._clock.time()
        until = wall + publish_within
        return self._write(lambda c: self._sending.send_unique(c, messages, wall, until), "admitting", patience)

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        wall = self._clock.time()
        rows = [(wall + again_after, id, wall + publish_within - age) for id, age in zip(ids, ages, strict=True)]

        def note(connection: sqlite3.Connection) -> None:
            connection.executemany(self._sql["published"], rows)

        self._write(note, "noting what was published")

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract."""

        def pick(connection: sqlite3.Connection) -> list[Message]:
            now, wall = self._clock.monotonic(), self._clock.time()
            self._lending.promote(connection, now=now, wall=wall, recover=recover)
            rows = connection.execute(self._sql["outbox"], (limit,)).fetchall()
            connection.execute(self._sql["set_aside"], (wall + again_after, listed(row[0] for row in rows)))
            return [message_of(*row[1:]) for row in rows]

        return self._write(pick, "reading the outbox") if self._may_be_due((), to_publish=True) else []

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        return self._write(lambda c: self._lend(c, ids, lease, free, recover), "lending by id")

    def settle_and_lend(
        self,
        outcomes: Sequence[Outcome],
        ids: Sequence[str],
        *,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery | State | None]]:
        """Settle, and lend by id, in one transaction; see the contract."""

        def both(connection: sqlite3.Connection) -> tuple[list[Settlement], list[Any]]:
            settled = self._settling.settle(connection, outcomes, self._clock.time())
            return settled, self._lend(connection, ids, lease, free, recover)

        answers = self._write(both, "settling and lending by id")
        self._wake()
        return answers

    def _lend(
        self, connection: sqlite3.Connection, ids: Sequence[str], lease: float, free: int | None, recover: bool
    ) -> list[Any]:
        now, wall = self._clock.monotonic(), self._clock.time()
        self._lending.promote(connection, now=now, wall=wall, recover=recover)
        return self._lending.lend_by_ids(connection, ids, lease=lease, free=free, now=now, wall=wall)

    def _wake(self) -> None:
        if self._waiters:
            with self._waiters_lock:
                for wakeup in self._waiters:
                    wakeup.set()


def _conditions(query: Query) -> tuple[list[str], list[Any]]:
    """Return the WHERE clause of a query."""
    conditions, values = ["seq > ?"], [place_of(query)]
    found: list[Any] = list(values)
    if query.states:
        conditions.append(f"state IN ({', '.join('?' * len(query.states))})")
        found += query.states
    for column, value in (("queue", query.queue), ("type", query.type)):
        if value is not None:
            conditions.append(f"{column} = ?")
            found.append(value)
    if query.tag is not None:
        conditions.append("EXISTS (SELECT 1 FROM json_each(extra, '$.tags') WHERE value = ?)")
        found.append(query.tag)
    if query.search is not None:
        conditions.append("(instr(id, ?) OR instr(type, ?) OR instr(body, ?))")
        found += [query.search] * 3
    return conditions, found
