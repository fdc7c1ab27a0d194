"""A job as a value: a type, a payload, options. Nothing is sent by making one."""

from __future__ import annotations

from typing import Any, Unpack

from queuekit.durations import checked_name
from queuekit.options import JOB_OPTIONS, NO_OPTIONS, JobOptions, Options

__all__ = ["Job"]

_known: set[str] = set()
"""Job types that were checked before: a program has few and dispatches many."""


def _checked_type(type: str) -> str:
    name = checked_name("type", type)
    if len(_known) < 10_000:
        _known.add(name)
    return name


class Job:
    """What to run, with what, and how: `Job("emails.send", {"to": "a@b.c"}, queue="mail", delay=2)`.

    The payload is any JSON value, or bytes. Options are checked here, so a bad one never gets near a backend.
    """

    __slots__ = ("options", "payload", "type")

    type: str
    payload: Any
    options: Options

    def __init__(self, type: str, payload: Any = None, **options: Unpack[JobOptions]) -> None:
        self.type = type if isinstance(type, str) and type in _known else _checked_type(type)
        self.payload = payload
        self.options = Options.build(options, where="Job", allowed=JOB_OPTIONS) if options else NO_OPTIONS

    @classmethod
    def of(cls, type: str, payload: Any, options: Options) -> Job:
        """Build a job from parts that were checked before."""
        job = cls.__new__(cls)
        job.type = type
        job.payload = payload
        job.options = options
        return job

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return (self.type, self.payload, self.options) == (other.type, other.payload, other.options)

    __hash__ = None  # type: ignore[assignment]  # a payload is seldom hashable

    def __repr__(self) -> str:
        set_ = {name: value for name in Options.__struct_fields__ if (value := getattr(self.options, name)) is not None}
        listed = "".join(f", {name}={value!r}" for name, value in set_.items())
        return f"Job({self.type!r}, <payload>{listed})"
