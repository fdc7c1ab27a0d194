"""A pair for tests, without any server: a transport in a SQLite file, and SQLite as its store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from queuekit.clock import Clock
from queuekit.contract import (
    Delivery,
    Driver,
    DriverError,
    Extension,
    Limits,
    Message,
    Outcome,
    Patience,
    Settlement,
    Url,
    Wakeup,
)
from queuekit.ids import new_id
from queuekit.sqlite import SqliteDriver
from queuekit_integration.expectations import Expectation
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses.embedded import SqliteHarness
from queuekit_integration.harnesses.paired import PairedHarness

__all__ = ["Carrier", "CarrierSqliteHarness"]


class Carrier:
    """A transport for tests: the verbs and nothing else, and the same message twice if it is sent twice."""

    limits = Limits(
        name="carrier", batch=10, unique_ids=False, keys=False, limits=False, atomic=False, fenced=False, durable=True
    )

    def __init__(self, path: str, *, namespace: str, clock: Clock | None = None) -> None:
        self._driver = SqliteDriver(path, namespace=namespace, clock=clock)

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> Carrier:
        """Build the driver for `carrier:////absolute.db`."""
        return cls(url.path[1:], namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._driver.namespace

    def work_in(self, namespace: str) -> None:
        """Work there."""
        self._driver.work_in(namespace)

    def open(self) -> None:
        """Open."""
        self._driver.open()

    def close(self) -> None:
        """Close."""
        self._driver.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Prepare."""
        self._driver.prepare(queues)

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Carry every message, also one that is on its way already."""
        assert len(messages) <= self.limits.batch
        self._driver.send([_wrapped(message) for message in messages], patience=patience)

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
        """Hand messages over."""
        assert limit <= self.limits.batch
        found = self._driver.claim(
            queues, limit=limit, lease=lease, free=free, recover=recover, wait=wait, wakeup=wakeup
        )
        return [msgspec.structs.replace(d, message=_unwrapped(d.message), receipt=d) for d in found]

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Let go of messages."""
        return self._driver.settle([msgspec.structs.replace(o, delivery=o.delivery.receipt) for o in outcomes])

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Hold messages longer."""
        return self._driver.extend([d.receipt for d in deliveries], lease=lease)


def _wrapped(message: Message) -> Message:
    body = msgspec.json.encode([message.id, message.body]).decode()
    return msgspec.structs.replace(message, id=new_id(), body=body)


def _unwrapped(message: Message) -> Message:
    try:
        id, body = msgspec.json.decode(message.body.encode("utf-8", "surrogateescape"), type=tuple[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return message  # somebody else's
    return msgspec.structs.replace(message, id=id, body=body)


@dataclass
class CarrierHarness(Harness):
    """The transport for tests, in a file of its own: one half of a pair, and no column."""

    name: str = "carrier"

    @property
    def path(self) -> str:
        """The transport's file."""
        return str(self.folder / "carrier.db")

    def make_driver(self, *, virtual: bool) -> Driver:
        """Open the file."""
        return Carrier(self.path, namespace=self.namespace, clock=self.clock if virtual else None)

    def url(self, *, through: Proxy | None = None) -> str | None:  # noqa: ARG002 - there is nothing to pass through
        """Return the file's address."""
        return f"carrier:///{self.path}"

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Meet none: it is no driver of anybody's."""
        yield from ()

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Promise nothing that a setting could weaken."""
        yield from ()

    def footprint(self) -> dict[str, int]:
        """Count the rows of every table."""
        with closing(sqlite3.connect(self.path)) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}

    def write_garbage(self, body: bytes) -> None:
        """Put a foreign body into the default queue."""
        driver = SqliteDriver(self.path, namespace=self.namespace)
        driver.open()
        driver.send([Message(id := new_id(), "default", "garbage", "{}")])
        driver.close()
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(f'UPDATE "{self.namespace}.jobs" SET body = ? WHERE id = ?', (body, id))
        connection.close()


@dataclass
class CarrierSqliteHarness(PairedHarness):
    """A pair without any server: one SQLite file carries the tickets, another one keeps the jobs."""

    name: str = "carrier+sqlite"
    transport: ClassVar[type[Harness]] = CarrierHarness
    engine: ClassVar[type[Harness]] = SqliteHarness
    expectations: ClassVar[Mapping[str, Expectation]] = SqliteHarness.expectations
