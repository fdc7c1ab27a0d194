"""What a queue, its workers and its dispatches refuse at once, naming argument, kind and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from queuekit import BadPayload, ConfigurationError, Job, Queue, SystemClock


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


def test_a_call_that_does_not_fit_names_the_job_type(queue: Queue) -> None:
    @queue.job(name="sums.add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    @queue.job(name="sums.whole")
    def whole(payload: int) -> int:
        return payload

    calls: list[tuple[Callable[[], Any], str]] = [
        (add.dispatch, r"^'sums.add' needs the argument 'a'$"),
        (lambda: add.job(1, 2, 3), r"^'sums.add' takes 2 positional arguments, not 3$"),  # type: ignore[call-arg]
        (lambda: add.using(delay=1).dispatch(1, a=2), r"^'sums.add' got the argument 'a' twice$"),  # type: ignore[misc]
        (lambda: add.dispatch("x"), r"^the payload does not fit the handler of 'sums.add': "),  # type: ignore[arg-type]
        (whole.dispatch, r"^'sums.whole' takes exactly one argument, `payload`$"),
    ]
    for call, told in calls:
        with pytest.raises(BadPayload, match=told):
            call()


@pytest.mark.parametrize("rate", ["0/s", "1/0s", "1/0.0m"])
def test_a_rate_of_nothing_is_refused_by_what_it_may_be(rate: str) -> None:
    with pytest.raises(ConfigurationError, match="the count must be at least 1, and the time more than 0"):
        Job("a", rate_limit=rate)


def test_a_rate_may_count_in_parts_of_a_second() -> None:
    assert Job("a", rate_limit="3/0.5s").options.rate_limit == (3, 0.5)
