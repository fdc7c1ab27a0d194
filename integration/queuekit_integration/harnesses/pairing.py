"""A pair without any server: one SQLite file carries the tickets, another one keeps the jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from queuekit.clock import Clock, SystemClock
from queuekit.contract import (
    Delivery,
    Driver,
    DriverError,
    DriverRejected,
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
from queuekit.pairing import pair
from queuekit.sqlite import SqliteDriver
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses.embedded import SqliteHarness
from queuekit_integration.weaker import order_may_break

__all__ = ["Carrier", "PairHarness"]


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
class PairHarness(Harness):
    """The pairing of a transport with SQLite."""

    without: ClassVar[Mapping[str, Weaker]] = {
        "order": Weaker(
            "a job that is given back stands behind those whose tickets are on the transport", shown_by=order_may_break
        ),
    }
    expectations: ClassVar[Mapping[str, Expectation]] = SqliteHarness.expectations
    name: str = "carrier+sqlite"

    @property
    def carrier_path(self) -> str:
        """The transport's file."""
        return str(self.folder / "carrier.db")

    @property
    def store_path(self) -> str:
        """The store's file."""
        return str(self.folder / "jobs.db")

    def make_driver(self, *, virtual: bool) -> Driver:
        """Pair the cell's transport with the cell's file."""
        clock = self.clock if virtual else None
        carrier = Carrier(self.carrier_path, namespace=self.namespace, clock=clock)
        store = SqliteDriver(self.store_path, namespace=self.namespace, clock=clock)
        if clock is None:
            return pair(carrier, store, clock=SystemClock())
        return pair(carrier, store, clock=clock, interval=0.0)

    def parts(self) -> tuple[Driver, Driver]:
        """Return both halves."""
        return Carrier(self.carrier_path, namespace=self.namespace), SqliteDriver(
            self.store_path, namespace=self.namespace
        )

    def database(self) -> sqlite3.Connection:
        """Open the store once more."""
        return sqlite3.connect(self.store_path)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Name a place that cannot be."""
        yield "no folder", self.broken().open, DriverRejected

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Never sync the store."""
        carrier = Carrier(self.carrier_path, namespace=self.namespace)
        store = SqliteDriver(self.store_path, namespace=self.namespace, synchronous="OFF")
        yield "sqlite: synchronous", pair(carrier, store, clock=SystemClock())

    def url(self, *, through: Proxy | None = None) -> str | None:  # noqa: ARG002 - there is nothing to pass through
        """Return the transport's address."""
        return f"carrier:///{self.carrier_path}"

    def store_url(self) -> str | None:
        """Return the store's address."""
        return f"sqlite:///{self.store_path}"

    def broken(self) -> Driver:
        """Return a pair whose store cannot be opened."""
        nowhere = str(self.folder / "no" / "such" / "folder" / "jobs.db")
        carrier = Carrier(self.carrier_path, namespace=self.namespace)
        return pair(carrier, SqliteDriver(nowhere, namespace=self.namespace), clock=SystemClock())

    def footprint(self) -> dict[str, int]:
        """Count the rows of both files."""
        found = {}
        for half, path in (("carrier", self.carrier_path), ("store", self.store_path)):
            with closing(sqlite3.connect(path)) as connection:
                names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                for name in names:
                    found[f"{half} {name}"] = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        return found

    def write_garbage(self, body: bytes) -> None:
        """Put a foreign body onto the transport."""
        driver = SqliteDriver(self.carrier_path, namespace=self.namespace)
        driver.open()
        driver.send([Message(id := new_id(), "default", "garbage", "{}")])
        driver.close()
        connection = sqlite3.connect(self.carrier_path, isolation_level=None)
        connection.execute(f'UPDATE "{self.namespace}.jobs" SET body = ? WHERE id = ?', (body, id))
        connection.close()
