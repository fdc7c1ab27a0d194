"""The wall clock that deadlines go by: the backend's where it has one, so that machines whose clocks differ agree."""

from __future__ import annotations

import logging
import math

from queuekit.clock import Clock
from queuekit.contract import Driver
from queuekit.errors import DriverError

__all__ = ["BackendTime"]

_log = logging.getLogger("queuekit")
AWAY = 1.0
"""Seconds for which a backend that did not answer is not asked again: each question takes as long as the driver waits."""
FRESH = 30.0
"""Seconds for which a comparison of the clocks serves; in between the monotonic clock counts on, whatever is set here."""


class BackendTime:
    """Asks the backend when it is first needed, and then seldom: most jobs have no deadline."""

    def __init__(self, driver: Driver, features: frozenset[str], clock: Clock) -> None:
        self._driver = driver
        self._clock = clock
        self._asks = "server_clock" in features
        self._ahead: float | None = None
        """The backend's wall clock minus this process's monotonic one."""
        self._asked = 0.0
        self._away_until = -math.inf

    def now(self) -> float:
        """Return seconds since the epoch; one round trip now and then. This process's clock while the backend does not answer."""
        if not self._asks:
            return self._clock.time()
        begin = self._clock.monotonic()
        if (self._ahead is None or begin - self._asked >= FRESH) and begin >= self._away_until:
            self._compare(begin)
        return self._clock.time() if self._ahead is None else self._clock.monotonic() + self._ahead

    def _compare(self, begin: float) -> None:
        try:
            server: float = self._driver.server_time()  # type: ignore[attr-defined]  # the feature was checked
        except DriverError as error:
            _log.debug("the backend did not say its time: %s", error)
            self._away_until = self._clock.monotonic() + AWAY
            return
        self._asked = begin
        self._ahead = server - (begin + self._clock.monotonic()) / 2
