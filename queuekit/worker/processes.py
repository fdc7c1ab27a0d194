"""Handlers in child processes, for code that keeps the interpreter's lock or must be killed when it runs too long."""

from __future__ import annotations

import contextvars
import importlib
import multiprocessing
import signal
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import msgspec

from queuekit.backoff import Backoff
from queuekit.context import _current
from queuekit.contract import Again, Dead, Delivery, Failure, Outcome
from queuekit.envelope import decode
from queuekit.errors import ConfigurationError, JobTimeout
from queuekit.handlers import Handler
from queuekit.options import BLOCKS, NO_OPTIONS
from queuekit.worker import verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.policy import Policy
from queuekit.worker.runtime import Runtime

__all__ = ["ProcessPool"]

BY_POLICY = -1.0
"""The delay that a child puts into `Again` to say: by the job's own backoff, which only the parent knows."""


class Child:
    """One spawned process that runs one job at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(theirs,), name="queuekit-child", daemon=True)
        self._process.start()
        theirs.close()
        self._lock = threading.Lock()
        self._attempt: Attempt | None = None

    def give(self, attempt: Attempt) -> None:
        """Let the child run this attempt; from now on `stop` reaches it."""
        self._attempt = attempt
        self.send(("run", *_order(attempt)))

    def take_back(self) -> None:
        """Note that the attempt has ended: a `stop` that comes too late must not reach the next one."""
        with self._lock:
            self._attempt = None

    def stop(self, attempt: Attempt) -> None:
        """Tell the handler of a cancellation; end its process at once when the worker itself stops."""
        if attempt.cancelled:
            self.send(("cancel", attempt.delivery.message.id))
            return
        with self._lock:
            if self._attempt is attempt:
                self._process.kill()

    def send(self, message: tuple[Any, ...]) -> None:
        """Tell the child something; a child that died is noticed by `receive`."""
        with self._lock:
            try:
                self._connection.send(message)
            except OSError:
                return

    def receive(self, timeout: float | None) -> tuple[Any, ...] | None:
        """Return the child's next word; None when it said nothing in time. Raises EOFError when it died."""
        try:
            if not self._connection.poll(timeout):
                return None
            answer: tuple[Any, ...] = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return answer

    def kill(self) -> int | None:
        """End the process at once; return its exit code."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode

    @property
    def alive(self) -> bool:
        """Whether it has not died."""
        return self._process.is_alive()

    def exit_code(self) -> int | None:
        """Return how a dead child ended."""
        self._process.join(1.0)
        self._connection.close()
        return self._process.exitcode


class ProcessPool:
    """Children that are free, and as many more as there are jobs at once."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._free: list[Child] = []
        self._lock = threading.Lock()

    def run(self, attempt: Attempt) -> Outcome:
        """Run the attempt in a child; blocks this thread until it ends, is killed, or dies."""
        child = self._free_one() or Child()
        child.give(attempt)
        attempt.stop = lambda: child.stop(attempt)
        try:
            outcome = self._await(attempt, child)
        except EOFError:
            return self._died(attempt, child.exit_code())
        finally:
            child.take_back()
        if outcome is None:
            child.kill()
            attempt.timed_out = True
            self._runtime.tell(attempt, "timed_out", reason=f"{attempt.policy.timeout} s")
            late = JobTimeout(f"{verdict.too_long(attempt)}; its process was killed")
            return verdict.of_error(attempt, late)
        with self._lock:
            self._free.append(child)
        return outcome

    def _free_one(self) -> Child | None:
        """Take a child that is free and lives: one that died meanwhile would cost the job an attempt that never began."""
        while True:
            with self._lock:
                if not self._free:
                    return None
                child = self._free.pop()
            if child.alive:
                return child
            child.exit_code()

    def _await(self, attempt: Attempt, child: Child) -> Outcome | None:
        clock = self._runtime.clock
        timeout = attempt.policy.timeout
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            answer = child.receive(None if end is None else max(0.0, end - clock.monotonic()))
            if answer is None:
                return None
            if answer[0] == "progress":
                attempt.report(answer[1], answer[2])
                continue
            return self._translate(attempt, answer[1])

    def _translate(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Put this side's delivery, backoff and bound of attempts into what the child decided."""
        if isinstance(outcome, Again):
            return self._again(attempt, outcome.error, outcome.delay)
        return msgspec.structs.replace(outcome, delivery=attempt.delivery)

    def _again(self, attempt: Attempt, error: Failure | None, delay: float) -> Outcome:
        reason = "error" if error is None else error.reason
        if attempt.cancelled:
            return Dead(attempt.delivery, "cancelled", error, "cancelled")
        if attempt.number >= attempt.policy.max_attempts:
            return Dead(attempt.delivery, reason, error)
        if delay < 0:
            text = "" if error is None else f"{error.kind}: {error.message}"
            delay = verdict.wait_for(attempt, RuntimeError(text))
        return Again(attempt.delivery, delay, error)

    def _died(self, attempt: Attempt, code: int | None) -> Outcome:
        if attempt.give_back and not attempt.cancelled:
            return verdict.given_back(attempt)
        text = f"the handler's process died with exit code {code}"
        error = Failure(attempt.number, self._runtime.clock.time(), "worker_lost", "ProcessDied", text)
        return self._again(attempt, error, BY_POLICY)

    def close(self) -> None:
        """End the free children."""
        with self._lock:
            free, self._free = self._free, []
        for child in free:
            child.kill()


def _order(attempt: Attempt) -> tuple[Any, ...]:
    handler = attempt.handler
    assert handler is not None
    delivery = attempt.delivery
    sent = Delivery(delivery.message, delivery.token, delivery.attempt, delivery.generation, delivery.recovered)
    names = (handler.name, handler.fn.__module__, handler.fn.__qualname__)
    facts = (attempt.number, attempt.policy.max_attempts, attempt.ends_at)
    return (names, sent, bytes(attempt.encoded), facts)


# ----------------------------------------------------------------------------------------------------- in the child


class _Remote:
    """Stands in for the parent's runtime."""

    def __init__(self, connection: Connection) -> None:
        from queuekit.clock import SystemClock  # noqa: PLC0415 - only children need it

        self._connection = connection
        self.clock = SystemClock()

    def progress_waits(self, attempt: Attempt) -> None:
        """Send a report to the parent."""
        if attempt.progress is not None:
            self._connection.send(("progress", *attempt.progress))

    def tell(self, *_: Any, **__: Any) -> None:
        """Say nothing: events are the parent's."""

    def complete(self, *_: Any) -> None:
        """Refuse: the driver is the parent's."""
        raise ConfigurationError(BLOCKS)


def _serve(connection: Connection) -> None:
    """Run jobs until the parent goes away, which alone decides what a Ctrl-C in their terminal means."""
    signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which programs that a handler starts would inherit
    current: list[Attempt] = []
    inbox: list[tuple[Any, ...]] = []
    arrived = threading.Condition()
    cancelled: set[str] = set()
    threading.Thread(target=_listen, args=(connection, current, cancelled, inbox, arrived), daemon=True).start()
    remote = _Remote(connection)
    while True:
        with arrived:
            while not inbox:
                arrived.wait()
            order = inbox.pop(0)
        if order[0] == "end":
            return
        attempt = _attempt(order, remote)
        current[:] = [attempt]
        if attempt.delivery.message.id in cancelled:
            attempt.cancelled = True
        connection.send(("outcome", _run(attempt, order[1])))
        current.clear()
        cancelled.discard(attempt.delivery.message.id)


def _listen(
    connection: Connection,
    current: list[Attempt],
    cancelled: set[str],
    inbox: list[tuple[Any, ...]],
    arrived: threading.Condition,
) -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            message = ("end",)
        if message[0] == "cancel":
            cancelled.add(message[1])
            for attempt in current:
                if attempt.delivery.message.id == message[1]:
                    attempt.cancelled = True
            continue
        with arrived:
            inbox.append(message)
            arrived.notify()
        if message[0] == "end":
            return


def _attempt(order: tuple[Any, ...], remote: Any) -> Attempt:
    _, _, delivery, encoded, (number, max_attempts, ends_at) = order
    attempt = Attempt(delivery, remote, 0.0)
    attempt.envelope = decode(delivery.message.body)
    attempt.encoded = encoded
    attempt.number = number
    attempt.ends_at = ends_at
    attempt.policy = Policy(attempt.envelope, NO_OPTIONS)
    attempt.policy.max_attempts = max_attempts
    return attempt


def _run(attempt: Attempt, names: tuple[str, str, str]) -> Outcome:
    try:
        attempt.handler = Handler(names[0], _find(names[1], names[2]), NO_OPTIONS)
        outcome = verdict.of_result(attempt, contextvars.Context().run(_call, attempt, attempt.handler))
    except BaseException as error:
        attempt.policy.max_attempts, attempt.policy.backoff = sys.maxsize, Backoff("constant", BY_POLICY, max=BY_POLICY)
        outcome = verdict.of_error(attempt, error)
    return outcome


def _call(attempt: Attempt, handler: Handler) -> Any:
    args, kwargs = Runtime.arguments(attempt)
    context = attempt.context()
    _current.set(context)
    return handler.fn(*((context, *args) if handler.wants_context else args), **kwargs)


def _find(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return getattr(found, "fn", found)
