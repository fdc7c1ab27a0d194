"""The PostgreSQL driver's verbs: each one statement where that is possible, else one transaction."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from queuekit.contract import (
    AmbiguousSend,
    Clock,
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
    VirtualClock,
    Wakeup,
    WorkerInfo,
    flag,
    seconds,
    whole,
)
from queuekit_postgres import changing, foreign, looking, options, pairing, schema, sending, settling
from queuekit_postgres.claiming import Claimer, Wanted
from queuekit_postgres.connections import DRIFT, Connection, Connections, pipelined
from queuekit_postgres.diagnosing import diagnose
from queuekit_postgres.floors import Floors
from queuekit_postgres.listening import Bell
from queuekit_postgres.records import is_plain, storable
from queuekit_postgres.runner import Runner
from queuekit_postgres.statements import Statements
from queuekit_postgres.work import Work, listed, uuids

if TYPE_CHECKING:
    import psycopg

BODY_BYTES = 16 << 20
FRESH = 0.25
"""Seconds after which a request looks for its id even if that was made for it."""
BATCH = 5000
"""Messages in one transaction: about 100 ms."""
SLACK = 60.0
"""Seconds by which a transaction may commit later than its time stamps say: above every time limit."""
PAGES_EVERY = 3600.0
"""Seconds between looks whether the history needs another day's partition."""


