"""The Redis driver's verbs: each one script, which the server runs as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from queuekit.contract import (
    AmbiguousSend,
    Clock,
    Delivery,
    DriverError,
    DriverRejected,
    Extension,
    Finding,
    Limits,
    Message,
    Outcome,
    Page,
    PartialSend,
    Patience,
    Progress,
    Query,
    QueueCounts,
    Receipt,
    Record,
    Released,
    Settlement,
    State,
    SystemClock,
    Url,
    Wakeup,
    WorkerInfo,
)
from queuekit_redis import codec
from queuekit_redis.address import OPTIONS, Settings, settings_of, source_of_client, source_of_url
from queuekit_redis.bell import Bell
from queuekit_redis.codec import micros, pack
from queuekit_redis.doctor import Server, findings
from queuekit_redis.keys import Keys
from queuekit_redis.link import Link
from queuekit_redis.scripts import script

_log = logging.getLogger("queuekit.redis")
CHUNK = 250
"""Jobs in one script: about a millisecond of the server's time, in which it answers nobody else."""
HEAVY = 5
"""What a job with a key, a limit, a scope or a result costs more than a plain one, whose work is shared by the whole script."""
CHUNK_BYTES = 4 << 20
"""Characters of bodies in one script."""
BATCH = 5000
"""Jobs in one call: several scripts, one round trip."""
LOOK = 1000
"""Records that one script of an administrative verb looks at."""
ANSWERS: dict[str, Settlement] = {"a": "applied", "s": "already_settled", "l": "lost"}


