"""A dispatched job, as its dispatcher holds it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from queuekit.durations import Duration, seconds
from queuekit.errors import JobCancelled, JobFailed, JobNotFound
from queuekit.info import JobInfo

if TYPE_CHECKING:
    from queuekit.contract import State
    from queuekit.queue import Queue

__all__ = ["JobHandle"]

R_co = TypeVar("R_co", covariant=True)
FIRST_LOOK, SLOWEST_LOOK = 0.001, 0.05
"""Seconds between looks while waiting: from quick, for jobs of a millisecond, to what costs a backend nothing."""
ENDED = frozenset({"completed", "failed", "cancelled"})


class JobHandle(Generic[R_co]):
    """One job by its id. Only `id` and `created` are known without asking the backend.

    Every other member needs the feature `browse` or `control` and raises `UnsupportedError` where the driver lacks it,
    and `JobNotFound` when there is no such job or its record is past its retention.
    """

    __slots__ = ("_queue", "created", "id")

    def __init__(self, queue: Queue, id: str, created: bool = True) -> None:
        self._queue = queue
        self.id = id
        self.created = created
        """False when a unique job's scope was taken: this is the earlier job."""

    @property
    def state(self) -> State:
        """The job's state now."""
        return self.info().state

    def info(self) -> JobInfo:
        """All that is known of the job now."""
        return self._queue.info(self.id)

    def wait(self, timeout: Duration | None = None) -> JobInfo:
        """Block until the job has ended, at most `timeout` seconds; raises `TimeoutError`."""
        limit = None if timeout is None else seconds("timeout", timeout)
        end = None if limit is None else time.monotonic() + limit
        pause = FIRST_LOOK
        while (info := self.info()).state not in ENDED:
            left = SLOWEST_LOOK if end is None else end - time.monotonic()
            if left <= 0:
                message = f"job {self.id} is still {info.state} after {limit} s"
                raise TimeoutError(message)
            time.sleep(min(pause, left))
            pause = min(pause * 2, SLOWEST_LOOK)
        return info

    def result(self, timeout: Duration | None = None) -> R_co:
        """Wait, and return what the handler returned; raises `JobFailed`, `JobCancelled` or `TimeoutError`."""
        info = self.wait(timeout)
        if info.state == "failed":
            last = info.errors[-1] if info.errors else None
            told = [] if last is None else [text for text in (last.kind, last.message) if text]
            message = ": ".join([f"job {self.id} ({info.type}) failed ({info.reason})", *told])
            raise JobFailed(message, job_id=self.id, reason=info.reason)
        if info.state == "cancelled":
            message = f"job {self.id} ({info.type}) was cancelled"
            raise JobCancelled(message, job_id=self.id, reason=info.reason)
        if info.result_error is not None:
            message = f"job {self.id} completed, and its result was not kept: {info.result_error}"
            raise JobNotFound(message)
        return cast("R_co", info.result)

    def cancel(self) -> bool:
        """Ask for cancellation; False when the job has ended already. A running job is told, and may still complete."""
        return bool(self._queue.cancel(self.id))

    def retry(self) -> bool:
        """Start a failed or cancelled job over; False in any other state."""
        return bool(self._queue.retry(self.id))

    def delete(self) -> bool:
        """Remove the job and its record; False while it runs."""
        return bool(self._queue.delete(self.id))

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


AnyHandle = JobHandle[Any]
