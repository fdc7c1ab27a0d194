"""The Redis driver's verbs: each one script, which the server runs as a whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from queuekit.contract import (
    Clock,
    Delivery,
    DriverRejected,
    Extension,
    Finding,
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
    Url,
    Wakeup,
    WorkerInfo,
    place_of,
    refuse,
)
from queuekit_redis import codec
from queuekit_redis.address import Settings, address_of, settings_of, source_of_client, source_of_url
from queuekit_redis.calls import CHUNK, Calls, parts
from queuekit_redis.codec import micros, pack
from queuekit_redis.doctor import Server, findings
from queuekit_redis.keys import Keys
from queuekit_redis.lending import Asked, Lender
from queuekit_redis.link import Link
from queuekit_redis.scripts import read_scripts
from queuekit_redis.sending import Sender
from queuekit_redis.settling import Settler

_log = logging.getLogger("queuekit.redis")
BATCH = 5000
"""Jobs in one call: several scripts, one round trip."""
LOOK = 1000
"""Records that one script of an administrative verb looks at."""


class RedisDriver:
    """Jobs in a Redis or Valkey server, for any number of processes and machines.

    Give an address (`redis://user:password@host:6379/0`, `rediss://` for TLS, `?cluster=true`, `?sentinel=name`) or a `client` of
    redis-py that the application made. What "accepted" means is the server's setting: with `appendonly yes` and `appendfsync
    always` a crash loses nothing, with `everysec` up to two seconds; `diagnose` says what
    holds. Leases and due times are judged by the server's clock. `settings` stand in an address as options
    (`?socket_timeout=2`).
    """

    def __init__(
        self,
        address: str | Url = "redis://localhost:6379/0",
        *,
        client: Any = None,
        namespace: str | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._namespace = Namespace(namespace)
        url = address_of(address)
        if settings is not None and not isinstance(settings, Settings):
            raise refuse("settings", settings, "give a queuekit_redis.Settings")
        self._settings = settings or settings_of(url)
        self.limits = Limits(
            name="redis", batch=BATCH, body_bytes=16 << 20, resolution=0.01, connections=self._settings.pool_size
        )
        self._address, self._client, self._clock = url, client, clock
        self._connect_parts()
        self._opened = False

    def _connect_parts(self) -> None:
        """Make what uses the namespace's keys, and looks for the node that has them; touches no server."""
        client, namespace = self._client, self.namespace
        self._source = (
            source_of_url(self._address, namespace, self._settings)
            if client is None
            else source_of_client(client, namespace, self._settings)
        )
        self._keys = Keys(namespace)
        self._link = Link(self._source, self._settings)
        self._calls = Calls(self._link, self._keys, self._clock)
        self._sender = Sender(self._calls)
        self._settler = Settler(self._calls)
        self._lender = Lender(self._calls, poll_interval=self._settings.poll_interval, settle=self._settler.settle)

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> RedisDriver:
        """Build the driver for `redis://`, `rediss://`, `valkey://` or `valkeys://`."""
        return cls(url, namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Use this namespace's keys; see the contract."""
        if self._namespace.take(namespace, driver=self.limits.name):
            self._connect_parts()

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect, and check the server's version; settings that weaken a promise are logged once."""
        self._link.check()
        if self._opened:
            return
        self._namespace.fix()
        read_scripts()
        server = self._server()
        if server.too_old:
            message = (
                f"{self._link.server} is {server.name} {server.version}; queuekit needs Redis 6.2 or newer, or Valkey"
            )
            raise DriverRejected(message)
        for finding in findings(server):
            if finding.level in {"warning", "error"}:
                _log.warning("%s: %s=%s: %s", self._link.server, finding.setting, finding.value, finding.promise)
        self._opened = True

    def close(self) -> None:
        """Close all connections. Idempotent; what is lent stays lent until its lease ends."""
        self._link.close()
        self._lender.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Check that the server answers; queues come into being with their first message."""
        del queues
        self._link.check()
        self._link.command("PING", doing="asking for a sign of life")

    def _server(self) -> Server:
        return Server.ask(lambda *parts: self._link.command(*parts, doing="reading the server's settings"))

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract. Each script stores up to 250, all of them or none."""
        self._sender.send(messages, patience)

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""
        return self._sender.send_unique(messages, patience)

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store messages that a transport carries; see the contract."""
        return self._sender.admit(messages, publish_within=publish_within, patience=patience)

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        bounds = [micros(publish_within - age) for age in ages]
        for chunk, by in zip(parts(ids, CHUNK), parts(bounds, CHUNK), strict=True):
            arguments = pack(list(chunk)), micros(again_after), pack(list(by))
            self._calls.run("published", *arguments, doing="noting what was published")

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract. A call names 250 at most."""
        queues = self._queues()
        wanted = pack([queues, limit, micros(again_after), recover])
        values = self._calls.run("outbox", wanted, queues=queues, doing="reading the outbox")
        return [codec.message_of(value)[0] for value in values]

    # --------------------------------------------------------------------------------------------- lending, settling

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
        asked = Asked(tuple(queues), limit, lease, limit if free is None else free, recover)
        return self._lender.claim(asked, wait=wait, wakeup=wakeup)

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        return self._lender.lend(ids, lease=lease, free=free, recover=recover)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        return self._lender.extend(deliveries, lease=lease)

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract. Each outcome and its follow-ups are in one script."""
        return self._settler.settle(outcomes)

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
        """Settle and claim in one script; see the contract."""
        asked = Asked(tuple(queues), limit, lease, limit if free is None else free, recover)
        answers, lent = self._settler.exchange(outcomes, asked.queues, asked.packed(0))
        return answers, self._lender.more(asked, codec.deliveries_of(lent))

    # ----------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        self._link.check()
        names = self._queues() if queues is None else list(queues)
        counts, shut, ages = self._calls.run("count", pack(names), queues=names, doing="counting")
        paused = {queue.decode() for queue in shut}
        tally: dict[str, dict[str, Any]] = {name: {} for name in queues or ()}
        for field, number in zip(counts[::2], counts[1::2], strict=True):
            queue, _, code = field.decode().rpartition(":")
            if queues is None or queue in tally:
                tally.setdefault(queue, {})[codec.STATES[code]] = int(number)
        for queue, age in zip(ages[::2], ages[1::2], strict=True):
            if queue.decode() in tally:
                tally[queue.decode()]["oldest_ready_age"] = max(0.0, age / codec.SECOND)
        return [QueueCounts(queue=name, paused=name in paused, **counts) for name, counts in sorted(tally.items())]

    def _queues(self) -> list[str]:
        """Return the queues that have any job."""
        fields = self._link.command("HKEYS", self._keys["counts"], doing="listing queues")
        return sorted({field.decode().rpartition(":")[0] for field in fields})

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records; see the contract."""
        found: list[Record | None] = []
        for chunk in parts(ids, CHUNK):
            found += codec.records_of(self._calls.run("records", pack(list(chunk)), doing="reading records"))
        return found

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        codes = "".join(codec.CODES[state] for state in query.states)
        text = query.search or query.tag or query.type or ""
        after = str(place_of(query))
        page: list[tuple[str, Record]] = []
        while True:
            wanted = pack([after, LOOK, codes, query.queue or "", text])
            found, reached = self._calls.run("browse", wanted, doing="listing records")
            ids = [id.decode() for id in found[::2]]
            for place, record in zip(found[1::2], self.get(ids), strict=True):
                if record is not None and _matches(record, query):
                    if len(page) == query.limit:
                        return Page(records=[record for _, record in page], next=page[-1][0])
                    page.append((place.decode(), record))
            after = reached.decode()
            if after == "-1":
                return Page(records=[record for _, record in page])

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel jobs; see the contract."""
        return self._change("cancel", ids, "cancelling")

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start jobs over; see the contract."""
        return self._change("retry", ids, "retrying")

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs; see the contract."""
        return self._change("delete", ids, "deleting")

    def _change(self, name: str, ids: Sequence[str], doing: str) -> list[State | None]:
        before: list[State | None] = []
        for chunk in parts(ids, CHUNK):
            codes, elsewhere = self._calls.run(name, pack(list(chunk)), doing=doing)
            before += codec.states_of(codes.decode())
            self._calls.ring(elsewhere)
        return before

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        self._link.check()
        ids = self._link.command("SMEMBERS", self._keys["cancels"], doing="looking for cancellations")
        return sorted(id.decode() for id in ids)

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._link.check()
        self._link.command("SADD", self._keys["paused"], queue, doing="pausing")

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""
        self._calls.run("resume", queue, queues=[queue], doing="resuming")

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        self._link.check()
        queues = self._link.command("SMEMBERS", self._keys["paused"], doing="looking for pauses")
        return sorted(queue.decode() for queue in queues)

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract. Each script looks at a part of all jobs, so that others get their turn."""
        count, after = 0, "0"
        while after != "-1":
            wanted = pack([queue, after, CHUNK])
            deleted, reached, elsewhere = self._calls.run("purge", wanted, queues=[queue], doing="purging")
            self._calls.ring(elsewhere)
            count, after = count + deleted, reached.decode()
        return count

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        stored: list[bool] = []
        for part in parts(reports, CHUNK):
            packed = [[r.delivery.message.id, r.delivery.receipt, _progress(r)] for r in part]
            marks = self._calls.run("report", pack(packed), doing="reporting progress")
            stored += [mark == "1" for mark in marks.decode()]
        return stored

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract."""
        self._link.check()
        queues = self._queues()
        if older_than is None:
            return int(self._calls.run("prune", pack([queues, limit]), doing="pruning"))
        count = 0
        for queue in queues:
            count += self._prune_older(queue, older_than, limit - count)
        return count

    def _prune_older(self, queue: str, age: float, limit: int) -> int:
        count, after = 0, ""
        while count < limit:
            wanted = pack([queue, after, LOOK, limit - count, micros(age)])
            forgotten, reached = self._calls.run("prune_older", wanted, doing="pruning")
            count, after = count + forgotten, reached.decode()
            if not after:
                break
        return count

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""
        self._calls.run("beat", worker.id, micros(ttl), msgspec.json.encode(worker), doing="giving a sign of life")

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        found = []
        for entry in self._calls.run("workers", doing="listing workers"):
            _until, seen, info = entry.split(b" ", 2)
            worker = msgspec.json.decode(info, type=WorkerInfo)
            found.append(msgspec.structs.replace(worker, seen_at=int(seen) / codec.SECOND))
        return found

    def server_time(self) -> float:
        """Return the wall clock that scripts go by; see the contract."""
        self._link.check()
        if self._calls.clock is not None:
            return self._calls.clock.time()
        seconds, microseconds = self._link.command("TIME", doing="asking for the time")
        return int(seconds) + int(microseconds) / codec.SECOND

    def diagnose(self) -> list[Finding]:
        """Say what the server's settings mean for the promises; see the contract."""
        self._link.check()
        return findings(self._server())

    def native(self) -> Any:
        """Return the client of redis-py; its pool is its own, not the driver's."""
        return self._source.client()


def _progress(report: Progress) -> str:
    return msgspec.json.encode((report.percent, report.step)).decode()


def _matches(record: Record, query: Query) -> bool:
    return (
        (not query.states or record.state in query.states)
        and (query.queue is None or record.queue == query.queue)
        and (query.type is None or record.type == query.type)
        and (query.tag is None or query.tag in record.tags)
        and (query.search is None or any(query.search in part for part in (record.id, record.type, record.body)))
    )
