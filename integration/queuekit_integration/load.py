"""A producer that goes on through every fault, and writes into the history what it knows of each dispatch."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from queuekit import AmbiguousDispatch, DispatchTimeout, DriverUnavailable, Job, Queue
from queuekit.ids import new_id
from queuekit_integration.history import Recorder

__all__ = ["Load"]

PAUSE = 0.02
"""Seconds between two tries."""


class Load:
    """Dispatches `count` jobs, one by one, each until it was accepted.

    After an ambiguous answer it dispatches the same id again, until it is accepted: one job, where ids are unique; elsewhere it takes another id, and the
    history knows of the first that it may run or not. After a definite failure, and no ambiguous one before it, it takes another id, so that a job that was
    stored all the same shows in the history as one that ran after its failure.
    """

    def __init__(
        self, queue: Queue, recorder: Recorder, count: int, job: Callable[[int], Job], *, pause: float = 0.0
    ) -> None:
        self.ids: list[str] = []
        """The jobs that were accepted."""
        self.errors: Counter[str] = Counter()
        """What was answered instead of an acceptance, by the error's name."""
        self._queue = queue
        self._recorder = recorder
        self._count = count
        self._job = job
        self._pause = pause
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> Load:
        """Begin, on a thread of its own."""
        self._thread.start()
        return self

    def wait(self, seconds: float = 60.0) -> list[str]:
        """Block until all were accepted, and return their ids; raises what no producer has to expect."""
        self._thread.join(seconds)
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), (
            f"{len(self.ids)} of {self._count} jobs accepted in {seconds} s; {self.errors}"
        )
        return self.ids

    def _run(self) -> None:
        try:
            for number in range(self._count):
                self._dispatch(self._job(number))
                time.sleep(self._pause)
        except BaseException as error:  # `wait` raises it
            self._failure = error

    def _dispatch(self, job: Job) -> None:
        id, unsure = new_id(), False
        while True:
            options = msgspec.structs.replace(job.options, id=id)
            self._recorder.dispatch("invoke", id, key=options.key, delay=_seconds(options.delay))
            try:
                self._queue.dispatch(Job.of(job.type, job.payload, options))
            except AmbiguousDispatch as error:
                self._failed("info", id, error)
                unsure = self._queue.driver.limits.unique_ids
                id = id if unsure else new_id()
            except (DriverUnavailable, DispatchTimeout) as error:
                self._failed("info" if unsure else "fail", id, error)
                id = id if unsure else new_id()
            else:
                self._recorder.dispatch("ok", id)
                self.ids.append(id)
                return
            time.sleep(PAUSE)

    def _failed(self, answer: str, id: str, error: Exception) -> None:
        self.errors[type(error).__name__] += 1
        self._recorder.dispatch("info" if answer == "info" else "fail", id)


def _seconds(delay: object) -> float:
    return float(delay) if isinstance(delay, int | float) else 0.0
