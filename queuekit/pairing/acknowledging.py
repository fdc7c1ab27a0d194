"""Lets go of tickets in the background, so that a claim need not wait for the transport's answer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from queuekit.contract import Driver, DriverError, Outcome
from queuekit.pairing.forking import restart_in_children

__all__ = ["Acknowledging"]

_log = logging.getLogger("queuekit.pairing")

MOMENT = 0.05
"""Seconds that a claim waits for acknowledgements at most."""
IDLE = 1.0
"""Seconds without a ticket after which the thread ends."""


class Acknowledging:
    """Settles tickets with the transport: at once, or from a thread, where those of several claims become one call.

    Safe from any thread. A ticket that was not acknowledged comes back, is found lent or finished, and dropped.
    """

    def __init__(self, transport: Driver) -> None:
        self._transport = transport
        self._closed = False
        self.start_over()
        restart_in_children(self)

    def start_over(self) -> None:
        """Know of no ticket: those of a forked child's parent are the parent's."""
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._waiting: deque[Outcome] = deque()
        self._under_way = 0
        self._thread: threading.Thread | None = None

    def now(self, outcomes: Sequence[Outcome]) -> None:
        """Let go of tickets before this returns."""
        try:
            self._transport.settle(outcomes)
        except DriverError as error:
            _log.warning(
                "%d tickets were not acknowledged, and will be dropped when they return: %s", len(outcomes), error
            )

    def soon(self, outcomes: Sequence[Outcome]) -> None:
        """Let go of tickets from the thread, started where none is at work."""
        with self._lock:
            self._waiting.extend(outcomes)
            self._under_way += len(outcomes)
            if self._thread is None or not self._thread.is_alive():  # an error ends it
                self._thread = threading.Thread(target=self._run, name="queuekit-tickets", daemon=True)
                self._thread.start()
            self._more.notify_all()

    def catch_up(self) -> None:
        """Block until all is acknowledged, for a moment at most: a transport counts what is not, and sends less, or anew."""
        with self._lock:
            self._more.wait_for(lambda: not self._under_way, MOMENT)

    def _run(self) -> None:
        while outcomes := self._next():
            try:
                self.now(outcomes)
            finally:
                with self._lock:
                    self._under_way -= len(outcomes)
                    self._more.notify_all()

    def _next(self) -> list[Outcome]:
        """Return what waits, in one piece that the transport takes; nothing when the thread is to end."""
        with self._lock:
            if not self._waiting and not self._closed:
                self._more.wait(IDLE)
            found = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._transport.limits.batch))]
            if not found:
                self._thread = None
            return found

    def close(self) -> None:
        """Let go of what waits, and end the thread. Idempotent; blocks for a round trip, at most some seconds."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._more.notify_all()
        if thread is not None:
            thread.join(5)
