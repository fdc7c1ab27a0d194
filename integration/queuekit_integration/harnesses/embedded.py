"""Harnesses for the drivers inside the core."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from dataclasses import dataclass, field

from queuekit.contract import Driver, Message
from queuekit.ids import new_id
from queuekit.memory import Broker, MemoryDriver
from queuekit.sqlite import SqliteDriver
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness


@dataclass
class MemoryHarness(Harness):
    """The memory driver: two brokers per cell, one on virtual and one on real time."""

    name: str = "memory"
    _brokers: dict[bool, Broker] = field(default_factory=dict)

    def broker(self, *, virtual: bool) -> Broker:
        """Return the cell's broker."""
        if virtual not in self._brokers:
            from queuekit import SystemClock  # noqa: PLC0415 - one of two clocks

            self._brokers[virtual] = Broker(self.clock if virtual else SystemClock())
        return self._brokers[virtual]

    def make_driver(self, *, virtual: bool) -> Driver:
        """Share the cell's broker."""
        return MemoryDriver(broker=self.broker(virtual=virtual))

    def broken(self) -> Driver:
        """Memory is always there; what can be broken is a closed driver."""
        driver = MemoryDriver()
        driver.close()
        return driver

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Memory is never durable, whatever one sets."""
        yield "durable", self.make_driver(virtual=False)

    def write_garbage(self, body: bytes) -> None:
        """Store a foreign body."""
        text = body.decode("utf-8", "surrogateescape")
        self.broker(virtual=False).send([Message(new_id(), "default", "garbage", text)])


@dataclass
class SqliteHarness(Harness):
    """The SQLite driver on a file of the cell's own."""

    name: str = "sqlite"

    @property
    def path(self) -> str:
        """The file."""
        return str(self.folder / "jobs.db")

    def make_driver(self, *, virtual: bool) -> Driver:
        """Open the cell's file."""
        return SqliteDriver(self.path, namespace=self.namespace, clock=self.clock if virtual else None)

    def url(self, *, through: Proxy | None = None) -> str | None:  # noqa: ARG002 - there is nothing to pass through
        """Return the file's address."""
        return f"sqlite:///{self.path}"

    def broken(self) -> Driver:
        """Return a driver whose file cannot be made."""
        return SqliteDriver(str(self.folder / "no" / "such" / "folder" / "jobs.db"), namespace=self.namespace)

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Never sync."""
        yield "synchronous", SqliteDriver(self.path, namespace=self.namespace, synchronous="OFF")

    def write_garbage(self, body: bytes) -> None:
        """Insert a row past the driver, its body a blob."""
        with sqlite3.connect(self.path, isolation_level=None) as connection:
            connection.execute(
                f'INSERT INTO "{self.namespace}.jobs" (id, queue, type, body, state, ready, rank, accepted_at) '
                "VALUES (?, 'default', 'garbage', ?, 'pending', 1, 5, 0)",
                (new_id(), body),
            )
        connection.close()
