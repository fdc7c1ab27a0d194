"""How fast a worker works, as its signs of life say it."""

from __future__ import annotations

import pytest

from queuekit import Job, Queue, VirtualClock
from queuekit.contract import Again, Dead, Delivery, Done, Message, Released
from queuekit.worker.pace import Pace

DELIVERY = Delivery(Message("id", "q", "t", "{}"), 1, 1)


def test_what_is_settled_is_counted_from_reading_to_reading():
    clock = VirtualClock()
    pace = Pace(clock)
    pace.note([Done(DELIVERY)] * 6 + [Again(DELIVERY)] * 2 + [Dead(DELIVERY, "error"), Released(DELIVERY)])
    clock.advance(2)
    assert pace.per_second() == (3.0, 1.5)
    clock.advance(2)
    assert pace.per_second() == (0.0, 0.0)


def test_two_readings_at_once_are_no_division_by_zero():
    pace = Pace(VirtualClock())
    pace.note([Done(DELIVERY)])
    assert pace.per_second() == (0.0, 0.0)


@pytest.mark.parametrize("settle", ["batch", "sync"])
def test_a_worker_counts_what_it_settles(settle: str):
    queue = Queue("memory://")
    queue.register("t", lambda: None)
    with queue.worker(concurrency=2) as worker:
        worker.ready(10)
        for _ in range(5):
            queue.dispatch(Job("t", settle=settle)).wait(10)
        queue.drain(10)
        completed, failed = worker._pace.per_second()
    assert completed > 0
    assert failed == 0
