"""The floor under queuekit: what a bare client, and what a bare driver, reach with the same work in the same batches.

    python scripts/bench/floor.py redis://127.0.0.1:16379/0 [--n 10000] [--batches 100,500] [--rounds 7]
    python scripts/bench/floor.py postgresql://bench@127.0.0.1:15433/bench
    python scripts/bench/floor.py amqp://guest:guest@127.0.0.1:15673/%2F

`bare`: the client library alone with a minimal script or statement that does what a leased queue must do and nothing else: store a job with its
record; settle the last batch under its tokens, keep what finished, and lend the next batch under new ones. Arguments are made beforehand where they
can be. `replayed`: the calls of single dispatches, recorded from the driver and made by the client library alone. `driver`: queuekit's driver, called in
a loop without worker, codec or handler. `queue`: `dispatch`, `dispatch_many` and a worker with ten threads, held to the same batches. Each is one process;
they take turns, and the best round of each counts. Percentages are of the first column. The server must be the benchmark's own: what is in it is dropped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from floor_rabbitmq import BareRabbitMQ
from jobs import BODY, Ids, batches

from queuekit import Job, Queue
from queuekit.contract import Done, FreshSend, Message, Migrate, Records
from queuekit.drivers import connect
from queuekit.ids import new_id


class Floor(Protocol):
    """A bare client on one backend."""

    def reset(self) -> None:
        """Begin empty."""
        ...

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Make the arguments of all calls, for `size` jobs each."""
        ...

    def store(self, calls: list[Any]) -> None:
        """Make the calls."""
        ...

    def drain(self, size: int) -> int:
        """Lend, settle and lend the next in batches until nothing is left; return how many were settled."""
        ...


# -------------------------------------------------------------------------------------------------------------- Redis

SEND = """
-- KEYS: ready (list), jobs (hash). ARGV: half of them ids, then their bodies
local ids, fields, half = {}, {}, #ARGV / 2
for i = 1, half do
    ids[i], fields[2 * i - 1], fields[2 * i] = ARGV[i], ARGV[i], ARGV[half + i]
end
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('RPUSH', KEYS[1], unpack(ids))
"""
EXCHANGE = """
-- KEYS: ready (list), jobs (hash), leases (sorted set), tokens (hash), finished (sorted set), sequence
-- ARGV: how many, the lease's end, now, then ids, then their tokens
local half = (#ARGV - 3) / 2
if half > 0 then
    local ids, ended = {unpack(ARGV, 4, 3 + half)}, {}
    local tokens = redis.call('HMGET', KEYS[4], unpack(ids))
    for i, id in ipairs(ids) do
        if tokens[i] == ARGV[3 + half + i] then
            ended[2 * i - 1], ended[2 * i] = ARGV[3], id
        end
    end
    redis.call('HDEL', KEYS[4], unpack(ids))
    redis.call('ZREM', KEYS[3], unpack(ids))
    redis.call('ZADD', KEYS[5], unpack(ended))
end
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then return {} end
local last = redis.call('INCRBY', KEYS[6], #ids)
local bodies = redis.call('HMGET', KEYS[2], unpack(ids))
local leases, tokens, numbers = {}, {}, {}
for i, id in ipairs(ids) do
    local token = string.format('%d', last - #ids + i)
    leases[2 * i - 1], leases[2 * i] = ARGV[2], id
    tokens[2 * i - 1], tokens[2 * i] = id, token
    numbers[i] = token
end
redis.call('ZADD', KEYS[3], unpack(leases))
redis.call('HSET', KEYS[4], unpack(tokens))
return {ids, numbers, bodies}
"""


