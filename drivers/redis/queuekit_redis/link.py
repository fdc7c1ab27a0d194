"""Connections and calls: what left this process, what was answered, and what cannot be known."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import redis
from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.sentinel import SentinelManagedConnection

from queuekit.contract import AmbiguousSend, DriverError, Patience, Place, Places, PoolTimeout, QueueClosed
from queuekit_redis.address import Settings, Source
from queuekit_redis.errors import is_elsewhere, redis_errors, translated
from queuekit_redis.scripts import script

__all__ = ["FAILURES", "Call", "Link", "say"]

Connection: TypeAlias = Any
"""A connection of the client library, whose classes have no common public type."""
Call: TypeAlias = "tuple[Any, ...]"
"""A command with its arguments."""
T = TypeVar("T")
FAILURES = (RedisError, RedisClusterException, OSError)


class Link:
    """The connections of one driver, each used by one thread at a time.

    Idle ones are taken newest first. Before use one is checked: closed by the other side → connected again; idle for longer than
    the health interval → it must answer a PING. So a connection that died in silence costs a reconnect, not a job. One whose user
    was interrupted (Ctrl-C, a handler's timeout) is closed: an answer may be on its way that the next user would take for its own. Such
    an interruption may come between any two steps: what it leaves lying about goes with the last reference to it, the place too.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._start_over()

    def _start_over(self) -> None:
        """Begin without connections: at first, and in a forked child, whose parent still uses them."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._places = Places(self._settings.pool_size)
        self._idle: list[tuple[Connection, float, int]] = []
        self._age = 0
        self._closed = False

    @property
    def server(self) -> str:
        """The server as errors name it."""
        return self._source.server

    def close(self) -> None:
        """Close what is idle now, and the others when they come back. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            connection.disconnect()

    def check(self) -> None:
        """Raise `QueueClosed` after `close`; in a forked child begin with connections of its own."""
        if os.getpid() != self._pid:
            self._start_over()
        self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._closed:
            message = "this queue was closed; build a new one"
            raise QueueClosed(message)

    # ------------------------------------------------------------------------------------------------------- calling

    def command(self, *parts: Any, doing: str) -> Any:
        """Send one command that may be repeated without harm; `DriverUnavailable` when no answer comes."""
        return self._exchange(parts, doing, None)

    def run(self, name: str, keys: Sequence[str], *arguments: Any, doing: str) -> Any:
        """Run a script whose loss or repetition the contract allows; `DriverUnavailable` when no answer comes."""
        return self._exchange(_evaluate(name, keys, arguments), doing, name)

    def _exchange(self, call: Call, doing: str, name: str | None) -> Any:
        with redis_errors(self.server, doing=doing):
            try:
                return self._ask(call, name)
            except ResponseError as error:
                if not is_elsewhere(error):
                    raise
                self._go_elsewhere()
                return self._ask(call, name)  # the first server refused: nothing was applied

    def _ask(self, call: Call, name: str | None) -> Any:
        with self._take(None) as connection:
            say(connection, call)
            return self._answer(connection, call, name)

    def _answer(self, connection: Connection, call: Call, name: str | None) -> Any:
        """Read the answer to a call; one whose script `name` the server did not know was not applied, and is repeated."""
        try:
            return _read(connection)
        except NoScriptError:
            if name is None:
                raise
            say(connection, _with_text(call, name))
            return _read(connection)

    # ------------------------------------------------------------------------------------------------------- sending

    def send(
        self,
        name: str,
        calls: Callable[[], Iterable[tuple[Sequence[str], tuple[Any, ...]]]],
        *,
        patience: Patience | None,
        doing: str,
    ) -> tuple[list[Any], list[DriverError | None]]:
        """Run a script several times on one connection; per call its answer, and the error that says what is known.

        All leave before the first answer is read, each with the script itself where they are several: a server that did not know it would
        refuse some, and might take later ones, after somebody else had brought it, before these could be repeated. Raises when nothing left at all: `DispatchTimeout` or
        `DispatchCancelled` by `patience`, else what kept it back.
        """
        with self._for_sending(patience, doing) as connection:
            answers, errors = self._stream(connection, name, calls(), patience, doing)
        if not all(error is not None and is_elsewhere(error.__cause__) for error in errors):
            return answers, errors
        with redis_errors(self.server, doing=doing):
            self._go_elsewhere()  # all were refused, so nothing was applied
        with self._for_sending(patience, doing) as connection:
            return self._stream(connection, name, calls(), patience, doing)

    def send_once(
        self, name: str, keys: Sequence[str], *arguments: Any, patience: Patience | None, doing: str
    ) -> tuple[list[Any], list[DriverError | None]]:
        """Do as `send` for one call, by the shortest way: a single dispatch is the commonest of all."""
        if patience is not None:
            return self.send(name, lambda: [(keys, arguments)], patience=patience, doing=doing)
        try:
            taken = self._take(None)
        except FAILURES as error:
            raise translated(error, server=self.server, doing=doing) from error
        try:
            with taken as connection:
                say(connection, _evaluate(name, keys, arguments))
                return [_read(connection)], [None]
        except ResponseError as refused:
            known = translated(refused, server=self.server, doing=doing)
            known.__cause__ = refused
            again = isinstance(refused, NoScriptError) or is_elsewhere(refused)
        except FAILURES as failure:
            return [None], [_judged(self.server, failure, doing)]
        if again:  # it was not applied
            return self.send(name, lambda: [(keys, arguments)], patience=None, doing=doing)
        return [None], [known]

    def _for_sending(self, patience: Patience | None, doing: str) -> Taken:
        """Take a connection; what fails before a byte has left is a definite failure."""
        if patience is not None:
            patience.check()
        with redis_errors(self.server, doing=doing):
            return self._take(patience)

    def _stream(
        self,
        connection: Connection,
        name: str,
        calls: Iterable[tuple[Sequence[str], tuple[Any, ...]]],
        patience: Patience | None,
        doing: str,
    ) -> tuple[list[Any], list[DriverError | None]]:
        made = iter(calls)
        first, second = next(made), next(made, None)
        if patience is not None:
            patience.check()
            _limit(connection, patience)
        sent: list[Call] = []
        broken: BaseException | None = None
        try:
            for keys, arguments in _chained(first, second, made):
                call = _evaluate(name, keys, arguments)
                sent.append(call if second is None else _with_text(call, name))
                say(connection, sent[-1])
        except FAILURES as error:
            broken = error
        answers, errors = self._answers(connection, name if second is None else None, sent, broken, doing)
        left = sum(1 for _ in made)
        if left:
            assert broken is not None
            answers += [None] * left
            errors += [translated(broken, server=self.server, doing=doing)] * left
        if patience is not None and broken is None:
            _unlimit(connection)
        return answers, errors

    def _answers(
        self, connection: Connection, name: str | None, sent: Sequence[Call], broken: BaseException | None, doing: str
    ) -> tuple[list[Any], list[DriverError | None]]:
        answers: list[Any] = []
        errors: list[DriverError | None] = []
        for call in sent:
            answer, error = None, None
            if broken is None:
                try:
                    answer = self._answer(connection, call, name)
                except ResponseError as refused:
                    error = translated(refused, server=self.server, doing=doing)
                    error.__cause__ = refused
                except FAILURES as failure:
                    broken = failure
                    error = _judged(self.server, failure, doing)
            if broken is not None and error is None:
                error = _ambiguous(self.server, broken, doing)
            answers.append(answer)
            errors.append(error)
        return answers, errors

    # --------------------------------------------------------------------------------------------------- connections

    def fresh(self) -> Connection:
        """Return a connection of the caller's own."""
        connection = self._source.connection()
        connection.connect()
        return connection

    def call(self, name: str, keys: Sequence[str], *arguments: Any) -> Call:
        """Return the command that runs a script."""
        return _evaluate(name, keys, arguments)

    def call_with_text(self, name: str, keys: Sequence[str], *arguments: Any) -> Call:
        """Return the command that runs a script which the server may not know."""
        return _with_text(_evaluate(name, keys, arguments), name)

    def _take(self, patience: Patience | None) -> Taken:
        """Take a connection to use; raises where there is none."""
        place = self._place(patience)
        try:
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                connection, age, alive = self._source.connection(), self._age, False
            else:
                connection, idle_since, age = found
                alive = self._is_alive(connection, idle_since)
            if not alive:
                _connect(connection, patience)
        except BaseException:
            self._places.leave(place)
            raise
        return Taken(self, connection, age, place)

    def _place(self, patience: Patience | None) -> Place:
        """Take the right to use a connection; waits while all are in use."""
        self._refuse_closed()
        left = None if patience is None else patience.remaining()
        limit = self._settings.pool_timeout if left is None else min(left, self._settings.pool_timeout)
        place = self._places.take(limit, look=self._refuse_closed)
        if place is not None:
            return place
        if patience is not None:
            patience.check()
        message = (
            f"{self.server}: all {self._settings.pool_size} connections were in use for {limit:g} s; raise pool_size"
        )
        raise PoolTimeout(message)

    def _is_alive(self, connection: Connection, idle_since: float) -> bool:
        """Whether an idle connection is of use still; one that is not is closed."""
        try:
            if connection.can_read(0):  # closed by the other side, or an answer that nobody waits for
                connection.disconnect()
                return False
            if time.monotonic() - idle_since > self._settings.health_interval:
                say(connection, ("PING",))
                connection.read_response()
        except FAILURES:
            connection.disconnect()
            return False
        return True

    def give_back(self, taken: Taken, *, whole: bool) -> None:
        """Keep a connection on which no answer can be on its way, and close every other.

        One that broke is made anew by whoever needs it next, within that one's patience.
        """
        with self._lock:
            connected = taken.connection._sock is not None  # noqa: SLF001 - the client has no public way to ask
            keep = whole and connected and not self._closed and taken.age == self._age and os.getpid() == self._pid
            if keep:
                self._idle.append((taken.connection, time.monotonic(), taken.age))
        self._places.leave(taken.place)
        if not keep:
            taken.connection.disconnect()

    def _go_elsewhere(self) -> None:
        """Drop every connection: the keys are on another server now."""
        with self._lock:
            self._age += 1
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            connection.disconnect()
        self._source.refresh()


class Taken:
    """A connection in use: `with` gives it back, as one to be kept unless something else than a refusal of the server's ended its use."""

    __slots__ = ("_link", "age", "connection", "place")

    def __init__(self, link: Link, connection: Connection, age: int, place: Place) -> None:
        self._link = link
        self.connection = connection
        self.age = age
        self.place = place

    def __enter__(self) -> Connection:
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._link.give_back(self, whole=kind is None or issubclass(kind, ResponseError))


def say(connection: Connection, call: Call) -> None:
    """Send a command. hiredis packs it: what the client does to each word before that takes as long again."""
    connection.send_packed_command((pack_command(call),), check_health=False)


def _evaluate(name: str, keys: Sequence[str], arguments: tuple[Any, ...]) -> Call:
    return ("EVALSHA", script(name).sha, len(keys), *keys, *arguments)


def _with_text(call: Call, name: str) -> Call:
    """Return the call with the script itself instead of its digest: whoever makes the server forget scripts cannot come between."""
    return ("EVAL", script(name).text, *call[2:])


def _judged(server: str, error: BaseException, doing: str) -> DriverError:
    """Return what is known after a failed read: the client counts some refusals of a server among broken connections."""
    if isinstance(error, (redis.BusyLoadingError, redis.AuthenticationError)):
        return translated(error, server=server, doing=doing)
    return _ambiguous(server, error, doing)


def _ambiguous(server: str, error: BaseException, doing: str) -> AmbiguousSend:
    made = AmbiguousSend(f"{server}: no answer came while {doing}: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made


def _chained(first: T, second: T | None, rest: Iterable[T]) -> Iterator[T]:
    yield first
    if second is not None:
        yield second
    yield from rest


def _read(connection: Connection) -> Any:
    """Read one answer.

    A connection of the client's that Sentinel leads to says that it broke where its server refused, having become a replica; but then
    nothing was applied for certain.
    """
    if isinstance(connection, SentinelManagedConnection):
        return super(SentinelManagedConnection, connection).read_response(disable_decoding=True)
    return connection.read_response(disable_decoding=True)


def _connect(connection: Connection, patience: Patience | None) -> None:
    """Connect where it is not connected, within the caller's patience."""
    left = None if patience is None else patience.remaining()
    if patience is None or left is None:
        connection.connect()
        return
    usual = connection.socket_connect_timeout
    connection.socket_connect_timeout = max(0.001, left if usual is None else min(left, usual))
    try:
        connection.connect()
    except (redis.ConnectionError, redis.TimeoutError):
        patience.check()
        raise
    finally:
        connection.socket_connect_timeout = usual


def _limit(connection: Connection, patience: Patience) -> None:
    """Wait for answers no longer than the caller does."""
    left = patience.remaining()
    if left is not None:
        sock = connection._sock  # noqa: SLF001 - the client has no public way to change one call's time limit
        usual = sock.gettimeout()
        sock.settimeout(max(0.001, left if usual is None else min(left, usual)))


def _unlimit(connection: Connection) -> None:
    sock = connection._sock  # noqa: SLF001 - as above
    if sock is not None:
        sock.settimeout(connection.socket_timeout)
