"""What a queue, its workers and its dispatches refuse at once, naming argument, kind and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from queuekit import ConfigurationError, Job, Queue, SystemClock


@pytest.fixture
def queue() -> Iterator[Queue]:
    with Queue("memory://") as made:
        yield made


class Nameless:
    def encode(self, data: bytes) -> str:
        return data.decode()

    def decode(self, text: str) -> bytes:
        return text.encode()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, 5) for name in ("clock", "codec", "codecs", "redact", "requires", "middleware", "observers", "store")),
        ("clock", 0),
        ("clock", SystemClock),
        ("codec", Nameless()),
        ("codecs", [5]),
        ("codecs", "json"),
        ("requires", "browse"),
        ("redact", False),
    ],
)
def test_a_queue_refuses_what_it_cannot_use(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{option}=.* \(\w+\) is refused: give "):
        Queue("memory://", **{option: value})


@pytest.mark.parametrize("queues", [5, "high", [5], [["high"]], {5: 1}, {"high": "3"}, True, object()])
def test_a_worker_refuses_queues_that_are_none(queue: Queue, queues: Any) -> None:
    calls: list[Callable[..., object]] = [queue.worker, queue.start_workers]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"queue.* is refused: "):
            call(queues=queues)


@pytest.mark.parametrize("jobs", [5, None, Job("t")])
def test_many_jobs_are_a_list(queue: Queue, jobs: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"jobs=.* is refused: give a list of Job values"):
        queue.dispatch_many(jobs)


@pytest.mark.parametrize("cancel", [True, False, 5])
def test_a_dispatch_is_withdrawn_by_an_event(queue: Queue, cancel: Any) -> None:
    for call in (
        lambda: queue.dispatch(Job("t"), cancel=cancel),
        lambda: queue.dispatch_many([Job("t")], cancel=cancel),
    ):
        with pytest.raises(ConfigurationError, match=r"cancel=.* is refused: give a threading.Event"):
            call()
    assert queue.jobs() == []


def test_workers_of_the_same_arguments_are_the_same(queue: Queue) -> None:
    first = queue.start_workers(4, queues=["a", "b"], lease=30)
    assert queue.start_workers(4, queues={"b": 1, "a": 1}, lease=timedelta(seconds=30)) is first
    assert queue.start_workers(4, queues=("a", "b"), lease=30.0) is first
    for other in ({"queues": None}, {"queues": ["a"]}, {"lease": 31}, {"concurrency": 5}):
        with pytest.raises(ConfigurationError, match=r"workers run already with .*'lease': 30.0.*call shutdown"):
            queue.start_workers(**{"concurrency": 4, "queues": ["a", "b"], "lease": 30, **other})  # type: ignore[arg-type]