class BareRedis:
    """redis-py with hiredis and two scripts."""

    def __init__(self, address: str) -> None:
        import redis  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - only where Redis is measured

        self._redis: Any = redis.Redis.from_url(address)
        self._send = self._redis.register_script(SEND)
        self._exchange = self._redis.register_script(EXCHANGE)

    def reset(self) -> None:
        """Empty the server."""
        self._redis.flushall()

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Return ids, then bodies."""
        return [[*part, *(BODY % id for id in part)] for part in batches(ids, size)]

    def store(self, calls: list[Any]) -> None:
        """Call the script."""
        for arguments in calls:
            self._send(keys=["{b}ready", "{b}jobs"], args=arguments)

    def drain(self, size: int) -> int:
        """Settle and lend in one call."""
        keys = [f"{{b}}{name}" for name in ("ready", "jobs", "leases", "tokens", "finished", "sequence")]
        settled = 0
        held: list[Any] = []
        while True:
            lent = self._exchange(keys=keys, args=[size, 2_000_000_000, 1_700_000_000, *held])
            settled += len(held) // 2
            if not lent:
                return settled
            held = [*lent[0], *lent[1]]


class Replayed:
    """The very calls that queuekit makes to dispatch one job, made by redis-py alone with arguments prepared beforehand."""

    def __init__(self, address: str) -> None:
        import redis  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - only where Redis is measured

        self._redis: Any = redis.Redis.from_url(address)
        self._driver = BareDriver(address)

    def reset(self) -> None:
        """Empty the server; the driver's script stays loaded."""
        self._redis.flushall()

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Record what the driver sends for one job, and put the other ids into copies of it."""
        assert size == 1, "only single dispatches are replayed"
        sample = new_id()
        [call] = [call for call in self._recorded(sample) if call[0] == "EVALSHA"]
        return [[_with(word, sample.encode(), id.encode()) for word in call] for id in ids]

    def _recorded(self, id: str) -> list[Any]:
        from queuekit_redis import link as module  # noqa: PLC0415 - only where Redis is measured

        link: Any = module
        seen: list[Any] = []
        original = link.pack_command

        def pack_command(words: Any) -> Any:
            seen.append(words)
            return original(words)

        self._driver.store(self._driver.prepare([new_id()], 1))  # loads the script
        link.pack_command = pack_command
        try:
            self._driver.store(self._driver.prepare([id], 1))
        finally:
            link.pack_command = original
        return seen

    def store(self, calls: list[Any]) -> None:
        """Send each and wait for its answer."""
        for words in calls:
            self._redis.execute_command(*words)

    def drain(self, size: int) -> int:
        """Leave it to the driver."""
        return self._driver.drain(size)


def _with(word: Any, old: bytes, new: bytes) -> Any:
    return word.replace(old, new) if isinstance(word, bytes) else word


# ----------------------------------------------------------------------------------------------------------- Postgres

TABLES = """
DROP TABLE IF EXISTS floor_jobs, floor_done;
CREATE TABLE floor_jobs (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL UNIQUE, queue text NOT NULL, body text NOT NULL,
    token bigint, lease_end timestamptz
) WITH (fillfactor = 70);
CREATE INDEX floor_ready ON floor_jobs (queue, seq) WHERE token IS NULL;
CREATE TABLE floor_done (id uuid NOT NULL, queue text NOT NULL, body text NOT NULL, at timestamptz NOT NULL);
DROP SEQUENCE IF EXISTS floor_token;
CREATE SEQUENCE floor_token;
"""
INSERT = "INSERT INTO floor_jobs (id, queue, body) SELECT id, 'q', body FROM unnest(%s::uuid[], %s::text[]) AS new (id, body)"
CLAIM = """
WITH next AS MATERIALIZED (
    SELECT seq FROM floor_jobs WHERE queue = 'q' AND token IS NULL ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE floor_jobs SET token = nextval('floor_token'), lease_end = clock_timestamp() + interval '30 s'
FROM next WHERE floor_jobs.seq = next.seq RETURNING floor_jobs.seq, token, id, body
"""
SETTLE = """
WITH ended AS (
    DELETE FROM floor_jobs USING unnest(%s::bigint[], %s::bigint[]) AS mine (seq, token)
    WHERE floor_jobs.seq = mine.seq AND floor_jobs.token = mine.token RETURNING id, queue, body
)
INSERT INTO floor_done SELECT id, queue, body, clock_timestamp() FROM ended
"""


class BarePostgres:
    """psycopg with three prepared statements; settling and lending travel in one pipeline."""

    def __init__(self, address: str) -> None:
        import psycopg  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - only where Postgres is measured

        self._connection: Any = psycopg.connect(address, autocommit=True, prepare_threshold=0)

    def reset(self) -> None:
        """Make the tables anew."""
        self._connection.execute(TABLES, prepare=False)

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Return an array of ids and one of bodies."""
        return [(list(part), [BODY % id for id in part]) for part in batches(ids, size)]

    def store(self, calls: list[Any]) -> None:
        """Insert, one commit a call."""
        for arguments in calls:
            self._connection.execute(INSERT, arguments)

    def drain(self, size: int) -> int:
        """Settle and lend in one pipeline, one transaction."""
        settled, lent = 0, self._connection.execute(CLAIM, [size]).fetchall()
        while lent:
            arguments = ([row[0] for row in lent], [row[1] for row in lent])
            settled += len(lent)
            with self._connection.pipeline(), self._connection.transaction():
                self._connection.execute(SETTLE, arguments)
                cursor = self._connection.execute(CLAIM, [size])
            lent = cursor.fetchall()
        return settled


class ReplayedStatement:
    """The statement with which queuekit dispatches one job, executed by psycopg alone with arguments prepared beforehand."""

    def __init__(self, address: str) -> None:
        import psycopg  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - only where Postgres is measured

        self._psycopg: Any = psycopg
        self._connection: Any = psycopg.connect(address, autocommit=True, prepare_threshold=0)
        self._driver = BareDriver(address)

    def reset(self) -> None:
        """Forget what is left of the last round."""
        self._driver.reset()

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Record the driver's statement for one job, and put the other ids into copies of its parameters."""
        assert size == 1, "only single dispatches are replayed"
        sample = new_id()
        [(query, parameters)] = self._recorded(sample)
        if "unknown_until" in parameters:
            parameters = {**parameters, "unknown_until": time.time() + 3600}  # as in a request that is on time
        return [(query, {name: _put(value, sample, id) for name, value in parameters.items()}) for id in ids]

    def _recorded(self, id: str) -> list[Any]:
        seen: list[Any] = []
        cursor = self._psycopg.Cursor
        original = cursor.execute

        def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
            seen.append((query, params))
            return original(self, query, params, **options)

        cursor.execute = execute
        try:
            self._driver.store(self._driver.prepare([id], 1))
        finally:
            cursor.execute = original
        return seen

    def store(self, calls: list[Any]) -> None:
        """Execute each in a transaction of its own."""
        for query, parameters in calls:
            self._connection.execute(query, parameters, binary=True)

    def drain(self, size: int) -> int:
        """Leave it to the driver."""
        return self._driver.drain(size)


def _put(value: Any, old: str, new: str) -> Any:
    if isinstance(value, bytes):
        return value.replace(old.encode(), new.encode())
    return value.replace(old, new) if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------------- queuekit's own driver


class BareDriver:
    """queuekit's driver without the core above it."""

    def __init__(self, address: str) -> None:
        self._driver: Any = connect(address, namespace="floor", clock=None)
        if isinstance(self._driver, Migrate):
            self._driver.migrate()
        self._driver.open()
        self._driver.prepare(["q"])
        self._waiting = 0

    def reset(self) -> None:
        """Forget what is left of the last round; a transport keeps nothing."""
        while isinstance(self._driver, Records) and self._driver.prune(older_than=0):
            pass

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Return messages."""
        return list(batches([Message(id, "q", "noop", BODY % id) for id in ids], size))

    def store(self, calls: list[Any]) -> None:
        """Send."""
        for messages in calls:
            if len(messages) == 1 and isinstance(self._driver, FreshSend):
                self._driver.send_fresh(messages[0])
            else:
                self._driver.send(messages)
            self._waiting += len(messages)

    def drain(self, size: int) -> int:
        """Exchange outcomes for deliveries; a broker that pushes may have to be waited for."""
        settled = 0
        while settled < self._waiting:
            deliveries = self._driver.claim(["q"], limit=size, lease=30.0, wait=1.0)
            while deliveries:
                settled += len(deliveries)
                outcomes = [Done(delivery) for delivery in deliveries]
                _, deliveries = self._driver.exchange(outcomes, ["q"], limit=size, lease=30.0, free=0)
        self._waiting -= settled
        return settled


class WholeQueue:
    """queuekit as an application uses it: dispatch, and a worker with ten threads in this very process."""

    def __init__(self, address: str) -> None:
        self._queue = Queue(address, namespace="floor")
        self._queue.register("noop", noop)
        self._queue.open()
        self._whole = self._queue.driver.limits
        self._waiting = 0

    def reset(self) -> None:
        """Forget what is left of the last round; a transport keeps nothing."""
        if self._queue.supports("records"):
            self._queue.prune(older_than=0)

    def prepare(self, ids: Ids, size: int) -> list[Any]:
        """Return jobs."""
        jobs = [Job("noop", {"j": {"i": 1, "user": 123456, "path": "/a/b/c", "tags": ["x", "y"]}}) for _ in ids]
        return list(batches(jobs, size))

    def store(self, calls: list[Any]) -> None:
        """Dispatch."""
        for jobs in calls:
            if len(jobs) == 1:
                self._queue.dispatch(jobs[0])
            else:
                self._queue.dispatch_many(jobs)
            self._waiting += len(jobs)

    def drain(self, size: int) -> int:
        """Run and settle them all, never more than `size` in a call."""
        driver: Any = self._queue.driver
        driver.limits = msgspec.structs.replace(self._whole, batch=size)
        worker = self._queue.worker(concurrency=10).start()
        while worker.done < self._waiting:
            time.sleep(0.0005)
        worker.stop(10)
        driver.limits = self._whole
        self._waiting = 0
        return worker.done


def noop(j: Any) -> None:
    """Do nothing."""
    del j


REPLAYED: dict[str, Callable[[str], Floor]] = {
    "redis": Replayed,
    "rediss": Replayed,
    "postgres": ReplayedStatement,
    "postgresql": ReplayedStatement,
}
BARE: dict[str, Callable[[str], Floor]] = {
    "redis": BareRedis,
    "rediss": BareRedis,
    "postgres": BarePostgres,
    "postgresql": BarePostgres,
    "amqp": BareRabbitMQ,
}


def settle_all(floor: Floor, size: int) -> float:
    """Return jobs lent and settled per second."""
    begin = time.perf_counter()
    settled = floor.drain(size)
    return settled / (time.perf_counter() - begin)


def store(floor: Floor, count: int, size: int) -> float:
    """Return jobs stored per second."""
    calls = floor.prepare([new_id() for _ in range(count)], size)
    begin = time.perf_counter()
    floor.store(calls)
    return count / (time.perf_counter() - begin)


Figures = dict[str, dict[str, float]]
"""Jobs per second by kind of work and who did it: the best round of each, for what else runs on a machine only ever slows."""


def note(figures: Figures, kind: str, name: str, rate: float) -> None:
    """Keep the better of two rounds."""
    rates = figures.setdefault(kind, {})
    rates[name] = max(rate, rates.get(name, 0.0))


def single(floors: dict[str, Floor], count: int, figures: Figures) -> None:
    """Measure single dispatches, taking turns."""
    for name, floor in floors.items():
        floor.reset()
        note(figures, "store one by one", name, store(floor, count, 1))
        floor.drain(100)


def in_batches(floors: dict[str, Floor], count: int, size: int, figures: Figures) -> None:
    """Measure batches, taking turns."""
    for name, floor in floors.items():
        floor.reset()
        note(figures, f"store by {size}", name, store(floor, count, size))
        note(figures, f"lend and settle by {size}", name, settle_all(floor, size))


def main() -> None:
    """Print the best rounds and what each reaches of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--batches", default="100,500")
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    scheme = wanted.address.partition(":")[0]
    floors: dict[str, Floor] = {name: make(wanted.address) for name, make in makers(scheme).items()}
    batched = {name: floor for name, floor in floors.items() if name != "replayed"}
    figures: Figures = {}
    for _ in range(wanted.rounds):
        single(floors, wanted.n // 10, figures)
        for size in map(int, wanted.batches.split(",")):
            in_batches(batched, wanted.n, size, figures)
    print(table(list(floors), figures))


def makers(scheme: str) -> dict[str, Callable[[str], Floor]]:
    """Return who is measured on a backend."""
    known = {"bare": BARE.get(scheme), "replayed": REPLAYED.get(scheme), "driver": BareDriver, "queue": WholeQueue}
    return {name: make for name, make in known.items() if make is not None}


def table(names: list[str], figures: Figures) -> str:
    """Return jobs per second, and percentages of the first column."""
    lines = ["| jobs/s | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for kind, rates in figures.items():
        base = rates[names[0]]
        cells = [f"{rates[name]:,.0f} ({rates[name] / base:.0%})" if name in rates else "–" for name in names]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