class RedisDriver:
    """Jobs in a Redis or Valkey server, for any number of processes and machines.

    Give an address (`redis://user:password@host:6379/0`, `rediss://` for TLS, `?cluster=true`, `?sentinel=name`) or a `client` of
    redis-py that the application made. What "accepted" means is the server's setting: with `appendonly yes` and `appendfsync
    everysec` a crash of the server's machine loses the last second at most, a crash of its process nothing; `diagnose` says what
    holds. Leases and due times are judged by the server's clock. `settings` stand in an address as options
    (`?socket_timeout=2`).
    """

    def __init__(
        self,
        address: str | Url = "redis://localhost:6379/0",
        *,
        client: Any = None,
        namespace: str = "queuekit",
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.namespace = namespace
        url = Url.parse(address) if isinstance(address, str) else address
        url.refuse_unknown(OPTIONS)
        self._settings = settings or settings_of(url)
        self.limits = Limits(
            name="redis", batch=BATCH, body_bytes=16 << 20, resolution=0.01, connections=self._settings.pool_size
        )
        source = (
            source_of_url(url, namespace, self._settings) if client is None else source_of_client(client, namespace)
        )
        self._source = source
        self._virtual = clock
        self._clock: Clock = clock or SystemClock()
        self._keys = Keys(namespace)
        self._declared: dict[str, tuple[str, ...]] = {}
        self._link = Link(source, self._settings)
        self._bell = Bell(self._link, self._keys, self._clock)
        self._opened = False

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> RedisDriver:
        """Build the driver for `redis://`, `rediss://`, `valkey://` or `valkeys://`."""
        return cls(url, namespace=namespace, clock=clock)

    # --------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect, and check the server's version; settings that weaken a promise are logged once."""
        self._check()
        if self._opened:
            return
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
        self._bell.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Check that the server answers; queues come into being with their first message."""
        del queues
        self._check()
        self._link.command("PING", doing="asking for a sign of life")

    def _check(self) -> None:
        """Refuse use after `close`; in a forked child begin with connections of its own."""
        if self._link.forked():
            self._bell = Bell(self._link, self._keys, self._clock)
        self._link.check()

    def _server(self) -> Server:
        return Server.ask(lambda *parts: self._link.command(*parts, doing="reading the server's settings"))

    # --------------------------------------------------------------------------------------------- calling a script

    def _run(self, name: str, *arguments: Any, queues: Iterable[str] = (), doing: str) -> Any:
        self._check()
        return self._link.run(name, self._keys_of(name, queues), self._now(), *arguments, doing=doing)

    def _keys_of(self, name: str, queues: Iterable[str]) -> Sequence[str]:
        declared = self._declared.get(name)
        if declared is None:
            declared = self._declared[name] = tuple(self._keys[key] for key in script(name).keys)
        if script(name).lists:
            return (*declared, *(key for queue in queues for key in self._keys.of_queue(queue)))
        return (*declared, *map(self._keys.bell, queues))

    def _now(self) -> str:
        """Return the clock that scripts go by: none for the server's own."""
        clock = self._virtual
        return "" if clock is None else f"{round(clock.monotonic() * 1e6)} {round(clock.time() * 1e6)}"

    def _ring(self, elsewhere: Sequence[bytes]) -> None:
        """Wake a claim of each queue that a script could not know beforehand.

        What was asked for is done by then, so trouble here is none of the caller's: whoever was not woken looks by itself within
        the poll interval.
        """
        queues = [queue.decode() for queue in elsewhere]
        if queues:
            try:
                self._run("ring", queues=queues, doing="waking workers of other queues")
            except DriverError as error:
                _log.info("%s", error)

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract. Each script stores up to 250, all of them or none."""
        if all(map(_is_plain_now, messages)):
            self._send("send_plain", _slices(messages), _runs, (), patience)
        else:
            self._send("send", _chunks(messages), _items, (), patience)

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""
        return _receipts(messages, self._send("send_unique", _chunks(messages), _messages, (), patience))

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store messages that a transport carries; see the contract."""
        answers = self._send("admit", _chunks(messages), _messages, (micros(publish_within),), patience)
        return _receipts(messages, answers)

    def _send(
        self,
        name: str,
        portions: Iterable[Sequence[Message]],
        packed: Callable[[Sequence[Message]], list[Any]],
        more: tuple[Any, ...],
        patience: Patience | None,
    ) -> list[Any]:
        """Run a script for each portion, all on their way before the first answer is read."""
        self._check()
        chunks = list(portions)
        if not chunks:
            return []
        now = self._now()
        queues = [{message.queue for message in chunk} for chunk in chunks]
        if len(chunks) == 1:
            arguments = (now, pack(packed(chunks[0])), *more)
            keys = self._keys_of(name, queues[0])
            answers, errors = self._link.send_once(name, keys, *arguments, patience=patience, doing="sending")
            return self._sent(chunks, answers, errors)

        def calls() -> Iterator[tuple[Sequence[str], tuple[Any, ...]]]:
            for chunk, mine in zip(chunks, queues, strict=True):
                yield self._keys_of(name, mine), (now, pack(packed(chunk)), *more)

        answers, errors = self._link.send(name, calls, patience=patience, doing="sending")
        return self._sent(chunks, answers, errors)

    def _sent(
        self, chunks: Sequence[Sequence[Message]], answers: list[Any], errors: Sequence[DriverError | None]
    ) -> list[Any]:
        """Raise what is known of a batch that failed, or wake whoever waits for it."""
        _judge(chunks, errors)
        self._ring([queue for answer in answers if answer for queue in answer[1]])
        return answers

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
        asked = Asked(tuple(queues), limit, lease, limit if free is None else free, recover)
        seen = self._look(asked)
        if seen.found or wait <= 0:
            return seen.found
        flag = wakeup or Wakeup()
        with self._bell.attended(flag):
            return self._wait_for(asked, flag, seen, self._clock.monotonic() + wait)

    def _wait_for(self, asked: Asked, flag: Wakeup, seen: Seen, end: float) -> list[Delivery]:
        """Wait on the bells, and look again when time may have made something due or the poll interval has passed."""
        while (left := end - self._clock.monotonic()) > 0:
            pause = min(left, self._settings.poll_interval, seen.change if seen.change >= 0 else left)
            heard = self._hear(asked, flag, pause, seen)
            if heard or (heard is not None and flag.is_set()):
                return heard
            seen = self._look(asked)
            if seen.found or flag.is_set():
                return seen.found
        return []

    def _hear(self, asked: Asked, flag: Wakeup, pause: float, seen: Seen) -> list[Delivery] | None:
        """Wait on the bells; return what the server lent at the end of the wait, None where it is to be asked.

        No more than will start at once, and nothing taken back from others: should this process be frozen or cut off meanwhile,
        nobody knows that it is.
        """
        then = None
        if self._virtual is None:  # a clock that a test moves stood elsewhere when the claim left
            wanted = pack([asked.queues, max(1, min(asked.limit, asked.free, CHUNK)), micros(asked.lease)])
            then = ("lend_fresh", self._keys_of("lend_fresh", asked.queues), "", wanted)
        reply = self._bell.wait(asked.queues, flag, pause, then=then)
        self._check()
        if reply is None:
            return None
        found = codec.deliveries_of(reply)
        if found and seen.age_of(reply, self._clock) > asked.lease / 2:
            self._give_back(found)
            return []
        return found

    def _give_back(self, found: Sequence[Delivery]) -> None:
        """Refuse what was lent while this process could not hear of it: its leases may be over, and others run it."""
        _log.warning("%d jobs were lent while this process stood still; they are given back", len(found))
        try:
            self.settle([Released(delivery) for delivery in found])
        except DriverError as error:
            _log.info("they are lent again when their leases run out: %s", error)

    def _look(self, asked: Asked) -> Seen:
        """Lend what is due now."""
        begin = self._clock.monotonic()
        reply = self._run("claim", asked.packed(0), queues=asked.queues, doing="claiming")
        found = self._more(asked, codec.deliveries_of(reply))
        return Seen(found, reply[4] / codec.SECOND, begin - int(reply[5]) / codec.SECOND)

    def _more(self, asked: Asked, found: list[Delivery]) -> list[Delivery]:
        """Lend on while each script finds as many as it may."""
        while len(found) < asked.limit and found and len(found) % CHUNK == 0:
            try:
                reply = self._run("claim", asked.packed(len(found)), queues=asked.queues, doing="claiming")
            except DriverError as error:
                _log.info("a further part of a claim failed (%s); the first is lent", error)
                return found
            part = codec.deliveries_of(reply)
            found += part
            if not part:
                break
        return found

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        lent: list[Delivery | State | None] = []
        places = len(ids) if free is None else free
        for chunk in _parts(ids, CHUNK):
            wanted = pack([micros(lease), places, recover])
            codes, *reply = self._run("lend", pack(list(chunk)), wanted, doing="lending by id")
            deliveries = codec.deliveries_of(reply)
            places -= sum(delivery.recovered for delivery in deliveries)
            following = iter(deliveries)
            lent += [next(following) if code == "!" else codec.STATES.get(code) for code in codes.decode()]
        return lent

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        bounds = [micros(publish_within - age) for age in ages]
        for chunk, by in zip(_parts(ids, CHUNK), _parts(bounds, CHUNK), strict=True):
            arguments = pack(list(chunk)), micros(again_after), pack(list(by))
            self._run("published", *arguments, doing="noting what was published")

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract. A call names 250 at most."""
        self._check()
        queues = self._queues()
        wanted = pack([queues, limit, micros(again_after), recover])
        values = self._run("outbox", wanted, queues=queues, doing="reading the outbox")
        return [codec.message_of(value)[0] for value in values]

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        return [answer for part in _parts(deliveries, CHUNK) for answer in self._extend(part, lease)]

    def _extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Extension]:
        groups: dict[str, list[int]] = {}
        for number, delivery in enumerate(deliveries):
            groups.setdefault(delivery.receipt, []).append(number)
        packed = [[state, [deliveries[number].message.id for number in numbers]] for state, numbers in groups.items()]
        marks, shut = self._run("extend", micros(lease), pack(packed), doing="extending leases")
        paused = {queue.decode() for queue in shut}
        answers = [Extension(held=False)] * len(deliveries)
        for numbers, group in zip(groups.values(), marks, strict=True):
            for number, mark in zip(numbers, group.decode(), strict=True):
                if mark != "0":
                    queue = deliveries[number].message.queue
                    answers[number] = Extension(held=True, cancel=mark == "2", paused=queue in paused)
        return answers

    # ----------------------------------------------------------------------------------------------------- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract. Each outcome and its follow-ups are in one script."""
        answers: list[Settlement] = []
        for part in _portions(outcomes):
            packed = Packed(part)
            marks, elsewhere = self._run("settle", *packed.arguments, queues=packed.queues, doing="settling")
            answers += packed.answers(marks)
            self._ring(elsewhere)
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
        """Settle and claim in one script; see the contract."""
        *before, last = [*_portions(outcomes)] or [()]
        answers = [answer for part in before for answer in self.settle(part)]
        packed = Packed(last)
        asked = Asked(tuple(queues), limit, lease, limit if free is None else free, recover)
        arguments = (*packed.arguments, asked.packed(0))
        marks, elsewhere, lent = self._run(
            "exchange", *arguments, queues=packed.queues.union(queues), doing="settling and claiming"
        )
        answers += packed.answers(marks)
        self._ring(elsewhere)
        return answers, self._more(asked, codec.deliveries_of(lent))

    # ----------------------------------------------------------------------------------------------------- features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        self._check()
        names = self._queues() if queues is None else list(queues)
        counts, shut, ages = self._run("count", pack(names), queues=names, doing="counting")
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
        for chunk in _parts(ids, CHUNK):
            found += codec.records_of(self._run("records", pack(list(chunk)), doing="reading records"))
        return found

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        codes = "".join(codec.CODES[state] for state in query.states)
        text = query.search or query.tag or query.type or ""
        after = query.after or "0"
        page: list[tuple[str, Record]] = []
        while True:
            wanted = pack([after, LOOK, codes, query.queue or "", text])
            found, reached = self._run("browse", wanted, doing="listing records")
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
        for chunk in _parts(ids, CHUNK):
            codes, elsewhere = self._run(name, pack(list(chunk)), doing=doing)
            before += codec.states_of(codes.decode())
            self._ring(elsewhere)
        return before

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        self._check()
        ids = self._link.command("SMEMBERS", self._keys["cancels"], doing="looking for cancellations")
        return sorted(id.decode() for id in ids)

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._check()
        self._link.command("SADD", self._keys["paused"], queue, doing="pausing")

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""
        self._run("resume", queue, queues=[queue], doing="resuming")

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        self._check()
        queues = self._link.command("SMEMBERS", self._keys["paused"], doing="looking for pauses")
        return sorted(queue.decode() for queue in queues)

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract. Each script looks at a part of all jobs, so that others get their turn."""
        count, after = 0, "0"
        while after != "-1":
            wanted = pack([queue, after, CHUNK])
            deleted, reached, elsewhere = self._run("purge", wanted, queues=[queue], doing="purging")
            self._ring(elsewhere)
            count, after = count + deleted, reached.decode()
        return count

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        stored: list[bool] = []
        for part in _parts(reports, CHUNK):
            packed = [[r.delivery.message.id, r.delivery.receipt, _progress(r)] for r in part]
            marks = self._run("report", pack(packed), doing="reporting progress")
            stored += [mark == "1" for mark in marks.decode()]
        return stored

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract."""
        self._check()
        queues = self._queues()
        if older_than is None:
            return int(self._run("prune", pack([queues, limit]), doing="pruning"))
        count = 0
        for queue in queues:
            count += self._prune_older(queue, older_than, limit - count)
        return count

    def _prune_older(self, queue: str, age: float, limit: int) -> int:
        count, after = 0, ""
        while count < limit:
            wanted = pack([queue, after, LOOK, limit - count, micros(age)])
            forgotten, reached = self._run("prune_older", wanted, doing="pruning")
            count, after = count + forgotten, reached.decode()
            if not after:
                break
        return count

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""
        self._run("beat", worker.id, micros(ttl), msgspec.json.encode(worker), doing="giving a sign of life")

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        found = []
        for entry in self._run("workers", doing="listing workers"):
            _until, seen, info = entry.split(b" ", 2)
            worker = msgspec.json.decode(info, type=WorkerInfo)
            found.append(msgspec.structs.replace(worker, seen_at=int(seen) / codec.SECOND))
        return found

    def server_time(self) -> float:
        """Return the wall clock that scripts go by; see the contract."""
        self._check()
        if self._virtual is not None:
            return self._virtual.time()
        seconds, microseconds = self._link.command("TIME", doing="asking for the time")
        return int(seconds) + int(microseconds) / codec.SECOND

    def diagnose(self) -> list[Finding]:
        """Say what the server's settings mean for the promises; see the contract."""
        self._check()
        return findings(self._server())

    def native(self) -> Any:
        """Return the client of redis-py; its pool is its own, not the driver's."""
        return self._source.client()


class Asked(msgspec.Struct, frozen=True):
    """What a claim asks for."""

    queues: tuple[str, ...]
    limit: int
    lease: float
    free: int
    recover: bool

    def packed(self, lent: int) -> bytes:
        """Return what one script is asked for, when so many are lent already."""
        most = min(self.limit - lent, CHUNK)
        return pack([self.queues, most, max(0, min(self.free - lent, most)), micros(self.lease), self.recover])


class Seen(msgspec.Struct, frozen=True):
    """What a claim found."""

    found: list[Delivery]
    change: float
    """Seconds until time may make something due; below 0 when nothing waits for time."""
    apart: float
    """How far this process's monotonic clock is ahead of the server's, at least."""

    def age_of(self, reply: Sequence[Any], clock: Clock) -> float:
        """Return how many seconds ago the server made a later reply, at most."""
        return clock.monotonic() - (int(reply[5]) / codec.SECOND + self.apart)


class Packed:
    """Outcomes as the scripts take them: plain successes by queue and state, all others one by one."""

    __slots__ = ("arguments", "count", "places", "queues")

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        groups: dict[tuple[str, str, bool], tuple[list[str], list[int]]] = {}
        others: list[int] = []
        seen: set[str] = set()
        self.queues: set[str] = set()
        for number, outcome in enumerate(outcomes):
            delivery = outcome.delivery
            message = delivery.message
            self.queues.add(message.queue)
            if message.id not in seen and codec.is_plain_success(outcome):
                ids, numbers = groups.setdefault((message.queue, delivery.receipt, message.retain == 0), ([], []))
                ids.append(message.id)
                numbers.append(number)
            else:
                others.append(number)
                self.queues.update(follow_up.queue for follow_up in outcome.follow_ups)
            seen.add(message.id)
        self.count = len(outcomes)
        self.places = [*(numbers for _, numbers in groups.values()), others]
        plain = [[*group, ids] for group, (ids, _) in groups.items()]
        self.arguments = (pack(plain), pack([codec.packed_outcome(outcomes[number]) for number in others]))

    def answers(self, marks: Sequence[bytes]) -> list[Settlement]:
        """Return the scripts' answers in the outcomes' order."""
        if len(marks) == 2 and not self.places[-1] and marks[0] == b"a" * self.count:
            return ["applied"] * self.count
        answers: list[Settlement] = ["lost"] * self.count
        for numbers, group in zip(self.places, marks, strict=True):
            for number, mark in zip(numbers, group.decode(), strict=True):
                answers[number] = ANSWERS[mark]
        return answers


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _chunks(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Cut a batch so that each script takes about a millisecond."""
    chunk: list[Message] = []
    cost = size = 0
    for message in messages:
        weight = 1 if codec.is_plain(message) else HEAVY
        if chunk and (cost + weight > CHUNK or size + len(message.body) > CHUNK_BYTES):
            yield chunk
            chunk, cost, size = [], 0, 0
        chunk.append(message)
        cost += weight
        size += len(message.body)
    if chunk:
        yield chunk


def _portions(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Cut a batch of outcomes in the same way."""
    start = cost = 0
    for number, outcome in enumerate(outcomes):
        weight = HEAVY * (1 + len(outcome.follow_ups)) if outcome.follow_ups or not codec.is_bare(outcome) else 1
        if cost + weight > CHUNK and number > start:
            yield outcomes[start:number]
            start, cost = number, 0
        cost += weight
    if start < len(outcomes):
        yield outcomes[start:]


def _is_plain_now(message: Message) -> bool:
    return message.delay <= 0 and message.at is None and codec.is_plain(message)


def _slices(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Cut a batch of plain messages."""
    if sum(len(message.body) for message in messages) > CHUNK_BYTES:
        yield from _chunks(messages)
    else:
        yield from _parts(messages, CHUNK)


def _runs(messages: Sequence[Message]) -> list[list[Any]]:
    """Return what `send_plain.lua` takes: plain messages by runs of one queue and priority, each id once."""
    runs: list[list[Any]] = []
    queue, priority = "", -1
    ids: list[str] = []
    records: list[str] = []
    known: set[str] = set()
    for message in messages:
        if message.priority != priority or message.queue != queue:
            queue, priority, ids, records = message.queue, message.priority, [], []
            runs.append([queue, str(9 - priority), ids, records])
        if message.id not in known:
            known.add(message.id)
            ids.append(message.id)
            records.append(codec.plain_record(message))
    return runs


def _items(messages: Sequence[Message]) -> list[Any]:
    """Return what `send.lua` takes: runs of plain messages, and others one by one."""
    items: list[Any] = []
    plain: list[Message] = []
    for message in messages:
        if _is_plain_now(message):
            plain.append(message)
            continue
        items += [[0, *run] for run in _runs(plain)]
        plain = []
        items.append([1, *codec.packed_message(message)])
    return [*items, *([0, *run] for run in _runs(plain))]


def _messages(messages: Sequence[Message]) -> list[Any]:
    return [codec.packed_message(message) for message in messages]


def _receipts(messages: Sequence[Message], answers: Sequence[Any]) -> list[Receipt]:
    pairs = [item.decode() for answer in answers for item in answer[0]]
    assert len(pairs) == 2 * len(messages)
    return [
        Receipt(id, created=what == "c", replaced=what == "r") for id, what in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _judge(chunks: Sequence[Sequence[Message]], errors: Sequence[DriverError | None]) -> None:
    """Raise what is known of a batch of which a part failed."""
    if not any(errors):
        return
    accepted: list[str] = []
    failed: dict[str, Exception] = {}
    unknown: dict[str, Exception] = {}
    for chunk, error in zip(chunks, errors, strict=True):
        ids = [message.id for message in chunk]
        if error is None:
            accepted += ids
        elif isinstance(error, AmbiguousSend):
            unknown |= dict.fromkeys(ids, error)
        else:
            failed |= dict.fromkeys(ids, error)
    if not accepted and not (failed and unknown):
        raise next(error for error in errors if error is not None)
    text = f"{len(accepted)} messages stored, {len(failed)} not, {len(unknown)} unknown"
    raise PartialSend(text, accepted=accepted, failed=failed, unknown=unknown)


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
