"""What a program wants to do when a worker or a job starts or stops, such as closing stale database connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from queuekit.errors import ConfigurationError

__all__ = ["Hooks"]

F = TypeVar("F", bound=Callable[..., Any])
Moment = Literal["worker_start", "worker_stop", "job_start", "job_end"]


class Hooks:
    """Functions to call at four moments, in the order in which they were added; stops and ends in reverse."""

    def __init__(self) -> None:
        self._functions: dict[str, tuple[Callable[..., Any], ...]] = {}
        self.per_job = False
        """Whether any job hook exists: without one, jobs pay nothing."""

    def add(self, moment: Moment, fn: F) -> F:
        """Call `fn` at this moment from now on."""
        if not callable(fn):
            message = f"on_{moment}({fn!r}) is refused: give a function"
            raise ConfigurationError(message)
        before = self._functions.get(moment, ())
        self._functions[moment] = (*before, fn) if moment.endswith("start") else (fn, *before)
        self.per_job = self.per_job or moment.startswith("job")
        return fn

    def call(self, moment: Moment, *args: Any) -> None:
        """Call the functions of a moment; the first error ends a start, and is raised after all of a stop have run."""
        errors: list[Exception] = []
        for fn in self._functions.get(moment, ()):
            try:
                fn(*args)
            except Exception as error:
                if moment.endswith("start"):
                    raise
                errors.append(error)
        if errors:
            raise errors[0]
