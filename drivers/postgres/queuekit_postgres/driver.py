"""The PostgreSQL driver's verbs: each one statement where that is possible, else one transaction."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import psycopg

from queuekit.contract import (
    AmbiguousSend,
    Clock,
    Delivery,
    Extension,
    Finding,
    LeaseLost,
    Limits,
    Message,
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
)
from queuekit_postgres import changing, foreign, lending, looking, options, pairing, schema, sending, settling
from queuekit_postgres.connections import DRIFT, Connection, Connections, pipelined, roll_back
from queuekit_postgres.diagnosing import diagnose
from queuekit_postgres.errors import RETRIED, postgres_errors
from queuekit_postgres.floors import Asked, Floors
from queuekit_postgres.listening import Bell
from queuekit_postgres.records import is_plain, storable
from queuekit_postgres.statements import Statements
from queuekit_postgres.work import Work, listed, uuids

T = TypeVar("T")
BODY_BYTES = 16 << 20
FRESH = 0.25
"""Seconds after which a request looks for its id even if that was made for it."""
BATCH = 5000
"""Messages in one transaction: about 100 ms."""
TRIES = 5
"""Times that a transaction is run which the server rolled back because it collided with others."""
SWEEP_EVERY = 0.05
"""Seconds between looks for leases that ran out; a claim that waits knows the moment exactly."""
SOON = 0.001
"""Seconds after which a claim that waits looks at what has just become due."""
SWEEP_MOST, SWEEP_SHARE = 2.0, 10
"""A look takes at most a tenth of the time, but comes at least so often: it reads all that began since the oldest running job."""
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
        namespace: str = "queuekit",
        clock: Clock | None = None,
        schema: str = "queuekit",
        migrate: bool = False,
        connections: int = 20,
        timeout: float = 10.0,
        listen: bool = True,
        poll_interval: float = 0.1,
        pgbouncer: bool = False,
    ) -> None:
        self.namespace = namespace
        self.schema = options.checked_schema(schema)
        self._migrate = migrate
        self._timeout = options.positive("timeout", timeout)
        self._poll = options.positive("poll_interval", poll_interval)
        most = options.whole("connections", connections)
        self._ns = 0
        self._clock: Clock = clock or SystemClock()
        self._given_now = isinstance(clock, VirtualClock)
        self._base()  # a test's clock counts from the first driver that it is given to
        self.limits = Limits(name="postgres", batch=BATCH, body_bytes=BODY_BYTES, connections=most)
        self._sql = Statements(self.schema, given_now=self._given_now)
        parts = options.parts_of(conninfo)
        self._secret: str | None = parts.get("password")
        self._pgbouncer = pgbouncer
        self._connections = Connections(
            options.with_defaults(parts, timeout=self._timeout, session=not pgbouncer),
            most=most,
            timeout=self._timeout,
            where=options.where(parts),
            secret=self._secret,
            prepare_threshold=None if pgbouncer else 2,
        )
        self._channel = self.schema if listen and not pgbouncer else None
        self._bell = Bell(self._connections, self.schema)
        self._database = ""
        self._natives: list[Connection] = []
        self._open_lock = threading.Lock()
        self._opened = False
        self._floors = Floors()
        self._swept = self._paged = -math.inf
        self._sweep_pause = SWEEP_EVERY

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> PostgresDriver:
        """Build the driver for `postgresql://user:password@host:port/database?option=value`."""
        conninfo, own = options.from_url(url)
        return cls(conninfo, namespace=namespace, clock=clock, **own)

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect, check server and schema, and learn the namespace's number; see the contract."""
        with self._open_lock, self._errors("opening"), self._connections.lend() as connection:
            if self._opened:
                return
            schema.check_server(connection)
            if self._migrate:
                schema.migrate(connection, self.schema)
            schema.check(connection, self.schema)
            self._ns = schema.namespace_number(connection, self.schema, self.namespace)
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
        self._read(lambda work: work.connection.execute("SELECT 1"), "asking for a sign of life")

    # ------------------------------------------------------------------------------------------- running statements

    def _errors(self, doing: str, *, sending: bool = False) -> Any:
        return postgres_errors(doing, secret=self._secret, sending=sending)

    def _work(self, connection: Any) -> Work:
        return Work(connection, self._sql, self._base(), self._floors.known)

    def _base(self) -> dict[str, Any]:
        """Return the parameters that all statements share."""
        return {"ns": self._ns, "now": _server_time(self._clock)} if self._given_now else {"ns": self._ns}

    def _read(self, operation: Callable[[Work], T], doing: str) -> T:
        """Run one statement, which is a transaction of its own; repeated where the server asks for that."""
        return self._again(lambda: self._once(operation, None), doing)

    def _once(self, operation: Callable[[Work], T], patience: Patience | None) -> T:
        with self._connections.lend(patience) as connection:
            if patience is not None:
                patience.check()
            return operation(self._work(connection))

    def _write(
        self, operation: Callable[[Work], T], doing: str, *, sending: bool = False, patience: Patience | None = None
    ) -> T:
        """Run one transaction; repeated where it collided with others, and was provably rolled back."""
        return self._again(lambda: self._transaction(operation, doing, sending=sending, patience=patience), doing)

    def _again(self, run: Callable[[], T], doing: str, *, sending: bool = False) -> T:
        with self._errors(doing, sending=sending):
            for _ in range(TRIES - 1):
                try:
                    return run()
                except psycopg.Error as error:
                    if error.sqlstate not in RETRIED:
                        raise
            return run()

    def _transaction(
        self, operation: Callable[[Work], T], doing: str, *, sending: bool, patience: Patience | None
    ) -> T:
        with self._connections.lend(patience) as connection:
            if patience is not None:
                patience.check()
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                result = operation(self._work(connection))
            except BaseException as error:
                roll_back(connection)
                if patience is not None and isinstance(error, psycopg.OperationalError):
                    patience.check()  # its end is why nobody waited longer, and nothing was committed
                raise
            with self._errors(doing, sending=sending):
                connection.execute("COMMIT")
            return result

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract."""
        if len(messages) == 1 and is_plain(messages[0]):
            self._again(
                lambda: self._once(lambda work: sending.send_one(work, messages[0], self._channel), patience),
                "sending",
                sending=True,
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
            self._again(lambda: self._once(store, patience), "sending", sending=True)
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

        self._write(operation, "sending", sending=True, patience=patience)

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""

        def operation(work: Work) -> list[Receipt]:
            receipts = sending.send_unique(work, messages)
            sending.ring(work, (message.queue for message in messages), self._channel)
            return receipts

        receipts = self._write(operation, "sending", sending=True, patience=patience)
        self._bell.ring()
        return receipts

    def send_in(self, connection: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Store messages through a connection of the application's; see the contract."""
        with self._errors("sending in the caller's transaction"):
            work = self._foreign(connection)
            receipts = sending.send_unique(work, messages)
            sending.ring(work, (message.queue for message in messages), self._channel)
            return receipts

    def _foreign(self, connection: Any) -> Work:
        """Return what works through a connection of the application's, which must be to this database."""
        self.open()
        work = foreign.ForeignWork(foreign.cursor_of(connection), self._sql, self._base())
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

        def look(*, urgent: bool = False) -> list[Delivery]:
            return self._claim(queues, limit, lease, free, recover, urgent=urgent)

        if wait <= 0:
            return look()
        if self._channel is not None:
            self._bell.start(self._ns)
        flag = wakeup or Wakeup()
        end = self._clock.monotonic() + wait
        self._bell.watch(flag)
        try:
            return self._wait_for(look, flag, end, recover=recover)
        finally:
            self._bell.unwatch(flag)

    def _wait_for(
        self, look: Callable[..., list[Delivery]], flag: Wakeup, end: float, *, recover: bool
    ) -> list[Delivery]:
        least = SOON
        while True:
            found = look()
            left = end - self._clock.monotonic()
            if found or flag.is_set() or left <= 0:
                return found
            if not self._bell.rings:
                left = min(left, self._poll)
            change = self._next_change(recover=recover)
            if self._clock.wait(flag, min(left, max(least, change), self._floors.look_again())):
                return look(urgent=True)
            least = SWEEP_EVERY if change < 0 else SOON  # it was due and not to be had: another transaction locks it

    def _next_change(self, *, recover: bool) -> float:
        """Return the seconds until time alone makes something due for a claim, which may take leases back or not; negative: overdue."""
        [(due, lease_end)] = self._read(lambda work: work.rows("next_times", **work.known.times()), "waiting")
        self._swept = -math.inf
        return min(math.inf if due is None else due, math.inf if lease_end is None or not recover else lease_end)

    def _claim(
        self, queues: Sequence[str], limit: int, lease: float, free: int | None, recover: bool, *, urgent: bool = False
    ) -> list[Delivery]:
        self._floors.trust(self._connections.broken)
        parameters = self._claim_parameters(queues, limit, lease, free, recover)
        asked = self._floors.survey(queues, self._clock.monotonic(), urgent=urgent)

        def claim(work: Work) -> tuple[list[Any], list[Any]]:
            if asked is None:
                return [], work.rows("claim", **parameters)
            with pipelined(work.connection):
                found, claimed = work.run("survey", **asked.parameters()), work.run("claim", **parameters)
            return found.fetchall(), claimed.fetchall()

        found, claimed = self._ask(claim, "claiming", sweep=parameters["sweep"])
        deliveries = self._claimed(claimed, queues, limit, lease, free, recover)
        if self._learn(asked, found) and len(deliveries) < limit:
            return deliveries or self._claim(queues, limit, lease, free, recover)
        return deliveries

    def _ask(self, claim: Callable[[Work], T], doing: str, *, sweep: bool) -> T:
        """Claim; whatever was known about floors is forgotten when there is no answer."""
        begin = self._clock.monotonic()
        try:
            answer = self._read(claim, doing)
        except BaseException:
            self._floors.failed()
            raise
        if sweep:
            took = self._clock.monotonic() - begin
            self._sweep_pause = min(SWEEP_MOST, max(SWEEP_EVERY, SWEEP_SHARE * took))
        return answer

    def _learn(self, asked: Asked | None, found: list[Any]) -> bool:
        """Take in a survey; whether it turned out that claims must read more than they did."""
        fell = asked is not None and self._floors.learn(asked, found[0], self._clock.monotonic())
        return not self._floors.trust(self._connections.broken) or fell

    def _claim_parameters(
        self, queues: Sequence[str], limit: int, lease: float, free: int | None, recover: bool
    ) -> dict[str, Any]:
        now = self._clock.monotonic()
        sweep = recover and (self._given_now or now - self._swept >= self._sweep_pause)
        if sweep:
            self._swept = now
        places = limit if free is None else min(free, limit)
        return lending.claim_parameters(
            queues, self._floors.known, limit=limit, places=places, lease=lease, sweep=sweep
        )

    def _claimed(
        self, rows: list[Any], queues: Sequence[str], limit: int, lease: float, free: int | None, recover: bool
    ) -> list[Delivery]:
        """Return what one statement lent; where time, keys or limits have to be asked, it lent nothing."""
        deliveries, flags = lending.fast(rows, queues)
        if flags & lending.SURPLUS:
            self._ring(queues)
        if not flags & lending.AGAIN:
            self._floors.lent(deliveries)
            return deliveries

        def operation(work: Work) -> list[Delivery]:
            places = limit if free is None else min(free, limit)
            late = bool(flags & lending.LATE)
            lent = lending.slow(work, queues, late=late, limit=limit, places=places, lease=lease, recover=recover)
            sending.ring(work, work.left, self._channel)
            return lent

        deliveries = self._write(operation, "claiming")
        self._floors.lent(deliveries)
        return deliveries

    def _ring(self, queues: Sequence[str]) -> None:
        """Let others look again who passed over what was locked here for a moment."""
        if self._channel is not None:
            self._read(lambda work: sending.ring(work, queues, self._channel), "ringing")
        self._bell.ring()

    # ----------------------------------------------------------------------------------------------------- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract."""
        if not outcomes:
            return []
        answers: list[Settlement | None] = [None] * len(outcomes)
        plain = settling.plain_ones(outcomes)
        if plain:
            name, values = settling.complete_parameters(plain)
            settling.applied(answers, plain, self._read(lambda work: work.rows(name, **values), "settling"))
        return self._settle_rest(outcomes, answers)

    def _settle_rest(self, outcomes: Sequence[Outcome], answers: list[Settlement | None]) -> list[Settlement]:
        """Settle what one statement could not."""
        if None not in answers:
            return [answer for answer in answers if answer is not None]

        def operation(work: Work) -> list[Settlement]:
            settled = settling.settle_rest(work, outcomes, list(answers))
            sending.ring(work, settling.queues_of(outcomes), self._channel)
            return settled

        settled = self._write(operation, "settling")
        self._bell.ring()
        return settled

    def settle_in(self, connection: Any, outcomes: Sequence[Outcome]) -> None:
        """Settle through a connection of the application's; see the contract."""
        with self._errors("settling in the caller's transaction"):
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
        plain = settling.plain_ones(outcomes)
        if len(plain) < len(outcomes) or not plain:
            return self.settle(outcomes), self._claim(queues, limit, lease, free, recover)
        answers: list[Settlement | None] = [None] * len(outcomes)
        name, values = settling.complete_parameters(plain)
        self._floors.trust(self._connections.broken)
        parameters = self._claim_parameters(queues, limit, lease, free, recover)
        asked = self._floors.survey(queues, self._clock.monotonic())

        def both(work: Work) -> tuple[list[Any], list[Any], list[Any]]:
            with pipelined(work.connection):
                found = None if asked is None else work.run("survey", **asked.parameters())
                settled, claimed = work.run(name, **values), work.run("claim", **parameters)
            return [] if found is None else found.fetchall(), settled.fetchall(), claimed.fetchall()

        found, settled, claimed = self._ask(both, "settling and claiming", sweep=parameters["sweep"])
        self._learn(asked, found)  # what lies below floors that fell is lent by the next claim
        settling.applied(answers, plain, settled)
        deliveries = self._claimed(claimed, queues, limit, lease, free, recover)
        return self._settle_rest(outcomes, answers), deliveries

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        if not deliveries:
            return []
        return self._read(lambda work: settling.extend(work, deliveries, lease=lease), "extending leases")

    # ----------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        return self._write(lambda work: looking.count(work, queues), "counting")

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records; see the contract."""
        found = self._read(lambda work: looking.get(work, uuids(ids)), "reading records")
        return [found.get(id) for id in ids]

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        return self._write(lambda work: looking.browse(work, query), "listing records")

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

        before = self._write(operation, doing)
        self._bell.ring()
        return [before.get(id) for id in ids]

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        return [row[0] for row in self._read(lambda work: work.rows("requested"), "looking for cancellations")]

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._read(lambda work: work.run("pause", queue=queue), "pausing")

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""

        def operation(work: Work) -> None:
            work.run("resume", queue=queue)
            sending.ring(work, [queue], self._channel)

        self._write(operation, "resuming")
        self._bell.ring()

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        return [row[0] for row in self._read(lambda work: work.rows("paused"), "looking for pauses")]

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract."""
        return self._write(lambda work: changing.purge(work, queue), "purging")

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        values = {
            "ids": listed([report.delivery.message.id for report in reports]),
            "tokens": listed([report.delivery.token for report in reports]),
            "percents": [float(report.percent) for report in reports],
            "steps": [storable(report.step) for report in reports],
        }
        done = {row[0] for row in self._read(lambda work: work.rows("report", **values), "reporting progress")}
        return [report.delivery.message.id in done for report in reports]

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract. Records kept for a day or two go with their whole day, and are not counted."""
        if self._clock.monotonic() - self._paged >= PAGES_EVERY and not self._given_now:
            self._paged = self._clock.monotonic()
            self._write(lambda work: work.run("turn_pages"), "turning the history's pages")
        name = "prune" if older_than is None else "prune_older"
        return int(self._read(lambda work: work.run(name, age=older_than, limit=limit).rowcount, "pruning"))

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""

        def store(work: Work) -> None:
            if ttl > 0:
                work.run("beat", id=worker.id, info=msgspec.json.encode(worker).decode(), ttl=ttl)
            else:
                work.run("strike_off", id=worker.id)

        self._read(store, "giving a sign of life")

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        rows = self._read(lambda work: work.rows("workers"), "listing workers")
        return [
            msgspec.structs.replace(msgspec.json.decode(info, type=WorkerInfo), seen_at=seen_at)
            for info, seen_at in rows
        ]

    def migrations(self) -> list[str]:
        """Return what `migrate` would apply; see the contract."""
        with self._errors("reading the schema"), self._connections.lend() as connection:
            return schema.missing(connection, self.schema)

    def migrate(self) -> list[str]:
        """Apply missing migrations; see the contract."""
        with self._errors("migrating"), self._connections.lend() as connection:
            connection.end = None
            return schema.migrate(connection, self.schema)

    def diagnose(self) -> list[Finding]:
        """Read the server's settings; see the contract."""
        return self._read(lambda work: diagnose(work, connections=self.limits.connections or 0), "reading settings")

    def server_time(self) -> float:
        """Return the server's clock; see the contract."""
        return float(self._read(lambda work: work.rows("server_time"), "reading the clock")[0][0])

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
        return self._write(
            lambda work: pairing.admit(work, messages, publish_within), "admitting", sending=True, patience=patience
        )

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        known = set(uuids(ids))
        noted = [(id, publish_within - age) for id, age in zip(ids, ages, strict=True) if id in known]
        values = {"ids": listed([id for id, _ in noted]), "bounds": [bound for _, bound in noted], "wait": again_after}
        self._read(lambda work: work.run("published", **values), "noting what was published")

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract."""
        if not self._read(lambda work: pairing.outbox_waits(work, recover=recover), "looking at the outbox"):
            return []
        return self._write(lambda work: pairing.outbox(work, limit, again_after, recover=recover), "reading the outbox")

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        known = uuids(ids)
        rows = self._read(lambda work: pairing.lend_plain(work, known, lease).fetchall(), "lending by id")
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

        settled, lent = self._read(both, "settling and lending by id")
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
            lent |= self._write(
                lambda work: pairing.lend(work, rest, lease, places=places, recover=recover), "lending by id"
            )
        answers: list[Delivery | State | None] = []
        for id in ids:
            answers.append(lent.get(id))
            if isinstance(answers[-1], Delivery):
                lent[id] = "running"  # to whoever names it again
        return answers


_starts: WeakKeyDictionary[Clock, float] = WeakKeyDictionary()


def _server_time(clock: Clock) -> float:
    """Return the time of a server for whose clock a test's clock stands: it does not step when this machine's is set."""
    return _starts.setdefault(clock, clock.time() - clock.monotonic()) + clock.monotonic()
