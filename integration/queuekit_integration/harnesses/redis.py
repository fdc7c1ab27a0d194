"""The harness of the Redis driver, on a server of the run's own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import redis

from queuekit.contract import BackendFull, Driver, DriverError, DriverRejected, DriverUnavailable
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit_integration.harness import wait_until
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.servers import Kind, Redis

__all__ = ["RedisHarness"]

KEYS = frozenset(
    [
        "jobs",
        "states",
        "order",
        "ready",
        "recovered",
        "due",
        "leases",
        "lines",
        "turns",
        "gates",
        "waiting",
        "grants",
        "rates",
        "spread",
        "uniques",
        "cancels",
        "paused",
        "finished",
        "errors",
        "results",
        "progress",
        "workers",
        "counts",
        "meta",
    ]
)
"""All keys of a namespace, besides the bells."""


def _logs(client: Any) -> bool:
    """Whether every write goes to the append-only file: after it was off, only once it has been written anew."""
    info = client.info("persistence")
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


@dataclass
class RedisHarness(ServedHarness):
    """The Redis driver."""

    silence: ClassVar[float] = 1.5
    """Shorter than the default, as the leases of scenarios are: a holder that was cut off must learn of it in time."""

    name: str = "redis"
    kind: ClassVar[Kind] = Redis()

    def address(self, url: str) -> str:
        """Let verbs give up early."""
        return f"{url}?socket_timeout={self.silence}&connect_timeout={self.silence}"

    def client(self) -> Any:
        """Return a redis-py client of the oracle's own."""
        return redis.Redis.from_url(self.server.url(), decode_responses=False)

    def key(self, name: str) -> str:
        """Return the name of one of this namespace's keys."""
        return f"queuekit:{{{self.namespace}}}:{name}"

    @property
    def keyspace(self) -> RedisKeyspace:
        """What can be done to the server by its own commands."""
        return RedisKeyspace(self)

    def write_garbage(self, body: bytes) -> None:
        """Store a job past the driver, its body no text."""
        id = new_id()
        accepted = str(time.time_ns() // 1000).encode()
        with self.client() as client:
            seq = client.hincrby(self.key("meta"), "seq", 1)
            place = f"default:5:{seq:012x}:{id}".encode()
            client.hset(self.key("jobs"), id, b"\n".join((place, accepted, b"Pgarbage", body)))
            client.zadd(self.key("ready"), {place: 0})
            client.zadd(self.key("order"), {id: seq})
            client.hincrby(self.key("counts"), "default:p", 1)

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Weaken the server's settings, one after the other."""
        for setting, value in (("appendonly", "no"), ("appendfsync", "no"), ("maxmemory-policy", "allkeys-lru")):
            with self.set(setting, value):
                yield setting, self.make_driver(virtual=False)

    @contextmanager
    def set(self, setting: str, value: str) -> Iterator[None]:
        """Change one of the server's settings for a while."""
        with self.client() as client:
            before = client.config_get(setting)[setting]
            client.config_set(setting, value)
            try:
                yield
            finally:
                client.config_set(setting, before)
                wait_until(lambda: _logs(client), "the append-only file to be complete again")

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Fill the memory, break a key, shut the door, lose the primary, keep the server busy."""
        driver: Any = self.driver()
        send = lambda: driver.send([self.message()])  # noqa: E731 - the one call that meets every trouble
        with self.set("maxmemory", "1"):  # less than an empty server uses, whatever others have just freed
            yield "OOM", send, BackendFull
        with self.client() as client:
            client.set(self.key("jobs"), "not queuekit's")
            yield "WRONGTYPE", send, DriverRejected
            client.delete(self.key("jobs"))
            with self.set("min-replicas-to-write", "1"):
                yield "NOREPLICAS", send, DriverUnavailable
            with self.set("requirepass", "secret"):
                yield "NOAUTH", self.make_driver(virtual=False).open, DriverRejected
        yield "refused", self.broken().open, DriverUnavailable
        wrong = self.url().replace("://", "://nobody:wrong@")
        yield "WRONGPASS", connect(wrong, namespace=self.namespace, clock=None).open, DriverRejected

    def footprint(self) -> dict[str, int]:
        """Count the entries of every key; live workers left out, and `meta`, whose fields are counters."""
        sizes = {"hash": "hlen", "zset": "zcard", "set": "scard", "list": "llen"}
        with self.client() as client:
            names = [name for name in KEYS if name not in {"workers", "meta"}]
            kinds = {name: client.type(self.key(name)).decode() for name in names}
            found = {n: getattr(client, sizes[kind])(self.key(n)) for n, kind in kinds.items() if kind != "none"}
            found |= {key.decode(): client.llen(key) for key in client.keys(self.key("fresh:*"))}
            return {**found, "keys": sum(1 for _ in client.scan_iter(f"{self.key('')}*", count=1000))}

    def leaks(self) -> list[str]:
        """Return keys that no one knows, and what the keys of this namespace say differently."""
        with self.client() as client:
            names = {key.decode().rpartition("}:")[2] for key in client.scan_iter(f"{self.key('')}*", count=1000)}
            unknown = [name for name in names - KEYS if not name.startswith(("wake:", "fresh:"))]
            return [*unknown, *self._contradictions(client)]

    def _contradictions(self, client: Any) -> list[str]:
        jobs: dict[bytes, bytes] = client.hgetall(self.key("jobs"))
        states: dict[bytes, bytes] = client.hgetall(self.key("states"))
        found = [f"state of {id!r}, which is no job" for id in states.keys() - jobs.keys()]
        for name in ("order", "due", "leases"):
            members = client.zrange(self.key(name), 0, -1)
            found += [f"{name} has {id!r}, which is no job" for id in set(members) - jobs.keys()]
        codes = {id: states.get(id, b"p")[:1].decode() for id in jobs}
        running = {id for id, code in codes.items() if code == "r"}
        if running != set(client.zrange(self.key("leases"), 0, -1)):
            found.append("the leases are not those of the running jobs")
        counted = {field.decode(): int(number) for field, number in client.hgetall(self.key("counts")).items()}
        real = Counter(f"{jobs[id].partition(b':')[0].decode()}:{code}" for id, code in codes.items())
        if counted != dict(real):
            found.append(f"counted {counted}, and there are {dict(real)}")
        return found


class RedisKeyspace:
    """Harm by Redis' own commands."""

    def __init__(self, harness: RedisHarness) -> None:
        self._harness = harness
        self._client = harness.client()

    @property
    def keys(self) -> Iterator[str]:
        """Yield the names of the namespace's keys."""
        for key in sorted(self._client.keys(f"{self._harness.key('')}*")):
            yield key.decode().rpartition("}:")[2]

    def flush(self) -> None:
        """Drop all data."""
        self._client.flushall()

    def forget_scripts(self) -> None:
        """Forget every script."""
        self._client.script_flush()

    def drop(self, key: str) -> None:
        """Remove a key."""
        self._client.delete(self._harness.key(key))

    @contextmanager
    def spoil(self, key: str) -> Iterator[None]:
        """Put a text in a key's place."""
        self._client.set(self._harness.key(key), "not queuekit's")
        yield
        self._client.delete(self._harness.key(key))

    @contextmanager
    def full(self) -> Iterator[None]:
        """Allow less memory than is used."""
        with self._harness.set("maxmemory", "1mb"):
            yield

    @contextmanager
    def evicting(self) -> Iterator[None]:
        """Allow less memory than is used, and let any key go."""
        before = self._client.info("stats")["evicted_keys"]
        with self._harness.set("maxmemory-policy", "allkeys-random"), self._harness.set("maxmemory", "1mb"):
            self._client.ping()
            wait_until(lambda: self._client.info("stats")["evicted_keys"] > before, "keys to be evicted")
            yield

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Run a script that does not end."""
        with self._harness.set("lua-time-limit", "50"):
            script = threading.Thread(target=self._spin)
            script.start()
            wait_until(self._is_busy, "the script to keep the server busy")
            yield
            self._client.script_kill()
            script.join()

    def _spin(self) -> None:
        with self._harness.client() as client, contextlib.suppress(redis.ResponseError):  # it is killed
            client.eval("while true do end", 0)

    def _is_busy(self) -> bool:
        with self._harness.client() as client:
            try:
                client.ping()
            except redis.ResponseError as error:
                return "BUSY" in str(error)
        return False

    def cut_clients(self) -> int:
        """Kill every normal client but this one."""
        return int(self._client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    def hold_clients(self, seconds: float) -> None:
        """Pause all clients."""
        self._client.client_pause(int(seconds * 1000))
        time.sleep(seconds)

    @property
    def clients(self) -> int:
        """Ask for their list."""
        return len(self._client.client_list(_type="normal")) - 1
