"""The bell: one waiting connection a process, on which the server wakes idle claims."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from queuekit.contract import DriverError, Wakeup
from queuekit_redis.keys import Keys
from queuekit_redis.link import Link
from queuekit_redis.scripts import script

__all__ = ["Bell"]

_log = logging.getLogger("queuekit.redis")
BLOCK = 2.0
"""Seconds of one blocking pop. Its answer, empty or not, proves that the connection is alive."""
IDLE = 2.0
"""Seconds without any waiting claim after which thread and connection end; the next one starts them again."""
PAUSE = 0.5
"""Seconds between attempts to connect again. Claims go on meanwhile: they poll."""


class Bell:
    """Waits, while any claim does, for a mark on the bells of all queues that this process's claims wait for.

    A mark wakes one process. Where nobody here wants it any more it goes back, so that another process sees it. The connection's
    own bell ends a wait that does not cover a queue which a new claim asks for.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._changed = threading.Condition()
        self._watchers: dict[Wakeup, tuple[str, ...]] = {}
        self._covered: frozenset[str] | None = None
        self._own = keys.bell(f"!{uuid.uuid4().hex}")
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._stopping = False

    def watch(self, wakeup: Wakeup, queues: Sequence[str]) -> None:
        """Raise this flag from now on when one of the queues' bells rings."""
        with self._changed:
            self._watchers[wakeup] = tuple(queues)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="queuekit-redis-bell", daemon=True)
                self._thread.start()
            nudge = self._covered is not None and not self._covered.issuperset(queues)
            self._changed.notify()
        if nudge:
            self._link.command("RPUSH", self._own, "1", doing="widening a wait")
            self._link.command("PEXPIRE", self._own, 10_000, doing="widening a wait")

    def unwatch(self, wakeup: Wakeup) -> None:
        """Leave this flag alone again."""
        with self._changed:
            self._watchers.pop(wakeup, None)

    def rang(self, queues: Sequence[str]) -> None:
        """Wake this process's own claims: what this process stores it need not hear from the server."""
        if not self._watchers:
            return
        with self._changed:
            for wakeup, mine in self._watchers.items():
                if not set(mine).isdisjoint(queues):
                    wakeup.set()

    def wake_all(self) -> None:
        """Wake every claim of this process."""
        with self._changed:
            for wakeup in self._watchers:
                wakeup.set()

    def stop(self) -> None:
        """End the thread; blocks until it has seen it, a moment. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
            connection, thread = self._connection, self._thread
        if connection is not None:
            _hang_up(connection)
        if thread is not None and thread is not threading.current_thread():
            thread.join(BLOCK + 1)

    # ---------------------------------------------------------------------------------------------------- the thread

    def _loop(self) -> None:
        while self._is_wanted():
            try:
                self._listen()
            except (RedisError, RedisClusterException, DriverError, OSError) as error:
                self._drop()
                if not self._stopping:
                    _log.debug("the waiting connection broke (%s); claims poll until it is back", error)
                    self._rest()

    def _is_wanted(self) -> bool:
        """Wait until a claim does, for a while; False when this thread is to end."""
        with self._changed:
            if self._changed.wait_for(lambda: self._watchers or self._stopping, IDLE) and not self._stopping:
                return True
            self._thread = None
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        return False

    def _rest(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, PAUSE)

    def _listen(self) -> None:
        """Block once on the bells, and pass on what rang."""
        connection = self._connected()
        with self._changed:
            queues = sorted({queue for mine in self._watchers.values() for queue in mine})
            if not queues or self._stopping:
                return
            self._covered = frozenset(queues)
        try:
            connection.send_command("BLPOP", self._own, *map(self._keys.bell, queues), BLOCK, check_health=False)
            answer = connection.read_response(disable_decoding=True)
        finally:
            with self._changed:
                self._covered = None
        if answer is not None:
            self._pass_on(answer[0].decode())

    def _pass_on(self, key: str) -> None:
        if key == self._own:
            return
        queue = key.rpartition("wake:")[2]
        with self._changed:
            flags = [wakeup for wakeup, mine in self._watchers.items() if queue in mine]
            for wakeup in flags:
                wakeup.set()
        if not flags:
            transition = script("ring")
            declared = [self._keys[name] for name in transition.keys]
            self._link.run("ring", [*declared, key], "", doing="passing a bell on")

    def _connected(self) -> Any:
        if self._connection is None:
            connection = self._link.fresh(silence=BLOCK)
            with self._changed:
                self._connection = connection
        return self._connection

    def _drop(self) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _hang_up(connection: Any) -> None:
    """End a read that another thread is blocked in."""
    sock = connection._sock  # noqa: SLF001 - the client has no public way to end another thread's wait
    if sock is not None:
        try:
            sock.shutdown(2)
        except OSError:
            return  # it is closed already
