"""A decorated handler: still the function, and typed ways to dispatch it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from queuekit.handle import JobHandle
from queuekit.job import Job
from queuekit.options import JOB_OPTIONS, NO_OPTIONS, JobOptions, Options

if TYPE_CHECKING:
    from queuekit.handlers import Handler
    from queuekit.queue import Queue

__all__ = ["BoundJob", "JobType"]

P = ParamSpec("P")
R = TypeVar("R")


class BoundJob(Generic[P, R]):
    """A job type together with options for the next dispatches."""

    __slots__ = ("_handler", "_options", "_queue")

    def __init__(self, queue: Queue, handler: Handler, options: Options) -> None:
        self._queue = queue
        self._handler = handler
        self._options = options

    def dispatch(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Send the job; return once the backend has accepted it.

        Raises `BadPayload` or `ConfigurationError` before anything is sent; `DriverUnavailable` when provably nothing
        was stored; `AmbiguousDispatch` when no answer came.
        """
        return self._queue.dispatch_to(self._handler, self._options, self._handler.binder.payload(args, kwargs))

    async def dispatch_async(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Send the job without ever blocking this thread's event loop; concurrent calls travel in one batch."""
        handle: JobHandle[R] = await self._queue.dispatch_async(self.job(*args, **kwargs))
        return handle

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Return the job as a value; nothing is sent."""
        return Job.of(self._handler.name, self._handler.binder.payload(args, kwargs), self._options)


class JobType(BoundJob[P, R]):
    """What `@queue.job` makes of a function. Calling it calls the function, here and now."""

    def __init__(self, queue: Queue, handler: Handler) -> None:
        super().__init__(queue, handler, NO_OPTIONS)
        functools.update_wrapper(self, handler.fn)

    __slots__ = ("__dict__", "__wrapped__")

    @property
    def name(self) -> str:
        """The job type's name."""
        return self._handler.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The plain function."""
        return self._handler.fn

    def using(self, **options: Unpack[JobOptions]) -> BoundJob[P, R]:
        """Return the same job type with options for what is dispatched through it: `f.using(delay=60).dispatch(…)`."""
        checked = Options.build(options, where="using", allowed=JOB_OPTIONS, base=self._handler.options)
        return BoundJob(self._queue, self._handler, checked)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function."""
        return self._handler.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job type {self.name!r}>"
