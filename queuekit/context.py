"""What a handler may know and say about the job it runs."""

from __future__ import annotations

import builtins
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit.errors import ConfigurationError

if TYPE_CHECKING:
    from queuekit.contract import Token
    from queuekit.worker.attempt import Attempt

__all__ = ["JobContext", "current_job"]

T = TypeVar("T")
_current: ContextVar[JobContext] = ContextVar("queuekit_job")
_log = logging.getLogger("queuekit.job")


def current_job() -> JobContext:
    """Return the context of the job that this thread or task runs; raises `ConfigurationError` outside of one."""
    try:
        return _current.get()
    except LookupError:
        message = "current_job() was called outside of a running job"
        raise ConfigurationError(message) from None


class JobContext:
    """One attempt of one job, as its handler sees it."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def id(self) -> str:
        """The job's id, the same for all its attempts."""
        return self._attempt.delivery.message.id

    @property
    def type(self) -> str:
        """The job type's name."""
        return self._attempt.envelope.type

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._attempt.delivery.message.queue

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._attempt.number

    @property
    def max_attempts(self) -> int:
        """After how many attempts it ends as failed."""
        return self._attempt.policy.max_attempts

    @property
    def payload(self) -> Any:
        """The decoded payload as plain values."""
        return self._attempt.plain_payload()

    def bind(self, type_: builtins.type[T]) -> T:
        """Return the payload as a `type_`; raises `BadPayload`, which ends the job as failed, when it does not fit."""
        return self._attempt.bind(type_)

    def progress(self, percent: float, step: str | None = None) -> None:
        """Report how far the job is, 0 to 100 (clamped). Cheap: reports are sent a few times a second, the newest wins."""
        self._attempt.report(percent, step)

    def complete(self, result: Any = None, *, connection: Any) -> None:
        """Complete this job in your own transaction on `connection`: its commit completes the job, its rollback does not.

        For handlers with `settle="transaction"`, on SQL engines. Call it last in the transaction: the lease is not renewed any
        more, and nobody else gets the job before the transaction ends. Raises `LeaseLost` when another attempt has taken
        over; nothing of the transaction can be committed then. A handler that returns without a commit has failed.
        """
        self._attempt.runtime.complete(self._attempt, result, connection)

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job's cancellation (known within about a second)."""
        return self._attempt.cancelled

    @property
    def lost(self) -> bool:
        """Whether the lease is lost: the job may run elsewhere, and nothing reported from here counts once it does.

        Known at the lease's end at the latest, also while the backend does not answer.
        """
        return self._attempt.out_of_lease

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's `timeout` ends; None without one."""
        end = self._attempt.ends_at
        return None if end is None else datetime.fromtimestamp(end, UTC)

    @property
    def fence(self) -> Token:
        """The lease's token: store it with what you write, and refuse writes that carry an older one."""
        return self._attempt.delivery.token

    @property
    def headers(self) -> dict[str, str]:
        """What the dispatcher sent along, such as trace ids."""
        return dict(self._attempt.envelope.headers or {})

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry the job's id, type and attempt."""
        fields = {"job_id": self.id, "job_type": self.type, "job_attempt": self.attempt}
        return logging.LoggerAdapter(_log, fields)
