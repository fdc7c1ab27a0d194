"""The harness of the PostgreSQL driver."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg

from queuekit.contract import Driver, DriverError, DriverRejected, DriverUnavailable
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit_integration.harnesses.postgres_sessions import PostgresSessions
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.servers import Kind, Postgres

__all__ = ["PostgresHarness"]


@dataclass
class PostgresHarness(ServedHarness):
    """Queues in one server's schema `queuekit`, a namespace a cell."""

    name: str = "postgres"
    kind: ClassVar[Kind] = Postgres()
    silence: ClassVar[float] = 2.0

    def address(self, url: str) -> str:
        """Let the first driver make the tables, and give up on silence while the scenarios' short leases last."""
        return f"{url}?migrate=true&timeout={self.silence}"

    def write_garbage(self, body: bytes) -> None:
        """Insert a row past the driver."""
        with self.database() as connection:
            connection.execute(
                "INSERT INTO queuekit.jobs (ns, id, queue, type, body, accepted_at) "
                "SELECT id, %s, 'default', 'garbage', %s, clock_timestamp() FROM queuekit.namespaces WHERE name = %s",
                (new_id(), body, self.namespace),
            )

    @property
    def sessions(self) -> PostgresSessions:
        """What can be done to the sessions by the server's own commands."""
        return PostgresSessions(self)

    @property
    def database_at(self) -> tuple[str, str]:
        """The server."""
        return "psycopg", self.server.url()

    def database(self) -> psycopg.Connection[Any]:
        """Open a connection of the application's own."""
        return psycopg.connect(self.server.url())

    def footprint(self) -> dict[str, int]:
        """Count the namespace's rows in every table."""
        tables = ("jobs", "history", "uniques", "grants", "paused")
        with self.database() as connection:
            return {table: self._rows(connection, table) for table in tables}

    def _rows(self, connection: psycopg.Connection[Any], table: str) -> int:
        row = connection.execute(
            f"SELECT count(*) FROM queuekit.{table} WHERE ns = (SELECT id FROM queuekit.namespaces WHERE name = %s)",
            (self.namespace,),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Let new sessions answer commits before they are on the disk."""
        with self.database() as connection:
            connection.autocommit = True
            connection.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
            try:
                yield "synchronous_commit", self.make_driver(virtual=False)
            finally:
                connection.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Hold a lock, take a right away, and name places that cannot be."""
        short = connect(f"{self.server.url()}?timeout=0.2", namespace=self.namespace, clock=None)
        short.open()
        with self.database() as connection:
            connection.execute("LOCK TABLE queuekit.jobs IN ACCESS EXCLUSIVE MODE")
            yield "locked", lambda: short.send([self.message()]), DriverUnavailable
            connection.rollback()
            connection.execute("ALTER TABLE queuekit.jobs RENAME TO jobs_elsewhere")
            connection.commit()
            try:
                yield "no table", lambda: short.send([self.message()]), DriverRejected
            finally:
                connection.execute("ALTER TABLE queuekit.jobs_elsewhere RENAME TO jobs")
                connection.commit()
        short.close()
        nowhere = self.server.url().rpartition("/")[0] + "/nowhere"
        yield "no database", connect(nowhere, namespace=self.namespace, clock=None).open, DriverRejected
        yield "no server", self.broken().open, DriverUnavailable
