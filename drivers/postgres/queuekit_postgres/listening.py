"""The bell: one connection that listens, and raises the flags of those who wait."""

from __future__ import annotations

import logging
import os
import select
import threading
import time

import psycopg

from queuekit.contract import DriverError, Wakeup
from queuekit_postgres.connections import Connection, Connections

FIRST, MOST = 0.1, 5.0
"""Seconds between tries to listen again: doubling."""
LOOK = 1.0
"""Seconds after which a silent thread looks whether it is still wanted."""
UNWANTED = 5.0
"""Seconds without anybody waiting after which the thread ends; the next one who waits starts it again."""
SIGN = 30.0
"""Seconds between signs of life asked of the connection."""

_log = logging.getLogger("queuekit.postgres")


class Bell:
    """Listens on a channel while the driver is open; `rings` says whether notifications arrive at this moment.

    1. A thread connects, listens, and raises every flag, for what rang before it listened.
    2. It sleeps on the socket; each notification for its namespace raises every flag.
    3. When the connection breaks it begins anew; meanwhile those who wait look around by themselves.
    """

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self._channel = channel
        self._flags: set[Wakeup] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._stop_read, self._stop_write = -1, -1
        self._left = self._asked = 0.0
        self._stopping = False
        self.rings = False

    def start(self, ns: int) -> None:
        """Listen from now on; does nothing when the thread runs already in this process."""
        with self._lock:
            if self._stopping or (self._pid == os.getpid() and self._thread is not None):
                return
            self._pid, self._left = os.getpid(), time.monotonic()
            try:
                self._stop_read, self._stop_write = os.pipe()
            except OSError as error:
                _log.debug("cannot listen for jobs, looking every now and then instead: %s", error)
                return
            name = f"queuekit-postgres-bell-{ns}"
            self._thread = threading.Thread(target=self._run, args=(ns,), name=name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection; raise every flag."""
        with self._lock:
            self._stopping = True
            thread = self._thread if self._pid == os.getpid() else None
            if thread is not None:
                os.write(self._stop_write, b"x")
        if thread is not None:
            thread.join(self._connections.timeout)
        self.ring()

    def watch(self, flag: Wakeup) -> None:
        """Raise this flag from now on."""
        with self._lock:
            self._flags.add(flag)

    def unwatch(self, flag: Wakeup) -> None:
        """Leave this flag alone again."""
        with self._lock:
            self._flags.discard(flag)
            self._left = time.monotonic()

    def ring(self) -> None:
        """Raise every flag."""
        if self._flags:
            with self._lock:
                for flag in self._flags:
                    flag.set()

    def _run(self, ns: int) -> None:
        try:
            self._listen_for_ever(ns)
        finally:
            with self._lock:
                os.close(self._stop_read)
                os.close(self._stop_write)
                self._thread = None

    def _listen_for_ever(self, ns: int) -> None:
        pause = FIRST
        while self._wanted():
            try:
                connection = self._connections.connect()
            except DriverError as error:
                _log.debug("cannot listen for jobs, looking every now and then instead: %s", error)
            else:
                pause = FIRST
                self._serve(connection, f"{ns}:")
            if not self._wanted() or self._stopped_within(pause):
                return
            pause = min(MOST, pause * 2)

    def _serve(self, connection: Connection, prefix: str) -> None:
        try:
            connection.execute(f'LISTEN "{self._channel}"')
            self.rings = True
            self.ring()
            while self._wanted():
                self._listen(connection, prefix)
        except (psycopg.Error, OSError) as error:
            _log.debug("the connection that listens for jobs broke: %s", type(error).__name__)
        finally:
            self.rings = False
            connection.close()
            self.ring()

    def _listen(self, connection: Connection, prefix: str) -> None:
        """Sleep until something arrives, and raise the flags if it is for this namespace."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        mine = False
        if not poll.poll(LOOK * 1000):
            mine = time.monotonic() - self._asked > SIGN
        if mine:
            self._asked = time.monotonic()
            connection.end = time.monotonic() + self._connections.timeout
            connection.execute("SELECT 1")
        connection.pgconn.consume_input()
        while (note := connection.pgconn.notifies()) is not None:
            mine = mine or note.extra.startswith(prefix.encode())
        if mine:
            self.ring()

    def _wanted(self) -> bool:
        with self._lock:
            return not self._stopping and (bool(self._flags) or time.monotonic() - self._left < UNWANTED)

    def _stopped_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) or self._stopping
