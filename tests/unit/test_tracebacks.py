"""What is kept of an error tells of the handler, and nothing of the worker around it."""

from __future__ import annotations

import pytest

from queuekit import Job, Queue


def below() -> None:
    raise ValueError("no good")


def handler() -> None:
    below()


async def async_handler() -> None:
    below()


@pytest.mark.parametrize("fn", [handler, async_handler])
def test_a_traceback_begins_with_the_handler(fn) -> None:
    with Queue("memory://") as queue:
        queue.register("t", fn, retries=0)
        with queue.worker(concurrency=2):
            [error] = queue.dispatch(Job("t")).wait(10).errors
    frames = [line.strip() for line in error.traceback.splitlines() if line.startswith("  File ")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == [fn.__name__, "below"]
    assert error.traceback.endswith("ValueError: no good\n")


def test_the_cause_is_kept_with_its_own_frames():
    def chained() -> None:
        try:
            below()
        except ValueError as error:
            raise RuntimeError("outer") from error

    with Queue("memory://") as queue:
        queue.register("t", chained, retries=0)
        with queue.worker(concurrency=1):
            [error] = queue.dispatch(Job("t")).wait(10).errors
    assert "ValueError: no good" in error.traceback
    assert "direct cause" in error.traceback
    assert "queuekit/worker" not in error.traceback


def test_a_payload_that_does_not_fit_fails_with_its_own_reason():
    def wants_text(name: str) -> None:
        del name

    with Queue("memory://") as queue:
        queue.register("t", wants_text, retries=0)
        other = Queue(queue.driver)  # it does not know the handler, so it sends what does not fit
        with queue.worker(concurrency=1):
            info = other.dispatch(Job("t", {"name": 5})).wait(10)
    assert info.reason == "bad_payload"
