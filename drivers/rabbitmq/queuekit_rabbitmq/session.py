"""One connection to the broker with one channel, served by an I/O thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pika.adapters.select_connection import IOLoop

from queuekit.contract import DriverError, DriverUnavailable
from queuekit_rabbitmq.errors import of_error
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.stream import Stream

if TYPE_CHECKING:
    from pika.channel import Channel
from pika.exceptions import AMQPError

__all__ = ["ANSWER", "Answer", "Session", "reply"]

T = TypeVar("T")
Answer: TypeAlias = "Future[Any]"
FRAME = 8
"""Bytes of a frame around what it carries."""
ANSWER = 30.0
"""Seconds that the broker has to answer."""
CLOSING = 2.0
"""Seconds that an orderly end may take."""


class Session:
    """A connection from its opening to its loss; a lost one never comes back, the driver makes a new one.

    1. `start` starts the I/O thread, which connects to the first node that answers and opens the channel.
    2. `call` and `ask` run a function on that thread, the only one that may touch pika's objects.
    3. Whatever ends it, `error` says why, every open `ask` fails with it, and `on_lost` is called on the I/O thread.
    """

    def __init__(self, settings: Settings, *, role: str) -> None:
        self._settings = settings
        self._role = role
        self._loop: Any = None
        self._connection: Any = None
        self._opened: Future[None] = Future()
        self._asked: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closing: DriverError | None = None
        """Why it is being closed from here."""
        self.channel: Channel = None
        self.error: DriverError | None = None
        """Why it is lost; None while it lives."""
        self.blocked: str | None = None
        """Why the broker takes no publishes at the moment (a memory or disk alarm)."""
        self.prepare: Callable[[Channel, Callable[[], None]], None] = lambda _, ready: ready()
        """What to do with the fresh channel before it is used, on the I/O thread; it calls `ready` in the end."""
        self.on_unblocked: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        """These two are called on the I/O thread."""
        self._thread = threading.Thread(target=self._serve, name=f"queuekit-amqp-{role}", daemon=True)

    # ------------------------------------------------------------------------------------------- from any thread

    def start(self) -> None:
        """Begin to connect; does not block."""
        self._thread.start()

    def ready(self, timeout: float | None) -> bool:
        """Block until it can be used, at most `timeout` seconds; raises `DriverUnavailable` or `DriverRejected`."""
        try:
            self._opened.result(timeout)
        except FutureTimeout:
            return False
        except DriverError as error:
            raise _again(error) from error
        return True

    @property
    def alive(self) -> bool:
        """Whether it is not lost."""
        return self.error is None

    def call(self, fn: Callable[[], None]) -> None:
        """Run a function on the I/O thread soon; not at all if the session is lost before."""
        loop = self._loop
        if loop is not None and self.error is None:
            loop.add_callback_threadsafe(fn)

    def ask(self, fn: Callable[[Future[Any]], None], *, doing: str, timeout: float) -> Any:
        """Run a function on the I/O thread, and block until it (or a callback of it) has answered.

        Raises what it answered with, or `DriverUnavailable` when the session is lost or `timeout` seconds have passed.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self.error is not None:
                raise _again(self.error)
            self._asked.add(answer)
        self.call(lambda: _guarded(fn, answer))
        try:
            return answer.result(timeout)
        except FutureTimeout:
            message = f"RabbitMQ at {self._settings} did not answer within {timeout} s while {doing}"
            raise DriverUnavailable(message) from None
        finally:
            self._asked.discard(answer)

    def aside(self, *several: Callable[[Channel, Future[Any]], None], doing: str, timeout: float) -> Any:
        """Do something on a channel of its own, which an error may close without harm; otherwise like `ask`.

        Each of `several` has a channel; the last answer counts, once all have answered.
        """
        open_ = len(several)

        def begin(answer: Future[Any]) -> None:
            def ended(part: Future[Any]) -> None:
                nonlocal open_
                open_ -= 1
                error = part.exception()
                if error is not None and not answer.done():
                    answer.set_exception(error)
                elif error is None and not open_:
                    reply(answer, part.result())

            for steps in several:
                part: Future[Any] = Future()
                part.add_done_callback(ended)
                self._begin_aside(steps, part)

        return self.ask(begin, doing=doing, timeout=timeout)

    def _begin_aside(self, steps: Callable[[Channel, Future[Any]], None], answer: Future[Any]) -> None:
        def closed(_: Any, reason: Exception) -> None:
            if not answer.done():
                answer.set_exception(of_error(reason, str(self._settings)))

        def opened(channel: Channel) -> None:
            channel.add_on_close_callback(closed)
            answer.add_done_callback(lambda _: self.call(lambda: _close(channel)))
            steps(channel, answer)

        self._connection.channel(on_open_callback=opened)

    def close(self, why: DriverError | None = None) -> None:
        """End it in good order, and block until its thread has ended, two seconds at most; who waits gets `why`. Idempotent."""
        self._closing = self._closing or why or DriverUnavailable("the connection was given up")
        self.call(self._close_connection)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(CLOSING)

    def later(self, seconds: float, fn: Callable[[], None]) -> None:
        """Run a function in so many seconds; from the I/O thread alone."""
        self._loop.call_later(seconds, fn)

    def write(self, frames: bytes) -> None:
        """Send whole frames in one piece, behind everything that was sent before; from the I/O thread alone."""
        self._connection.write(frames)

    def after_reading(self, fn: Callable[[], None]) -> None:
        """Run a function now, or after what waits in the socket was read: after a quiet time that may be that nobody is there.

        What has not been written when that is learnt has certainly not left. From the I/O thread alone.
        """
        if self._connection.readable:
            self.later(0, lambda: self.later(0, fn))
        else:
            fn()

    @property
    def body_most(self) -> int:
        """The most bytes of a body in one frame, as agreed with the broker."""
        return int(self._connection.params.frame_max) - FRAME

    @property
    def server(self) -> dict[str, Any]:
        """What the broker says of itself."""
        return dict(self._connection.server_properties or {})

    @property
    def connection(self) -> Stream:
        """Pika's connection."""
        connection: Stream = self._connection
        return connection

    # ---------------------------------------------------------------------------------------- on the I/O thread

    def _serve(self) -> None:
        error: DriverError = DriverUnavailable(f"RabbitMQ at {self._settings} was never reached")
        try:
            self._loop = IOLoop()
            for host, port in self._settings.hosts:
                error = self._serve_one(host, port)
                if self._opened.done():
                    break
        except Exception as unexpected:
            error = of_error(unexpected, str(self._settings))
        finally:
            self._lose(error)
            with contextlib.suppress(Exception):  # the loop is of no use any more, whatever state it is in
                self._loop.close()

    def _serve_one(self, host: str, port: int) -> DriverError:
        """Connect to one node and serve until the connection is lost; return why."""
        reasons: list[BaseException] = []

        def ended(_: Any, reason: BaseException | str) -> None:
            reasons.append(reason if isinstance(reason, BaseException) else DriverUnavailable(reason))
            self._loop.add_callback_threadsafe(self._loop.stop)  # behind pika's own last steps, which close the socket

        self._connection = Stream(
            self._settings.parameters(host, port, role=self._role),
            on_open_callback=self._on_connection,
            on_open_error_callback=ended,
            on_close_callback=ended,
            custom_ioloop=self._loop,
        )
        self._loop.start()
        self._connection.close_socket()
        reason = reasons[0] if reasons else DriverUnavailable("its I/O loop ended")
        return reason if isinstance(reason, DriverError) else of_error(reason, f"{host}:{port}")

    def _on_connection(self, connection: Any) -> None:
        if self._closing:
            connection.close()
            return
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        self.channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        self.prepare(channel, self._on_prepared)

    def _on_prepared(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_channel_closed(self, _: Channel, reason: Exception) -> None:
        """Give the whole session up: what was lent on this channel is lost, and a new one starts from nothing."""
        if self.error is None:
            self._fail(of_error(reason, str(self._settings)))
        self._close_connection()

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = frame.method.reason or "an alarm"

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = None
        self.on_unblocked()

    def _close_connection(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        elif self._connection.is_closed:
            self._loop.stop()

    def _lose(self, error: DriverError) -> None:
        self._fail(error)
        if not self._opened.done():
            self._opened.set_exception(self._closing or error)

    def _fail(self, error: DriverError) -> None:
        """Note the loss, once, and tell everybody who waits."""
        with self._lock:
            if self.error is not None:
                return
            self.error = error = self._closing or error
            asked = list(self._asked)
        for answer in asked:
            if not answer.done():
                answer.set_exception(_again(error))
        self.on_lost()


def reply(answer: Answer, value: Any = None) -> None:
    """Answer an `ask`, unless nobody waits for it any more."""
    if not answer.done():
        answer.set_result(value)


def _guarded(fn: Callable[[Future[Any]], None], answer: Future[Any]) -> None:
    try:
        fn(answer)
    except AMQPError as error:  # the channel or connection is closing: what ends it is about to be told
        if not answer.done():
            answer.set_exception(of_error(error, "the broker"))
    except Exception as error:
        if not answer.done():
            answer.set_exception(error)


def _close(channel: Channel) -> None:
    if channel.is_open:
        channel.close()


def _again(error: DriverError) -> DriverError:
    """Return a fresh copy: one exception object must not be raised on many threads."""
    return type(error)(str(error))
