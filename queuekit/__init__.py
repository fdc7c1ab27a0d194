"""queuekit: background jobs for Python with guarantees that can be checked."""

from queuekit.backoff import Backoff
from queuekit.clock import SystemClock, VirtualClock
from queuekit.codec import Codec
from queuekit.context import JobContext, current_job
from queuekit.errors import (
    AmbiguousDispatch,
    AuthError,
    BackendFull,
    BadPayload,
    ConfigError,
    ConfigurationError,
    DispatchCancelled,
    DispatchError,
    DispatchTimeout,
    DriverError,
    DriverRejected,
    DriverUnavailable,
    DuplicateJob,
    JobCancelled,
    JobError,
    JobFailed,
    JobNotFound,
    JobTimeout,
    LeaseLost,
    NotFound,
    PartialDispatch,
    PayloadTooLarge,
    PoolTimeout,
    QueueClosed,
    QueuekitError,
    UnknownJob,
    UnsupportedError,
    WorkflowNotFound,
)
from queuekit.events import Event, Observer
from queuekit.handle import JobHandle
from queuekit.info import JobInfo, JobPage
from queuekit.job import Job
from queuekit.jobtype import JobType
from queuekit.queue import Middleware, Queue
from queuekit.signals import Cancel, Fail, Retry, Snooze

__version__ = "0.1.0"

__all__ = [
    "AmbiguousDispatch",
    "AuthError",
    "BackendFull",
    "Backoff",
    "BadPayload",
    "Cancel",
    "Codec",
    "ConfigError",
    "ConfigurationError",
    "DispatchCancelled",
    "DispatchError",
    "DispatchTimeout",
    "DriverError",
    "DriverRejected",
    "DriverUnavailable",
    "DuplicateJob",
    "Event",
    "Fail",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobError",
    "JobFailed",
    "JobHandle",
    "JobInfo",
    "JobNotFound",
    "JobPage",
    "JobTimeout",
    "JobType",
    "LeaseLost",
    "Middleware",
    "NotFound",
    "Observer",
    "PartialDispatch",
    "PayloadTooLarge",
    "PoolTimeout",
    "Queue",
    "QueueClosed",
    "QueuekitError",
    "Retry",
    "Snooze",
    "SystemClock",
    "UnknownJob",
    "UnsupportedError",
    "VirtualClock",
    "WorkflowNotFound",
    "current_job",
]