class PostgresDriver:
    """Jobs in a PostgreSQL database, version 13 or newer; the tables are in `schema`, made by `queuekit migrate`.

    `conninfo` is what libpq reads: `postgresql://user@host/database` or `host=… dbname=…`. At most `connections` are opened
    in a process, and one more that listens. A verb that gets no answer within `timeout` seconds raises
    `DriverUnavailable`; keep it below a third of the lease. `listen=False` neither listens nor notifies: then jobs of other processes are noticed within
    `poll_interval` seconds. `pgbouncer=True` uses nothing that a pooler in transaction mode cannot carry; it implies
    `listen=False`. `migrate=True` applies missing migrations when it opens.
    """

    def __init__(
        self,
        conninfo: str = "",
        *,
        namespace: str | None = None,
        clock: Clock | None = None,
        schema: str = "queuekit",
        migrate: bool = False,
        connections: int = 20,
        timeout: float = 10.0,
        listen: bool = True,
        poll_interval: float = 0.1,
        pgbouncer: bool = False,
    ) -> None:
        self._namespace = Namespace(namespace)
        self.schema = options.checked_schema(schema)
        self._migrate = flag("migrate", migrate)
        self._timeout = seconds("timeout", timeout, zero=False, most=options.LONGEST)
        most = whole("connections", connections, least=2)  # one for verbs, one while another still blocks
        virtual = clock if isinstance(clock, VirtualClock) else None
        self.limits = Limits(name="postgres", batch=BATCH, body_bytes=BODY_BYTES, connections=most)
        self._sql = Statements(self.schema, given_now=virtual is not None)
        parts = options.parts_of(conninfo)
        self._secret: str | None = parts.get("password")
        self._pgbouncer = flag("pgbouncer", pgbouncer)
        self._connections = Connections(
            options.with_defaults(parts, timeout=self._timeout, session=not pgbouncer),
            most=most,
            timeout=self._timeout,
            where=options.where(parts),
            secret=self._secret,
            prepare_threshold=None if pgbouncer else 2,
        )
        self._channel = self.schema if flag("listen", listen) and not pgbouncer else None
        self._bell = Bell(self._connections, self.schema)
        self._database = ""
        self._natives: list[Connection] = []
        self._open_lock = threading.Lock()
        self._opened = False
        self._paged = -math.inf
        self._clock: Clock = clock or SystemClock()
        floors = Floors()
        self._run = Runner(self._connections, self._sql, floors, virtual=virtual, secret=self._secret)
        self._claimer = Claimer(
            self._run,
            floors,
            self._bell,
            self._clock,
            channel=self._channel,
            poll=seconds("poll_interval", poll_interval, zero=False),
        )

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> PostgresDriver:
        """Build the driver for `postgresql://user:password@host:port/database?option=value`."""
        conninfo, own = options.from_url(url)
        return cls(conninfo, namespace=namespace, clock=clock, **own)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Use this namespace's rows; see the contract."""
        self._namespace.take(namespace, driver=self.limits.name)

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect, check server and schema, and learn the namespace's number; see the contract."""
        with self._open_lock, self._run.errors("opening"), self._connections.lend() as connection:
            if self._opened:
                return
            schema.check_server(connection)
            if self._migrate:
                schema.migrate(connection, self.schema)
            schema.check(connection, self.schema)
            self._namespace.fix()
            self._run.ns = schema.namespace_number(connection, self.schema, self.namespace)
            self._database = schema.database_id(connection, self.schema)
            self._opened = True

    def close(self) -> None:
        """Close the connections. Idempotent; what is lent stays lent until its lease ends."""
        self._bell.stop()
        self._connections.close()
        while self._natives:
            self._natives.pop().close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Check that the server answers; queues come into being with their first message."""
        del queues
        self._run.statement(lambda work: work.connection.execute("SELECT 1"), "asking for a sign of life")

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract."""
        if len(messages) == 1 and is_plain(messages[0]):
            self._run.statement(
                lambda work: sending.send_one(work, messages[0], self._channel),
                "sending",
                sending=True,
                patience=patience,
            )
        elif len(messages) < sending.COPY_FROM:
            self._send(sending.send_few, messages, patience)
        else:
            try:
                self._send(sending.send_many, messages, patience)
            except sending.Duplicate:
                self._send(sending.send_few, messages, patience)
        self._bell.ring()

    def send_fresh(self, message: Message, *, patience: Patience | None = None) -> None:
        """Store a message with an id of its own; see the contract.

        A request that reaches the table within `FRESH` seconds, or the caller's patience, does not look into the history. So nobody
        hears sooner than that that its answer was lost. A pooler may change the server, and its clock, behind a connection: there it is looked for.
        """
        if self._pgbouncer or not is_plain(message):
            self.send([message], patience=patience)
            return
        late = -math.inf

        def store(work: Work) -> None:
            nonlocal late
            late = min(time.monotonic() + FRESH, work.connection.end or math.inf)
            until = work.connection.server_time_at(late)
            sending.send_fresh(work, message, self._channel, unknown_until=until)

        try:
            self._run.statement(store, "sending", sending=True, patience=patience)
        except AmbiguousSend:
            time.sleep(max(0.0, late + DRIFT - time.monotonic()))
            raise
        self._bell.ring()

    def _send(
        self, store: Callable[[Work, Sequence[Message]], None], messages: Sequence[Message], patience: Patience | None
    ) -> None:
        def operation(work: Work) -> None:
            store(work, messages)
            sending.ring(work, (message.queue for message in messages), self._channel)

        self._run.transaction(operation, "sending", sending=True, patience=patience)

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""

        def operation(work: Work) -> list[Receipt]:
            receipts = sending.send_unique(work, messages)
            sending.ring(work, (message.queue for message in messages), self._channel)
            return receipts

        receipts = self._run.transaction(operation, "sending", sending=True, patience=patience)
        self._bell.ring()
        return receipts

    def send_in(self, connection: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Store messages through a connection of the application's; see the contract."""
        with self._run.errors("sending in the caller's transaction"):
            work = self._foreign(connection)
            receipts = sending.send_unique(work, messages)
            sending.ring(work, (message.queue for message in messages), self._channel)
            return receipts

    def _foreign(self, connection: Any) -> Work:
        """Return what works through a connection of the application's, which must be to this database."""
        self.open()
        work = foreign.ForeignWork(foreign.cursor_of(connection), self._sql, self._run.base())
        foreign.check_database(work, self.schema, self._database)
        return work

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
        wanted = Wanted(queues, limit, lease, free, recover)
        return self._claimer.claim(wanted, wait=wait, wakeup=wakeup)

    # ----------------------------------------------------------------------------------------------------- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract."""
        if not outcomes:
            return []
        answers: list[Settlement | None] = [None] * len(outcomes)
        plain = settling.plain_ones(outcomes)
        if plain:
            name, values = settling.complete_parameters(plain)
            settling.applied(answers, plain, self._run.statement(lambda work: work.rows(name, **values), "settling"))
        return self._settle_rest(outcomes, answers)

    def _settle_rest(self, outcomes: Sequence[Outcome], answers: list[Settlement | None]) -> list[Settlement]:
        """Settle what one statement could not."""
        if None not in answers:
            return [answer for answer in answers if answer is not None]

        def operation(work: Work) -> list[Settlement]:
            settled = settling.settle_rest(work, outcomes, list(answers))
            sending.ring(work, settling.queues_of(outcomes), self._channel)
            return settled

        settled = self._run.transaction(operation, "settling")
        self._bell.ring()
        return settled

    def settle_in(self, connection: Any, outcomes: Sequence[Outcome]) -> None:
        """Settle through a connection of the application's; see the contract."""
        with self._run.errors("settling in the caller's transaction"):
            work = self._foreign(connection)
            if not settling.settle_all(work, outcomes):
                foreign.spoil(work)
                message = "the lease is not this attempt's any more, so its transaction cannot be committed"
                raise LeaseLost(message)
            if len(settling.plain_ones(outcomes)) < len(outcomes):
                sending.ring(work, settling.queues_of(outcomes), self._channel)

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
        """Settle and claim; plain outcomes and plain jobs travel in one round trip. See the contract."""
        wanted = Wanted(queues, limit, lease, free, recover)
        plain = settling.plain_ones(outcomes)
        if len(plain) < len(outcomes) or not plain:
            return self.settle(outcomes), self._claimer.look(wanted)
        answers: list[Settlement | None] = [None] * len(outcomes)
        name, values = settling.complete_parameters(plain)
        settled, deliveries = self._claimer.look_and_run(name, values, wanted)
        settling.applied(answers, plain, settled)
        return self._settle_rest(outcomes, answers), deliveries

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        if not deliveries:
            return []
        return self._run.statement(lambda work: settling.extend(work, deliveries, lease=lease), "extending leases")

    # ----------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        return self._run.transaction(lambda work: looking.count(work, queues), "counting")

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records; see the contract."""
        found = self._run.statement(lambda work: looking.get(work, uuids(ids)), "reading records")
        return [found.get(id) for id in ids]

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        return self._run.transaction(lambda work: looking.browse(work, query), "listing records")

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel jobs; see the contract."""
        return self._change(changing.cancel, ids, "cancelling")

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start jobs over; see the contract."""
        return self._change(changing.retry, ids, "retrying")

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs; see the contract."""
        return self._change(changing.delete, ids, "deleting")

    def _change(
        self, change: Callable[[Work, Sequence[str]], dict[str, State]], ids: Sequence[str], doing: str
    ) -> list[State | None]:
        def operation(work: Work) -> dict[str, State]:
            states = change(work, uuids(ids))
            sending.ring(work, [""], self._channel)
            return states

        before = self._run.transaction(operation, doing)
        self._bell.ring()
        return [before.get(id) for id in ids]

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        return [row[0] for row in self._run.statement(lambda work: work.rows("requested"), "looking for cancellations")]

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._run.statement(lambda work: work.run("pause", queue=queue), "pausing")

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""

        def operation(work: Work) -> None:
            work.run("resume", queue=queue)
            sending.ring(work, [queue], self._channel)

        self._run.transaction(operation, "resuming")
        self._bell.ring()

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        return [row[0] for row in self._run.statement(lambda work: work.rows("paused"), "looking for pauses")]

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract."""
        return self._run.transaction(lambda work: changing.purge(work, queue), "purging")

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        values = {
            "ids": listed([report.delivery.message.id for report in reports]),
            "tokens": listed([report.delivery.token for report in reports]),
            "percents": [float(report.percent) for report in reports],
            "steps": [storable(report.step) for report in reports],
        }
        done = {row[0] for row in self._run.statement(lambda work: work.rows("report", **values), "reporting progress")}
        return [report.delivery.message.id in done for report in reports]

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract. Records kept for a day or two go with their whole day, and are not counted."""
        if self._clock.monotonic() - self._paged >= PAGES_EVERY and self._run.virtual is None:
            self._paged = self._clock.monotonic()
            self._run.transaction(lambda work: work.run("turn_pages"), "turning the history's pages")
        name = "prune" if older_than is None else "prune_older"
        return int(self._run.statement(lambda work: work.run(name, age=older_than, limit=limit).rowcount, "pruning"))

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""

        def store(work: Work) -> None:
            if ttl > 0:
                work.run("beat", id=worker.id, info=msgspec.json.encode(worker).decode(), ttl=ttl)
            else:
                work.run("strike_off", id=worker.id)

        self._run.statement(store, "giving a sign of life")

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        rows = self._run.statement(lambda work: work.rows("workers"), "listing workers")
        return [
            msgspec.structs.replace(msgspec.json.decode(info, type=WorkerInfo), seen_at=seen_at)
            for info, seen_at in rows
        ]

    def migrations(self) -> list[str]:
        """Return what `migrate` would apply; see the contract."""
        with self._run.errors("reading the schema"), self._connections.lend() as connection:
            return schema.missing(connection, self.schema)

    def migrate(self) -> list[str]:
        """Apply missing migrations; see the contract."""
        with self._run.errors("migrating"), self._connections.lend() as connection:
            connection.end = None
            return schema.migrate(connection, self.schema)

    def diagnose(self) -> list[Finding]:
        """Read the server's settings; see the contract."""
        return self._run.statement(
            lambda work: diagnose(work, connections=self.limits.connections or 0), "reading settings"
        )

    def server_time(self) -> float:
        """Return the server's clock; see the contract."""
        return float(self._run.statement(lambda work: work.rows("server_time"), "reading the clock")[0][0])

    def native(self) -> psycopg.Connection[Any]:
        """Return a connection of the caller's own, in autocommit mode; it is closed with the driver at the latest."""
        connection = self._connections.connect()
        self._natives.append(connection)
        return connection

    # ----------------------------------------------------------------------------------------- pairing (the store)

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store messages that a transport carries; see the contract."""
        return self._run.transaction(
            lambda work: pairing.admit(work, messages, publish_within), "admitting", sending=True, patience=patience
        )

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        known = set(uuids(ids))
        noted = [(id, publish_within - age) for id, age in zip(ids, ages, strict=True) if id in known]
        values = {"ids": listed([id for id, _ in noted]), "bounds": [bound for _, bound in noted], "wait": again_after}
        self._run.statement(lambda work: work.run("published", **values), "noting what was published")

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract."""
        if not self._run.statement(lambda work: pairing.outbox_waits(work, recover=recover), "looking at the outbox"):
            return []
        return self._run.transaction(
            lambda work: pairing.outbox(work, limit, again_after, recover=recover), "reading the outbox"
        )

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        known = uuids(ids)
        rows = self._run.statement(lambda work: pairing.lend_plain(work, known, lease).fetchall(), "lending by id")
        return self._lend_rest(ids, known, pairing.lent(rows), lease, free, recover=recover)

    def settle_and_lend(
        self,
        outcomes: Sequence[Outcome],
        ids: Sequence[str],
        *,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery | State | None]]:
        """Settle, and lend by id; plain outcomes and plain jobs travel in one round trip. See the contract."""
        plain = settling.plain_ones(outcomes)
        if len(plain) < len(outcomes) or not plain:
            return self.settle(outcomes), self.lend(ids, lease=lease, free=free, recover=recover)
        answers: list[Settlement | None] = [None] * len(outcomes)
        name, values = settling.complete_parameters(plain)
        known = uuids(ids)

        def both(work: Work) -> tuple[list[Any], list[Any]]:
            with pipelined(work.connection):
                settled, lent = work.run(name, **values), pairing.lend_plain(work, known, lease)
            return settled.fetchall(), lent.fetchall()

        settled, lent = self._run.statement(both, "settling and lending by id")
        settling.applied(answers, plain, settled)
        found = self._lend_rest(ids, known, pairing.lent(lent), lease, free, recover=recover)
        return self._settle_rest(outcomes, answers), found

    def _lend_rest(
        self,
        ids: Sequence[str],
        known: Sequence[str],
        lent: dict[str, Delivery | State],
        lease: float,
        free: int | None,
        *,
        recover: bool,
    ) -> list[Delivery | State | None]:
        """Lend by id what one statement did not, and return an answer for each id."""
        rest = [id for id in dict.fromkeys(known) if id not in lent]
        if rest:
            places = len(ids) if free is None else free
            lent |= self._run.transaction(
                lambda work: pairing.lend(work, rest, lease, places=places, recover=recover), "lending by id"
            )
        answers: list[Delivery | State | None] = []
        for id in ids:
            answers.append(lent.get(id))
            if isinstance(answers[-1], Delivery):
                lent[id] = "running"  # to whoever names it again
        return answers
