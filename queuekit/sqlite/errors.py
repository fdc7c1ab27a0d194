"""What SQLite's errors mean, by its result codes (sqlite.org/rescode.html), mapped once at the driver's edge."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from queuekit.contract import BackendFull, DriverError, DriverRejected, DriverUnavailable, mapped

PRIMARY = 0xFF
"""The low byte of an extended result code is the primary one, which counts where the extended one has no entry."""

MEANINGS: dict[int, tuple[type[DriverError], str]] = {
    sqlite3.SQLITE_BUSY: (DriverUnavailable, "another connection held the file's lock for as long as this one waits"),
    sqlite3.SQLITE_BUSY_SNAPSHOT: (
        DriverUnavailable,
        "this transaction read before another connection wrote and cannot write now: roll back, and BEGIN IMMEDIATE",
    ),
    sqlite3.SQLITE_LOCKED: (DriverUnavailable, "another connection holds the table's lock; it is tried again"),
    sqlite3.SQLITE_INTERRUPT: (DriverUnavailable, "the statement was interrupted; it is tried again"),
    sqlite3.SQLITE_IOERR: (DriverUnavailable, "the disk failed to read or write"),
    sqlite3.SQLITE_FULL: (BackendFull, "the disk or the file's page limit is full; nothing was stored: make room"),
    sqlite3.SQLITE_NOMEM: (DriverUnavailable, "there is no memory for it"),
    sqlite3.SQLITE_READONLY: (DriverRejected, "the file or its folder cannot be written: change its permissions"),
    sqlite3.SQLITE_CANTOPEN: (DriverRejected, "the file cannot be opened: its folder must exist and be writable"),
    sqlite3.SQLITE_PERM: (DriverRejected, "access is denied: change the file's permissions"),
    sqlite3.SQLITE_AUTH: (DriverRejected, "access is denied: change the file's permissions"),
    sqlite3.SQLITE_NOTADB: (DriverRejected, "the file is not an SQLite database: name another file"),
    sqlite3.SQLITE_CORRUPT: (DriverRejected, "the file is corrupt: restore it from a backup"),
}


@contextmanager
def sqlite_errors(path: str, *, doing: str) -> Iterator[None]:
    """Map what SQLite raises to queuekit's errors."""
    translate: Callable[[BaseException], DriverError] = lambda error: _translate(path, error, doing)  # noqa: E731
    with mapped({sqlite3.Error: translate}, doing=doing):
        yield


def _translate(path: str, error: BaseException, doing: str) -> DriverError:
    code = getattr(error, "sqlite_errorcode", None)
    kind, meaning = MEANINGS.get(code or 0) or MEANINGS.get((code or 0) & PRIMARY, (DriverRejected, str(error)))
    return kind(f"{path}: {meaning} ({error}, while {doing})")
