"""What happened, for whoever wants to know: one flat event, and observers that cannot harm a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from queuekit.errors import ConfigurationError

__all__ = ["Event", "EventKind", "Events", "Observer"]

EventKind: TypeAlias = Literal[
    "dispatched",
    "claimed",
    "started",
    "finished",
    "completed",
    "retrying",
    "snoozed",
    "released",
    "failed",
    "cancelled",
    "settled",
    "settle_lost",
    "timed_out",
    "lease_lost",
    "attempt_stuck",
    "unknown_type",
    "undecodable",
    "backoff_failed",
    "result_error",
    "worker_started",
    "worker_stopped",
    "driver_unavailable",
    "driver_recovered",
    "observer_failed",
]
"""One job's way: dispatched, claimed, started, finished (the handler returned or raised), then exactly one of
completed, retrying, snoozed, released, failed, cancelled, and settled once the backend accepted that. `settle_lost`
stands in the place of `settled` when the lease was not this worker's any more."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. Fields that do not apply are None. Never holds a payload."""

    kind: EventKind
    at: float
    """Seconds since the epoch, by the clock of the process that saw it."""
    queue: str | None = None
    job_id: str | None = None
    job_type: str | None = None
    attempt: int | None = None
    token: int | str | None = None
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    """The exception's class name and message."""
    duration: float | None = None
    """Seconds that the handler ran."""
    delay: float | None = None
    """Seconds until it will be tried again."""
    version: int = 1
    """Of this class: a field is only ever added."""


Observer = Callable[[Event], object]
_log = logging.getLogger("queuekit")


class Events:
    """Hands events to observers. With none, nothing is built: callers ask `active` first."""

    def __init__(self, observers: tuple[Observer, ...] = (), *, now: Callable[[], float] = time.time) -> None:
        self._observers: tuple[Observer, ...] = ()
        self._now = now
        for observer in observers:
            self.add(observer)

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return bool(self._observers)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Listen from now on; call what is returned to stop."""
        if not callable(observer):
            message = (
                f"observer={observer!r} ({type(observer).__name__}) is refused: give a callable that takes an Event"
            )
            raise ConfigurationError(message)
        self._observers = (*self._observers, observer)
        return lambda: self._remove(observer)

    def _remove(self, observer: Observer) -> None:
        self._observers = tuple(o for o in self._observers if o is not observer)

    def emit(self, kind: EventKind, **fields: Any) -> None:
        """Tell every observer; one that raises is reported to the log and to the others, and harms nobody."""
        if self._observers:
            self._hand_out(Event(kind, self._now(), **fields))

    def _hand_out(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except (Exception, SystemExit) as error:
                _log.exception("the observer %r failed on %s", observer, event.kind)
                self._tell_of_failure(observer, event, error)

    def _tell_of_failure(self, guilty: Observer, event: Event, error: BaseException) -> None:
        report = Event(
            "observer_failed",
            self._now(),
            job_id=event.job_id,
            reason=event.kind,
            error=f"{type(error).__name__}: {error}",
        )
        for observer in self._observers:
            if observer is not guilty and event.kind != "observer_failed":
                self._hand_to(observer, report)

    @staticmethod
    def _hand_to(observer: Observer, event: Event) -> None:
        try:
            observer(event)
        except (Exception, SystemExit):
            _log.exception("the observer %r failed on %s", observer, event.kind)
