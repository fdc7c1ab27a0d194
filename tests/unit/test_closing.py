"""A closed queue says so, whatever it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queuekit import Job, Queue, QueueClosed
from queuekit.ids import new_id
from queuekit.testing import fake

ADDRESSES = (
    "memory://",
    "sync://",
    "null://",
    "sqlite:///{path}",
    "redis://h",
    "postgresql://h/d",
    "amqp://h",
    "sqs://eu-west-1",
)
CALLS: tuple[Callable[[Queue], Any], ...] = (
    Queue.open,
    Queue.__enter__,
    Queue.worker,
    Queue.start_workers,
    lambda queue: queue.dispatch(Job("t")),
    lambda queue: queue.dispatch_many([Job("t")]),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_closed_queue_says_so(address: str, tmp_path: Path) -> None:
    queue = Queue(address.format(path=tmp_path / "no" / "folder" / "jobs.db"))
    queue.close()
    for call in CALLS:
        with pytest.raises(QueueClosed, match="this queue was closed; build a new one"):
            call(queue)
    queue.close()


@pytest.mark.parametrize("address", ["memory://", "sqlite:///{path}"])
def test_a_queue_that_was_used_and_closed_says_so(address: str, tmp_path: Path) -> None:
    with Queue(address.format(path=tmp_path / "jobs.db")) as queue:
        queue.dispatch(Job("t"))
    for call in (*CALLS, Queue.jobs, Queue.stats, lambda queue: queue.get(new_id())):
        with pytest.raises(QueueClosed, match="this queue was closed; build a new one"):
            call(queue)


def test_an_application_that_closes_its_queue_can_be_tested_again() -> None:
    app = Queue("memory://")
    for _ in range(2):
        with fake(app) as jobs:
            app.dispatch(Job("t"))
            jobs.assert_dispatched("t")
            app.close()
    app.dispatch(Job("t"))
