"""A queue in memory whose time is moved by the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from queuekit.clock import VirtualClock
from queuekit.contract import State
from queuekit.durations import Duration, seconds
from queuekit.info import JobInfo
from queuekit.jobtype import JobType
from queuekit.memory import MemoryDriver
from queuekit.queue import Queue
from queuekit.worker.inline import run_due

__all__ = ["FakeQueue", "fake"]

EVERY: tuple[State, ...] = ("pending", "scheduled", "running", "completed", "failed", "cancelled")


class FakeQueue(Queue):
    """A queue on the memory driver and a virtual clock, with asserts.

    Nothing runs by itself: `run_due` runs what is due on this thread, `advance` moves the clock and then does so.
    """

    virtual: VirtualClock

    def __init__(self, **options: Any) -> None:
        self.virtual = VirtualClock()
        super().__init__(MemoryDriver(clock=self.virtual), clock=self.virtual, **options)

    def adopt(self, queue: Queue) -> None:
        """Know another queue's handlers, hooks and codecs."""
        self.handlers, self.hooks, self.codecs = queue.handlers, queue.hooks, queue.codecs
        self._dispatcher = self._make_dispatcher()

    def run_due(self) -> int:
        """Run every job that is due, and what becomes due by that; return how many attempts it took."""
        return run_due(self)

    def advance(self, duration: Duration) -> int:
        """Let time pass, then run what has become due; return how many attempts that took."""
        self.virtual.advance(seconds("advance", duration))
        return self.run_due()

    def dispatched(self, type: str | JobType[Any, Any] | None = None, **filters: Any) -> list[JobInfo]:
        """Return what was dispatched so far and is still retained, in order, whatever became of it."""
        name = type.name if isinstance(type, JobType) else type
        found: list[JobInfo] = []
        after = None
        while True:
            page = self.jobs(type=name, state=EVERY, after=after, **filters)
            found += page
            after = page.next
            if after is None:
                return found

    def assert_dispatched(
        self,
        type: str | JobType[Any, Any],
        payload: Mapping[str, Any] | None = None,
        *,
        times: int | None = None,
        queue: str | None = None,
    ) -> JobInfo:
        """Assert that a job of this type was dispatched (with at least these payload fields); return the first."""
        found = [job for job in self.dispatched(type, queue=queue) if _has(job.payload, payload)]
        if not found or (times is not None and len(found) != times):
            wanted = "at least once" if times is None else f"{times} times"
            self._fail(
                f"{_name(type)} should have been dispatched {wanted}{_with(payload, queue)}, not {len(found)} times"
            )
        return found[0]

    def assert_dispatched_on(
        self, queue: str, type: str | JobType[Any, Any], payload: Mapping[str, Any] | None = None
    ) -> JobInfo:
        """Assert that a job of this type was dispatched on this queue; return the first."""
        return self.assert_dispatched(type, payload, queue=queue)

    def assert_not_dispatched(self, type: str | JobType[Any, Any], payload: Mapping[str, Any] | None = None) -> None:
        """Assert that no job of this type (with these payload fields) was dispatched."""
        found = [job for job in self.dispatched(type) if _has(job.payload, payload)]
        if found:
            self._fail(
                f"{_name(type)} should not have been dispatched{_with(payload, None)}, and was {len(found)} times"
            )

    def assert_nothing_dispatched(self) -> None:
        """Assert that no job at all was dispatched."""
        if self.dispatched():
            self._fail("nothing should have been dispatched")

    def _fail(self, message: str) -> NoReturn:
        listed = "".join(f"\n  {job.type} on {job.queue}: {job.payload!r} ({job.state})" for job in self.dispatched())
        raise AssertionError(f"{message}; dispatched were:{listed or ' none'}")


@contextmanager
def fake(queue: Queue) -> Iterator[FakeQueue]:
    """Let an application's own queue use the memory driver for a while; yields a queue to advance and to assert on.

    ``with fake(app.queue) as jobs: app.sign_up(…); jobs.assert_dispatched("emails.send"); jobs.run_due()``
    """
    jobs = FakeQueue(default_queue=queue.default_queue, namespace=queue.namespace, middleware=queue.middleware)
    jobs.adopt(queue)
    restore = queue.swap_driver(jobs.driver, jobs.virtual)
    try:
        yield jobs
    finally:
        restore()
        jobs.close()


def _has(payload: Any, wanted: Mapping[str, Any] | None) -> bool:
    if wanted is None:
        return True
    return isinstance(payload, Mapping) and all(name in payload and payload[name] == wanted[name] for name in wanted)


def _name(type: str | JobType[Any, Any]) -> str:
    return type.name if isinstance(type, JobType) else type


def _with(payload: Mapping[str, Any] | None, queue: str | None) -> str:
    fields = "" if payload is None else f" with {dict(payload)!r}"
    return fields + ("" if queue is None else f" on {queue!r}")
