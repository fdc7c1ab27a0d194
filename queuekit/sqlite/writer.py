"""The one writing connection of a process, and group commit: what several threads want goes into one transaction."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from queuekit.contract import DriverError, DriverRejected, DriverUnavailable, Patience, QueueClosed
from queuekit.sqlite.errors import sqlite_errors

T = TypeVar("T")
SLICE = 0.05
"""Seconds that SQLite itself waits for a lock at a time; in between the caller's patience is asked."""


def _identity(path: Path) -> tuple[int, int]:
    """Return which file stands at a path: its device and inode; zeros for none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the cost of Path.stat, and every transaction asks
    except FileNotFoundError:
        return 0, 0
    return status.st_dev, status.st_ino


class _Wish(Generic[T]):
    """One operation that waits for its transaction."""

    __slots__ = ("done", "error", "operation", "result")

    def __init__(self, operation: Callable[[sqlite3.Connection], T]) -> None:
        self.operation = operation
        self.done = False
        self.error: BaseException | None = None
        self.result: T | None = None


class Writer:
    """Runs operations in transactions.

    Threads queue their operation and then take the lock; whoever gets it runs all that are queued in one transaction, and
    the others find theirs done. If one operation fails, all are rolled back and each gets a transaction of its own, so
    only the guilty one fails. Operations may therefore run twice and must not change anything but the database.

    A thread may be interrupted at any moment, by Ctrl-C or its handler's timeout: so an operation stays in the queue until it is
    done, and no transaction stays open.
    """

    def __init__(self, path: str, *, synchronous: str, busy_timeout: float) -> None:
        self._path = path
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._wishes: deque[_Wish[Any]] = deque()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._file: tuple[Path, int, int] | None = None
        """Where the connection's file was when it was opened, and which file that was."""
        self._orphans: list[sqlite3.Connection] = []
        """Connections of the parent process: closing them here would drop the parent's locks."""
        self._closed = False

    def read(self, query: Callable[[sqlite3.Connection], T], *, doing: str) -> T:
        """Run a query outside of a transaction."""
        with self._lock, sqlite_errors(self._path, doing=doing):
            return query(self._connected())

    def write(self, operation: Callable[[sqlite3.Connection], T], *, doing: str, patience: Patience | None = None) -> T:
        """Run an operation in a transaction, together with those of other threads; returns after its commit."""
        if patience is not None:
            return self._write_patiently(operation, doing, patience)
        wish = _Wish(operation)
        self._wishes.append(wish)
        with self._lock:
            if not wish.done:
                self._serve_all(doing)
        if wish.error is not None:
            raise wish.error
        return wish.result  # type: ignore[return-value]  # done without an error: it is the result

    def _write_patiently(self, operation: Callable[[sqlite3.Connection], T], doing: str, patience: Patience) -> T:
        while not self._lock.acquire(timeout=SLICE):
            patience.check()
        try:
            with sqlite_errors(self._path, doing=doing):
                result: T = self._transaction([operation], patience)[0]
                return result
        finally:
            self._lock.release()

    def _serve_all(self, doing: str) -> None:
        wishes = [self._wishes[place] for place in range(len(self._wishes))]  # others only append
        wishes = [wish for wish in wishes if not wish.done]
        interruption: BaseException | None = None
        try:
            with sqlite_errors(self._path, doing=doing):
                results = self._transaction([wish.operation for wish in wishes])
            for wish, result in zip(wishes, results, strict=True):
                wish.result = result
        except BaseException as error:
            if len(wishes) == 1 or isinstance(error, DriverUnavailable):
                for wish in wishes:
                    wish.error = error
            else:
                self._serve_one_by_one(wishes, doing)
                if not isinstance(error, DriverError) and all(wish.error is None for wish in wishes):
                    interruption = error  # none of them is guilty
        for wish in wishes:
            wish.done = True
        while self._wishes and self._wishes[0].done:
            self._wishes.popleft()
        if interruption is not None:
            raise interruption

    def _serve_one_by_one(self, wishes: list[_Wish[Any]], doing: str) -> None:
        for wish in wishes:
            try:
                with sqlite_errors(self._path, doing=doing):
                    [wish.result] = self._transaction([wish.operation])
            except BaseException as error:
                wish.error = error

    def _transaction(
        self, operations: list[Callable[[sqlite3.Connection], Any]], patience: Patience | None = None
    ) -> list[Any]:
        connection = self._connected()
        other = connection.in_transaction  # of the application, to which `native` gave the connection
        try:
            self._begin(connection, patience)
            results = [operation(connection) for operation in operations]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction and not other:
                connection.execute("ROLLBACK")
            raise
        return results

    def _begin(self, connection: sqlite3.Connection, patience: Patience | None) -> None:
        """Take the file's write lock, waiting in slices up to the busy timeout or the caller's patience."""
        end = time.monotonic() + self._busy_timeout
        while True:
            if patience is not None:
                patience.check()
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = (error.sqlite_errorcode or 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= end:
                    raise
            else:
                return

    # ------------------------------------------------------------------------------------------------- connections

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            message = "this queue was closed; build a new one"
            raise QueueClosed(message)
        if self._connection is not None and self._pid == os.getpid():
            self._refuse_another_file()
            return self._connection
        if self._connection is not None:
            self._orphans.append(self._connection)
        self._connection = self._connect()
        self._pid = os.getpid()
        place = Path(self._path).absolute()  # SQLite keeps it, wherever the process goes
        self._file = (place, *_identity(place))
        return self._connection

    def _refuse_another_file(self) -> None:
        """Raise `DriverRejected` when the path leads elsewhere: what is written to a deleted file is lost with it."""
        if self._file is not None and _identity(self._file[0]) != self._file[1:]:
            message = (
                f"{self._path}: the file was deleted or replaced while it was open, so nothing more is written to it: "
                "close this queue, put the right file there, and build a new queue"
            )
            raise DriverRejected(message)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=SLICE, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            self._set_wal(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to write-ahead logging; another process may be doing the same at this moment."""
        end = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode or 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                    raise
                time.sleep(SLICE / 5)
            else:
                return

    def native(self) -> sqlite3.Connection:
        """Return the connection."""
        with self._lock, sqlite_errors(self._path, doing="connecting"):
            return self._connected()

    def disconnect(self) -> None:
        """Close the connection; the next operation makes a new one."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection for good; blocks for one transaction at most. Idempotent."""
        self.disconnect()
        self._closed = True
