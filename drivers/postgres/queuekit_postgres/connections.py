"""The driver's connections: a bounded rack of them, each with a time limit on every answer.

psycopg_pool was weighed (docs/decisions/0007): its helper threads do not survive a fork, a wrong password shows as its own
time-out, and a connection that the server ended is found out only after something was sent on it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import ceil, inf
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from queuekit.contract import DriverUnavailable, Patience, Place, Places, PoolTimeout, QueueClosed
from queuekit_postgres.errors import TimedOut, refused

TRUSTED = 60.0
"""Seconds for which a connection's answer tells the server's time: NTP lets clocks drift apart by less than 500 millionths."""
DRIFT = 0.05
"""Seconds by which that time may be off."""


class Connection(psycopg.Connection[Any]):
    """A connection that gives up on an answer at `end`, in monotonic seconds, and is then of no more use."""

    end: float | None = None
    poll: select.poll | None = None
    """What looks whether the server has said something."""
    told: tuple[float, float] = (0.0, -inf)
    """What the server's clock said in an answer, and when that answer came, in monotonic seconds."""

    def hear(self, server_time: float) -> None:
        """Note what the server's clock said in an answer that has just come."""
        self.told = (server_time, time.monotonic())

    def server_time_at(self, moment: float) -> float:
        """Return what the server's clock says at a moment in monotonic seconds, or a little less; 0 when that is not known well.

        The clock was read before the answer came, so this is never more than the truth by more than what both clocks drift apart in
        `TRUSTED` seconds: less than `DRIFT`.
        """
        said, heard = self.told
        return said + (moment - heard) if moment - heard < TRUSTED else 0.0

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Run psycopg's exchange with the server, at most until `end`."""
        return super().wait(gen if self.end is None else _bounded(gen, self.end), *arguments, **options)


def _bounded(gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
    """Pass an exchange through, and stop it once its time is over; psycopg wakes it ten times a second."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise TimedOut("no answer within the time limit")
            wanted = gen.send(ready)
    except StopIteration as stop:
        return stop.value


class Connections:
    """At most `most` connections, made when needed, the last one used taken first.

    A forked child starts with none: its parent's stay the parent's.
    """

    def __init__(
        self, conninfo: str, *, most: int, timeout: float, where: str, secret: str | None, **options: Any
    ) -> None:
        self._conninfo = conninfo
        self._most = most
        self._timeout = self.timeout = timeout
        self._where = where
        self._secret = secret
        self._options = options
        self._closed = False
        self.broken = 0
        """Connections found broken so far: behind the next one there may be another server, or one that forgot something."""
        self._start_over()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._places = Places(self._most)

    def forked(self) -> bool:
        """Whether this process is a child of the one that connected; the child then has a rack of its own."""
        if self._pid == os.getpid():
            return False
        _left_to_the_parent.append(self._idle)
        self._start_over()
        return True

    def lend(self, patience: Patience | None = None) -> Lent:
        """Lend a connection in autocommit mode, for a `with`; it must be out of any transaction when that ends."""
        place = self._take_place(patience)
        try:
            connection = self._take(patience)
            connection.end = time.monotonic() + self._limit(patience)
        except BaseException:
            self._places.leave(place)
            raise
        return Lent(self, connection, place)

    def _limit(self, patience: Patience | None) -> float:
        remaining = None if patience is None else patience.remaining()
        return self._timeout if remaining is None else min(self._timeout, remaining)

    def _take_place(self, patience: Patience | None) -> Place:
        if self._closed:
            message = "the queue was closed; build a new one"
            raise QueueClosed(message)
        self.forked()
        place = self._places.take(self._timeout, look=_nothing if patience is None else patience.check)
        if place is None:
            message = (
                f"{self._where}: all {self._most} connections were in use for {self._timeout} s: "
                "allow more with connections=, or use fewer threads"
            )
            raise PoolTimeout(message)
        return place

    def _take(self, patience: Patience | None) -> Connection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if _is_alive(connection):
                return connection
            connection.close()
            self.broken += 1
        if patience is not None:
            patience.check()
        return self.connect(self._limit(patience))

    def connect(self, limit: float | None = None) -> Connection:
        """Open a connection outside of the rack, for a life of its own."""
        seconds = ceil(self._timeout if limit is None else limit) or 1
        try:
            return Connection.connect(self._conninfo, autocommit=True, connect_timeout=seconds, **self._options)
        except OSError as error:
            message = f"{self._where}: {error} (while connecting)"
            raise DriverUnavailable(message) from error
        except psycopg.Error as error:
            hidden = self._secret is not None and self._secret in str(error)
            raise refused(error, self._where, secret=self._secret) from (None if hidden else error)

    def put(self, connection: Connection, place: Place) -> None:
        """Take a connection back, to lend it again or to close it."""
        try:
            self._put(connection)
        finally:
            self._places.leave(place)

    def _put(self, connection: Connection) -> None:
        connection.end = None
        if self._closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.close()
            self.broken += 1
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        if not self.forked():
            while self._idle:
                self._idle.pop().close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed


class Lent:
    """A connection that is in use until the end of a `with`."""

    __slots__ = ("_connection", "_connections", "_place")

    def __init__(self, connections: Connections, connection: Connection, place: Place) -> None:
        self._connections = connections
        self._connection = connection
        self._place = place

    def __enter__(self) -> Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connections.put(self._connection, self._place)


@contextmanager
def pipelined(connection: Connection) -> Iterator[None]:
    """Send the statements of this block in one go; a connection on which one fails is closed.

    psycopg takes for prepared what it has sent, and the server skips all that follows an error: on that connection the
    statement would be missing for good. When the time limit passes, psycopg tells of the pipeline that it cannot leave then,
    in place of the limit.
    """
    try:
        with connection.pipeline():
            yield
    except psycopg.Error as error:
        connection.close()
        late = connection.end is not None and time.monotonic() > connection.end
        if late and error.sqlstate is None:
            message = "no answer within the time limit"
            raise TimedOut(message) from error
        raise


_left_to_the_parent: list[list[Connection]] = []
"""Connections of a parent process: letting go of them here would warn about sockets that are not ours to close."""


def _nothing() -> None:
    """Look at nobody's patience."""


def _is_alive(connection: Connection) -> bool:
    """Whether the server has not hung up meanwhile: then the socket has something to read, or has come to its end."""
    if connection.closed:
        return False
    if connection.poll is None:
        connection.poll = select.poll()
        connection.poll.register(connection.fileno(), select.POLLIN)
    if not connection.poll.poll(0):
        return True
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


def roll_back(connection: Connection) -> None:
    """End a transaction that failed; a connection that cannot be asked any more is closed when it comes back."""
    if connection.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
