"""Whether the transport has been reached: a pair opens, and accepts jobs, while it is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from queuekit.contract import Driver, DriverUnavailable
from queuekit.pairing.forking import restart_in_children

__all__ = ["Reach"]

_log = logging.getLogger("queuekit.pairing")


class Reach:
    """Opens a transport, and prepares queues there, as soon as it answers. Safe from any thread.

    What lasts (`DriverRejected`: wrong credentials, a version that is too old) is raised at once; what passes is met again by whoever
    needs the transport.
    """

    def __init__(self, transport: Driver) -> None:
        self._transport = transport
        self.start_over()
        restart_in_children(self)
        self._missing: set[str] = set()
        """Queues to be prepared."""
        self._opened = False

    def start_over(self) -> None:
        """Wait for no thread of a forked child's parent, which may have been asking the transport; the transport knows of forks itself."""
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the transport if it answers; blocks for its time limit at most."""
        try:
            self.now()
        except DriverUnavailable as error:
            _log.warning("accepted jobs wait in the store until the transport answers: %s", error)

    def prepare(self, queues: Sequence[str]) -> None:
        """Make queues exist there, now if it answers and has answered before, else as soon as it does."""
        with self._lock:
            self._missing.update(queues)
            away = not self._opened
        if away:
            return
        try:
            self.now()
        except DriverUnavailable as error:
            _log.warning("queues are prepared when the transport answers: %s", error)

    def now(self) -> None:
        """Do what is left to do before the transport can be used; raises what it answers."""
        if self._opened and not self._missing:
            return
        with self._lock:
            if not self._opened:
                self._transport.open()
                self._opened = True
            if self._missing:
                self._transport.prepare(sorted(self._missing))
                self._missing.clear()
