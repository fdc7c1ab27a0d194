"""queuekit: background jobs for Python with guarantees that can be checked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "queuekit.backoff": ["Backoff"],
    "queuekit.clock": ["SystemClock", "VirtualClock"],
    "queuekit.codec": ["Codec"],
    "queuekit.context": ["JobContext", "current_job"],
    "queuekit.errors": [
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
    ],
    "queuekit.events": ["Event", "Observer"],
    "queuekit.handle": ["JobHandle"],
    "queuekit.info": ["JobInfo", "JobPage"],
    "queuekit.job": ["Job"],
    "queuekit.jobtype": ["JobType"],
    "queuekit.queue": ["Middleware", "Queue"],
    "queuekit.signals": ["Cancel", "Fail", "Retry", "Snooze"],
}
"""Where each name is defined. They are loaded when first asked for: what only supervises workers needs none of them, and holds 10 MiB less."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
