"""Connections and calls: what left this process, what was answered, and what cannot be known."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import redis
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from queuekit.contract import AmbiguousSend, DriverError, Patience, PoolTimeout, QueueClosed
from queuekit_redis.address import Settings, Source
from queuekit_redis.errors import is_elsewhere, redis_errors, translated
from queuekit_redis.scripts import script

__all__ = ["Call", "Link"]

Connection: TypeAlias = Any
"""A connection of the client library, whose classes have no common public type."""
Call: TypeAlias = "tuple[Any, ...]"
"""A command with its arguments."""
FAILURES = (RedisError, RedisClusterException, OSError)


class Link:
    """The connections of one driver, each used by one thread at a time.

    Idle ones are taken newest first. Before use one is checked: closed by the other side → connected again; idle for longer than
    the health interval → it must answer a PING. So a connection that died in silence costs a reconnect, not a job. One whose user
    was interrupted (Ctrl-C, a handler's timeout) is closed: an answer may be on its way that the next user would take for its own.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._start_over()

    def _start_over(self) -> None:
        """Begin without connections: at first, and in a forked child, whose parent still uses them."""
        self._pid = os.getpid()
        self._free = threading.Condition()
        self._idle: list[tuple[Connection, float, int]] = []
        self._used = 0
        self._age = 0
        self._closed = False

    @property
    def server(self) -> str:
        """The server as errors name it."""
        return self._source.server

    def close(self) -> None:
        """Close what is idle now, and the others when they come back. Idempotent."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            self._free.notify_all()
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
        with self._connection(None) as connection:
            connection.send_command(*call)
            return self._answer(connection, call, name)

    def _answer(self, connection: Connection, call: Call, name: str | None) -> Any:
        try:
            return connection.read_response(disable_decoding=True)
        except NoScriptError:
            if name is None:
                raise
            connection.send_command(*_with_text(call, name))
            return connection.read_response(disable_decoding=True)

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

        All leave before the first answer is read. Raises when nothing left at all: `DispatchTimeout` or
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
            connection, age = self._take(None)
        except FAILURES as error:
            raise translated(error, server=self.server, doing=doing) from error
        try:
            connection.send_command(*_evaluate(name, keys, arguments), check_health=False)
            return [connection.read_response(disable_decoding=True)], [None]
        except ResponseError as refused:
            known = translated(refused, server=self.server, doing=doing)
            known.__cause__ = refused
            again = isinstance(refused, NoScriptError) or is_elsewhere(refused)
        except FAILURES as failure:
            return [None], [_judged(self.server, failure, doing)]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._give_back(connection, age)
        if again:  # it was not applied
            return self.send(name, lambda: [(keys, arguments)], patience=None, doing=doing)
        return [None], [known]

    @contextmanager
    def _for_sending(self, patience: Patience | None, doing: str) -> Iterator[Connection]:
        """Take a connection; what fails before a byte has left is a definite failure."""
        if patience is not None:
            patience.check()
        taken = self._connection(patience)
        with redis_errors(self.server, doing=doing):
            connection = taken.__enter__()
        try:
            yield connection
        except BaseException:
            connection.disconnect()
            raise
        finally:
            taken.__exit__(None, None, None)

    def _stream(
        self,
        connection: Connection,
        name: str,
        calls: Iterable[tuple[Sequence[str], tuple[Any, ...]]],
        patience: Patience | None,
        doing: str,
    ) -> tuple[list[Any], list[DriverError | None]]:
        made = (_evaluate(name, keys, arguments) for keys, arguments in calls)
        first = next(made)
        if patience is not None:
            patience.check()
            _limit(connection, patience)
        sent: list[Call] = []
        broken: BaseException | None = None
        try:
            for call in _chained(first, made):
                sent.append(call)
                connection.send_command(*call, check_health=False)
        except FAILURES as error:
            broken = error
        answers, errors = self._answers(connection, name, sent, broken, doing)
        left = sum(1 for _ in made)
        if left:
            assert broken is not None
            answers += [None] * left
            errors += [translated(broken, server=self.server, doing=doing)] * left
        if patience is not None and broken is None:
            _unlimit(connection, self._settings.socket_timeout)
        return answers, errors

    def _answers(
        self, connection: Connection, name: str, sent: Sequence[Call], broken: BaseException | None, doing: str
    ) -> tuple[list[Any], list[DriverError | None]]:
        answers: list[Any] = []
        errors: list[DriverError | None] = []
        unloaded: list[int] = []
        for number, _ in enumerate(sent):
            answer, error = None, None
            if broken is None:
                try:
                    answer = connection.read_response(disable_decoding=True)
                except NoScriptError:
                    unloaded.append(number)
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
        if unloaded and broken is None:
            self._again(connection, name, sent, unloaded, answers, errors, doing)
        return answers, errors

    def _again(
        self,
        connection: Connection,
        name: str,
        sent: Sequence[Call],
        unloaded: Sequence[int],
        answers: list[Any],
        errors: list[DriverError | None],
        doing: str,
    ) -> None:
        """Repeat calls whose script the server did not know: they were not applied."""
        for number in unloaded:
            try:
                connection.send_command(*_with_text(sent[number], name))
                answers[number] = connection.read_response(disable_decoding=True)
            except ResponseError as refused:
                errors[number] = translated(refused, server=self.server, doing=doing)
            except FAILURES as failure:
                errors[number] = _ambiguous(self.server, failure, doing)

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

    @contextmanager
    def _connection(self, patience: Patience | None) -> Iterator[Connection]:
        connection, age = self._take(patience)
        try:
            yield connection
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._give_back(connection, age)

    def _take(self, patience: Patience | None) -> tuple[Connection, int]:
        found = self._reserve(patience)
        try:
            if found is None:
                connection, age = self._source.connection(), self._age
            else:
                connection, idle_since, age = found
                self._revive(connection, idle_since)
            _connect(connection, patience)
        except BaseException:
            with self._free:
                self._used -= 1
                self._free.notify()
            raise
        return connection, age

    def _reserve(self, patience: Patience | None) -> tuple[Connection, float, int] | None:
        """Take an idle connection, or the right to make one; waits while all are in use."""
        with self._free:
            if self._used >= self._settings.pool_size:
                self._wait_for_place(patience)
            self._refuse_closed()
            self._used += 1
            return self._idle.pop() if self._idle else None

    def _wait_for_place(self, patience: Patience | None) -> None:
        left = None if patience is None else patience.remaining()
        limit = self._settings.pool_timeout if left is None else min(left, self._settings.pool_timeout)
        if self._free.wait_for(lambda: self._closed or self._used < self._settings.pool_size, limit):
            return
        if patience is not None:
            patience.check()
        message = (
            f"{self.server}: all {self._settings.pool_size} connections were in use for {limit:g} s; raise pool_size"
        )
        raise PoolTimeout(message)

    def _revive(self, connection: Connection, idle_since: float) -> None:
        """Close an idle connection that is of no use any more; it is connected again before its use."""
        try:
            if connection.can_read(0):
                connection.disconnect()  # closed by the other side, or an answer that nobody waits for
            elif time.monotonic() - idle_since > self._settings.health_interval:
                connection.send_command("PING", check_health=False)
                connection.read_response()
        except FAILURES:
            connection.disconnect()

    def _give_back(self, connection: Connection, age: int) -> None:
        with self._free:
            self._used -= 1
            keep = not self._closed and age == self._age and os.getpid() == self._pid
            if keep:
                self._idle.append((connection, time.monotonic(), age))
            self._free.notify()
        if not keep:
            connection.disconnect()

    def _go_elsewhere(self) -> None:
        """Drop every connection: the keys are on another server now."""
        with self._free:
            self._age += 1
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            connection.disconnect()
        self._source.refresh()


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


def _chained(first: Call, rest: Iterable[Call]) -> Iterator[Call]:
    yield first
    yield from rest


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


def _unlimit(connection: Connection, seconds: float) -> None:
    sock = connection._sock  # noqa: SLF001 - as above
    if sock is not None:
        sock.settimeout(seconds)
