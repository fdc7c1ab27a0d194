"""The bell: a waiting connection, on which the server wakes an idle claim and hands it what it waited for."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from redis.exceptions import NoScriptError, ResponseError

from queuekit.contract import Clock, Wakeup
from queuekit_redis.keys import Keys
from queuekit_redis.link import FAILURES, Call, Link, say

__all__ = ["Bell"]

_log = logging.getLogger("queuekit.redis")
MARGIN = 1.0
"""Seconds after which the server ends a wait that this process should have ended: frozen or cut off, it is served no longer."""
Then: TypeAlias = "tuple[Any, ...]"
"""A script's name, its keys and its arguments."""
PAUSE = 0.5
"""Seconds between attempts to connect again. Claims go on meanwhile: they poll."""


class Bell:
    """Lets a claim wait on the server for a mark on the bells of its queues.

    1. A blocking pop leaves, and behind it the next claim. The server runs that as soon as the wait ends, so the jobs come with the
       wake-up and not a round trip after it.
    2. The thread that claims waits for the answer and for its own flag at once: nobody has to hand anything on.
    3. When its flag or its time ends the wait, a mark on the connection's own bell ends the pop, and the claim is answered.

    A mark wakes one waiting claim of all processes. There are as many connections as claims wait: one a worker.
    """

    def __init__(self, link: Link, keys: Keys, clock: Clock) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._start_over()

    def _start_over(self) -> None:
        """Begin without connections: at first, and in a forked child, whose parent still waits on them."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[tuple[Any, str]] = []
        self._flags: set[Wakeup] = set()
        self._closed = False

    @contextmanager
    def attended(self, flag: Wakeup) -> Iterator[None]:
        """Raise this flag when the driver is closed meanwhile."""
        if os.getpid() != self._pid:
            self._start_over()
        with self._lock:
            self._flags.add(flag)
        try:
            yield
        finally:
            with self._lock:
                self._flags.discard(flag)

    def close(self) -> None:
        """End every wait, and let the connections go. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for flag in self._flags:
                flag.set()
        for connection, _ in idle:
            connection.disconnect()

    def wait(self, queues: Sequence[str], flag: Wakeup, seconds: float, *, then: Then | None) -> Any:
        """Block until a bell of these queues rings, the flag is raised or the time is over; return what `then` answers.

        None where that has nothing to say, was refused, or the connection broke. Raises `DriverUnavailable` when the server
        does not answer.
        """
        try:
            connection, own, known = self._take()
        except FAILURES as error:
            _log.debug("no connection to wait on (%s); claims poll until there is one", error)
            self._clock.wait(flag, min(seconds, PAUSE))
            return None
        whole = False
        try:
            call = None if then is None else (self._link.call if known else self._link.call_with_text)(*then)
            rang, reply = self._listen(connection, own, queues, flag, seconds, call)
            whole = not isinstance(rang, ResponseError) and not isinstance(reply, NoScriptError)
        except FAILURES as error:
            _log.debug("the waiting connection broke (%s); claims poll until it is back", error)
            return None
        finally:
            self._leave(connection, own, whole=whole)
        if isinstance(rang, ResponseError):
            self._clock.wait(flag, min(seconds, PAUSE))  # refused at once, as it would be again
        return None if isinstance(reply, ResponseError) else reply

    def _listen(
        self, connection: Any, own: str, queues: Sequence[str], flag: Wakeup, seconds: float, call: Call | None
    ) -> tuple[Any, Any]:
        bells = map(self._keys.bell, queues)
        say(connection, ("BLPOP", own, *bells, f"{seconds + MARGIN:.3f}"))
        if call is not None:
            say(connection, call)
        sock = connection._sock  # noqa: SLF001 - the client has no public way to wait for an answer and something else
        heard = self._clock.wait(flag, seconds, beside=sock.fileno())
        if not heard or flag.is_set():
            self._link.run("nudge", [self._keys["counts"], own], "", doing="ending a wait")
        return _answer(connection), None if call is None else _answer(connection)

    # --------------------------------------------------------------------------------------------------- connections

    def _take(self) -> tuple[Any, str, bool]:
        """Return a connection, its own bell, and whether its server knows the script."""
        with self._lock:
            if self._idle:
                return *self._idle.pop(), True
        return self._link.fresh(), self._keys.bell(f"!{uuid.uuid4().hex}"), False

    def _leave(self, connection: Any, own: str, *, whole: bool) -> None:
        """Keep a connection on which nothing is on its way."""
        with self._lock:
            if whole and not self._closed:
                self._idle.append((connection, own))
                return
        connection.disconnect()


def _answer(connection: Any) -> Any:
    """Read one answer; a refusal is one too."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as refused:
        return refused
