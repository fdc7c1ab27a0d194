"""Making and checking the tables: numbered migrations, safe from several processes at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from queuekit.contract import DriverRejected
from queuekit.sqlite.statements import migrations

OLDEST = (3, 35, 0)
"""The first SQLite with `RETURNING`."""


def check_version() -> None:
    """Raise `DriverRejected` when this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < OLDEST:
        message = f"this Python has SQLite {sqlite3.sqlite_version}, and queuekit needs 3.35 or newer: update Python"
        raise DriverRejected(message)


def check_file(path: str) -> None:
    """Raise `DriverRejected` for a place where no database can be."""
    file = Path(path)
    if file.is_dir():
        message = f"{path} is a folder: name a file, as in sqlite:///folder/jobs.db"
        raise DriverRejected(message)
    if not file.parent.is_dir():
        message = f"the folder of {path} does not exist: make it first"
        raise DriverRejected(message)


def missing(connection: sqlite3.Connection, namespace: str) -> list[str]:
    """Return the names of migrations that are still to be applied; raises for a schema from the future."""
    version = current(connection, namespace)
    known = migrations(namespace)
    if version > known[-1][0]:
        message = (
            f"the namespace {namespace!r} has schema {version}, and this queuekit knows up to {known[-1][0]}: "
            "update queuekit in this process"
        )
        raise DriverRejected(message)
    return [name for number, name, _ in known if number > version]


def current(connection: sqlite3.Connection, namespace: str) -> int:
    """Return the number of the newest migration applied; 0 for none."""
    exists = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (f"{namespace}.meta",)
    ).fetchone()
    if exists is None:
        return 0
    row = connection.execute(f"SELECT value FROM \"{namespace}.meta\" WHERE name = 'schema'").fetchone()
    return 0 if row is None else int(row[0])


def migrate(connection: sqlite3.Connection, namespace: str) -> list[str]:
    """Apply what is missing; call it inside a write transaction."""
    names = missing(connection, namespace)
    if not names:
        return []
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{namespace}.meta" (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID'
    )
    for number, name, statements in migrations(namespace):
        if name in names:
            for statement in statements:
                connection.execute(statement)
            _set(connection, namespace, "schema", str(number))
    _set(connection, namespace, "token", "0", keep=True)
    return names


def note_boot(connection: sqlite3.Connection, namespace: str) -> None:
    """End all leases of an earlier boot: their times are of a clock that started over. Inside a write transaction."""
    boot = boot_id()
    row = connection.execute(f"SELECT value FROM \"{namespace}.meta\" WHERE name = 'boot'").fetchone()
    if row is not None and row[0] == boot:
        return
    connection.execute(f"UPDATE \"{namespace}.jobs\" SET lease_end = -1e9 WHERE state = 'running'")
    connection.execute(f'DELETE FROM "{namespace}.grants"')
    _set(connection, namespace, "boot", boot)


def _set(connection: sqlite3.Connection, namespace: str, name: str, value: str, *, keep: bool = False) -> None:
    verb = "INSERT OR IGNORE" if keep else "INSERT OR REPLACE"
    connection.execute(f'{verb} INTO "{namespace}.meta" (name, value) VALUES (?, ?)', (name, value))


def boot_id() -> str:
    """Return what tells one boot of this machine from the next.

    Linux says it (`random(4)`); elsewhere it is the minute at which the monotonic clock was zero, which a wall clock set
    by more than a minute changes: then leases end early, and jobs run again rather than never.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return f"minute-{round((time.time() - time.monotonic()) / 60)}"
