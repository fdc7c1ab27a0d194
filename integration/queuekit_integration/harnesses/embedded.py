"""Harnesses for the drivers inside the core."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sized
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from queuekit.contract import BackendFull, Driver, DriverError, DriverRejected, DriverUnavailable, Message, QueueClosed
from queuekit.ids import new_id
from queuekit.memory import Broker, MemoryDriver
from queuekit.sqlite import SqliteDriver
from queuekit_integration.expectations import Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.weaker import delays_follow_the_wall_clock


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
        return MemoryDriver(broker=self.broker(virtual=virtual), namespace=self.namespace)

    def broken(self) -> Driver:
        """Memory is always there; what can be broken is a closed driver."""
        driver = MemoryDriver()
        driver.close()
        return driver

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Memory is never durable, whatever one sets."""
        yield "durable", self.make_driver(virtual=False)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Memory is always there until it is closed."""
        yield "closed", lambda: self.broken().send([self.message()]), QueueClosed

    def footprint(self) -> dict[str, int]:
        """Count the entries of every container of the broker."""
        broker = self.broker(virtual=True)
        found = {name: len(value) for name, value in vars(broker).items() if isinstance(value, Sized)}
        return {**found, "keys": len(broker._keys._lines)}  # noqa: SLF001 - a look past the driver

    def write_garbage(self, body: bytes) -> None:
        """Store a foreign body."""
        text = body.decode("utf-8", "surrogateescape")
        self.broker(virtual=False).send([Message(new_id(), "default", "garbage", text)])


@dataclass
class SqliteHarness(Harness):
    """The SQLite driver on a file of the cell's own."""

    expectations: ClassVar = {
        "SCH-STEP": Weaker(
            "a delay ends by the machine's wall clock: setting that clock forward shortens it by as much",
            shown_by=delays_follow_the_wall_clock,
        )
    }
    name: str = "sqlite"

    @property
    def file(self) -> Path:
        """The cell's database."""
        return self.folder / "jobs.db"

    @property
    def path(self) -> str:
        """The same as text."""
        return str(self.file)

    @property
    def database_at(self) -> tuple[str, str]:
        """The file."""
        return "sqlite3", str(self.path)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Fill the disk, hold the lock, and name a place that cannot be."""
        driver: Any = self.driver()
        other = SqliteDriver(self.path, namespace=self.namespace, clock=self.clock, busy_timeout=0.2)
        other.open()
        native = driver.native()
        [pages] = native.execute("PRAGMA page_count").fetchone()
        native.execute(f"PRAGMA max_page_count = {pages}")
        yield "full", lambda: driver.send([self.message("x" * 100_000)]), BackendFull
        native.execute("PRAGMA max_page_count = 1000000")
        native.execute("BEGIN IMMEDIATE")
        yield "locked", lambda: other.send([self.message()]), DriverUnavailable
        native.execute("ROLLBACK")
        other.close()
        yield "no folder", self.broken().open, DriverRejected

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

    def footprint(self) -> dict[str, int]:
        """Count the rows of every table of the namespace."""
        with closing(sqlite3.connect(self.path)) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            mine = [name for name in names if name.startswith(f"{self.namespace}.")]
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in mine}

    def write_garbage(self, body: bytes) -> None:
        """Insert a row past the driver, its body a blob."""
        with sqlite3.connect(self.path, isolation_level=None) as connection:
            connection.execute(
                f'INSERT INTO "{self.namespace}.jobs" (id, queue, type, body, state, ready, rank, accepted_at) '
                "VALUES (?, 'default', 'garbage', ?, 'pending', 1, 5, 0)",
                (new_id(), body),
            )
        connection.close()
