"""Harm for PostgreSQL's sessions, by its own commands."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from queuekit_integration.servers import CannotCauseError, PgBouncer, Postgres, ProcessServer, Server, free_port

if TYPE_CHECKING:
    from queuekit_integration.harnesses.postgres import PostgresHarness

__all__ = ["PostgresSessions"]

OURS = "datname = current_database() AND application_name = 'queuekit' AND pid <> pg_backend_pid()"
COLLIDE = """
CREATE SEQUENCE queuekit.collisions;
CREATE FUNCTION queuekit.collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('queuekit.collisions') %% {every} = 0 THEN
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER collide AFTER INSERT OR UPDATE OR DELETE ON queuekit.jobs FOR EACH STATEMENT EXECUTE FUNCTION queuekit.collide()
"""


class PostgresSessions:
    """What a superuser can do."""

    def __init__(self, harness: PostgresHarness) -> None:
        self._harness = harness

    @contextmanager
    def _admin(self, server: Server | None = None) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect((server or self._harness.server).url(), autocommit=True) as connection:
            yield connection

    def _number(self, query: str) -> int:
        with self._admin() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    @property
    def count(self) -> int:
        """Count them."""
        return self._number(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}")

    @property
    def waiting(self) -> int:
        """Count those that wait for a lock."""
        return self._number(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'")

    @property
    def in_transaction(self) -> int:
        """Count those that idle in a transaction."""
        return self._number(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND state LIKE 'idle in transaction%'")

    def end(self) -> int:
        """Terminate them."""
        return self._number(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OURS}")

    def cancel(self) -> int:
        """Cancel their statements."""
        where = f"{OURS} AND wait_event_type = 'Lock'"
        return self._number(f"SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE {where}")

    def crash_one(self) -> None:
        """Kill one backend."""
        if self._harness.server.provider != "process":
            raise CannotCauseError(
                f"the processes of a server from the {self._harness.server.provider} are out of reach"
            )
        os.kill(self._number(f"SELECT min(pid) FROM pg_stat_activity WHERE {OURS}"), signal.SIGKILL)

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Set it for the role."""
        with self._admin() as connection:
            connection.execute(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'")
        try:
            yield
        finally:
            with self._admin() as connection:
                connection.execute("SET default_transaction_read_only = off")  # in case that was the setting
                connection.execute(f"ALTER ROLE CURRENT_USER RESET {name}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the table."""
        with self._harness.database() as connection:
            connection.execute("LOCK TABLE queuekit.jobs IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()

    @contextmanager
    def colliding(self, every: int) -> Iterator[None]:
        """Raise the error in a trigger."""
        with self._admin() as connection:
            for statement in (part for part in COLLIDE.format(every=every).replace("%%", "%").split(";\nCREATE")):
                connection.execute(statement if "CREATE" in statement else f"CREATE{statement}")
        try:
            yield
        finally:
            with self._admin() as connection:
                connection.execute("DROP FUNCTION queuekit.collide CASCADE")
                connection.execute("DROP SEQUENCE queuekit.collisions")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read once in a transaction that goes on."""
        with self._harness.database() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM queuekit.jobs")
            yield
            connection.rollback()

    @contextmanager
    def lock_job(self, id: str) -> Iterator[_Locked]:
        """Lock its row."""
        with self._harness.database() as connection:
            locked = _Locked(connection)
            locked.lock(id)
            yield locked
            connection.commit()

    @contextmanager
    def pooled(self) -> Iterator[str]:
        """Start PgBouncer."""
        if PgBouncer().program() is None:
            raise CannotCauseError("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
        pooler = ProcessServer(PgBouncer(self._harness.server.url()))
        try:
            pooler.start()
            yield f"{self._harness.address(pooler.url())}&pgbouncer=true"
        finally:
            pooler.close()

    # ------------------------------------------------------------------------------------------------- replication

    def standby(self, primary: Server, *, port: int, folder: Path) -> Server:
        """Copy the primary, and follow it."""
        kind = Postgres()
        program = kind.program()
        if program is None:
            raise CannotCauseError("no program of postgres on this machine to start a standby from")
        command = [
            str(Path(program).resolve().with_name("pg_basebackup")),
            "--pgdata",
            str(folder / "data"),
            "--write-recovery-conf",
        ]
        command += ["--checkpoint=fast", "--dbname", primary.url(port=port).rpartition("/")[0] + "/"]
        subprocess.run(command, check=True, capture_output=True)
        account = kind.account()
        if os.geteuid() == 0 and account is not None:
            for path in (folder, folder / "data", *(folder / "data").rglob("*")):
                shutil.chown(path, account, account)
        server = ProcessServer(kind, folder=folder, port=free_port())
        self._harness.keep(server)
        server.start()
        return server

    def caught_up(self, primary: Server, standby: Server) -> bool:
        """Compare their positions."""
        with self._admin(primary) as one, self._admin(standby) as other:
            [written] = one.execute("SELECT pg_current_wal_lsn()::text").fetchone() or [None]
            [applied] = other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (written,)).fetchone() or [None]
        return bool(applied)

    def promote(self, standby: Server) -> None:
        """Promote it, and wait for that."""
        with self._admin(standby) as connection:
            connection.execute("SELECT pg_promote()")
        while not self._writes(standby):
            time.sleep(0.01)

    def _writes(self, server: Server) -> bool:
        with contextlib.suppress(psycopg.Error), self._admin(server) as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            return row == (False,)
        return False

    def url(self, server: Server, *, port: int | None = None) -> str:
        """Give its address the cell's options."""
        return self._harness.address(server.url(port=port))


class _Locked:
    """A transaction with rows of jobs."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        connection.execute("SET LOCAL deadlock_timeout = '60s'")  # whoever looks first is the one to give way

    def lock(self, id: str) -> None:
        """Lock one more."""
        self._connection.execute("SELECT 1 FROM queuekit.jobs WHERE id = %s FOR UPDATE", (id,))
