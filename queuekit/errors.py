"""Every error of queuekit: one small tree, each class saying whose fault it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "AmbiguousDispatch",
    "AuthError",
    "BackendFull",
    "BadPayload",
    "ConfigError",
    "ConfigurationError",
    "DispatchCancelled",
    "DispatchError",
    "DispatchTimeout",
    "DriverError",
    "DriverRejected",
    "DriverUnavailable",
    "DuplicateJob",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobTimeout",
    "LeaseLost",
    "NotFound",
    "PartialDispatch",
    "PayloadTooLarge",
    "PoolTimeout",
    "QueueClosed",
    "QueuekitError",
    "UnknownJob",
    "UnsupportedError",
    "WorkflowNotFound",
]


class QueuekitError(Exception):
    """Any error that queuekit raises on purpose; catch it to catch them all."""

    retryable: bool = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the text and the fields, so that an error survives the way between processes."""
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[QueuekitError], args: tuple[object, ...], fields: dict[str, object]) -> QueuekitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigurationError(QueuekitError):
    """The program's author asked for something that cannot work: correct the call that the message names."""


ConfigError = ConfigurationError


class UnsupportedError(ConfigurationError):
    """The driver lacks what was asked for; the message names the driver, the feature and the remedy."""

    def __init__(self, message: str, *, driver: str = "", feature: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.driver = driver
        self.feature = feature
        self.remedy = remedy


class DispatchError(QueuekitError):
    """A dispatch was not, or may not have been, accepted; the subclass says which."""

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class PayloadTooLarge(DispatchError):
    """The encoded job exceeds what the driver can carry: store the data elsewhere and send its address."""

    def __init__(self, message: str, *, size: int = 0, limit: int = 0, job_id: str | None = None) -> None:
        super().__init__(message, job_id=job_id)
        self.size = size
        self.limit = limit


class DuplicateJob(DispatchError):
    """A unique job with the same scope is unfinished, and `on_conflict="raise"` was asked for; `job_id` is that job."""


class DispatchTimeout(DispatchError):
    """The caller's time ran out before anything was sent: nothing was stored, and repeating is safe."""

    retryable = True


class DispatchCancelled(DispatchError):
    """The caller withdrew before anything was sent: nothing was stored."""


class PartialDispatch(DispatchError):
    """Some jobs of a batch were accepted and others not.

    `accepted` are ids that will run; `failed` maps an id to the error that provably kept it out; `unknown` maps an id to
    the error that hid the answer (dispatching those again with the same id is safe where ids are unique).
    """

    def __init__(
        self,
        message: str,
        *,
        accepted: Sequence[str] = (),
        failed: Mapping[str, Exception] | None = None,
        unknown: Mapping[str, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.accepted = list(accepted)
        self.failed = dict(failed or {})
        self.unknown = dict(unknown or {})


class AmbiguousDispatch(DispatchError):
    """The request left this process and no answer came: the job may or may not have been accepted.

    Dispatching again with `id=error.job_id` is safe where ids are unique.
    """

    retryable = True


class DriverError(QueuekitError):
    """The backend failed or refused; the original error is the cause."""


class DriverUnavailable(DriverError):
    """The backend cannot be reached or is busy; it is expected to pass, and the worker waits for it."""

    retryable = True


class BackendFull(DriverUnavailable):
    """The backend has no room (memory, disk, quota): free some; nothing was half-written."""


class PoolTimeout(DriverUnavailable):
    """No connection of the pool became free in time: enlarge the pool or use fewer threads."""


class DriverRejected(DriverError):
    """The backend refuses lastingly (credentials, permissions, a corrupt or foreign file): someone must act."""


AuthError = DriverRejected


class QueueClosed(DriverError):
    """The queue was closed; build a new one."""


class JobError(QueuekitError):
    """Something about one job, not about the queue."""

    def __init__(self, message: str = "", *, job_id: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.reason = reason


class JobTimeout(JobError):
    """An attempt ran longer than the job's `timeout`; raised inside the handler, and counted as a failed attempt."""


class JobCancelled(JobError):
    """The job was cancelled; from `result()` it says that no result will come."""


class JobFailed(JobError):
    """The job ended as failed; `reason` is the record's reason and the message its last error."""


class LeaseLost(JobError):
    """The lease ran out and the job may run elsewhere: stop, nothing that this attempt reports counts any more."""


class UnknownJob(JobError):
    """No handler is registered for this job type in this process."""


class BadPayload(JobError):
    """The payload does not fit the handler; `path` names the field that is wrong."""

    def __init__(
        self, message: str = "", *, job_id: str | None = None, reason: str | None = "bad_payload", path: str = "$"
    ) -> None:
        super().__init__(message, job_id=job_id, reason=reason)
        self.path = path


class NotFound(QueuekitError):
    """What was asked for does not exist, or is no longer retained."""


class JobNotFound(NotFound):
    """No such job, or its record is past its retention."""


class WorkflowNotFound(NotFound):
    """No such workflow, or its record is past its retention."""
