"""What a worker was pushed and does not run: it goes to others in its place, and loses no attempt by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from queuekit.contract import Delivery, Done, Message, Released
from queuekit.ids import new_id
from queuekit_integration.harness import wait_until
from queuekit_rabbitmq import RabbitMQDriver

Make = Callable[..., RabbitMQDriver]
QUEUE_TYPES = ("quorum", "classic")


def message(body: object, **fields: Any) -> Message:
    return Message(new_id(), fields.pop("queue", "default"), "t", str(body), **fields)


def bodies(found: list[Delivery]) -> list[str]:
    return [delivery.message.body for delivery in found]


def run_all(driver: RabbitMQDriver, count: int, *, seconds: float = 20.0) -> list[Delivery]:
    """Run jobs one by one, as a worker with one slot does, until so many have come."""
    came: list[Delivery] = []

    def all_came() -> bool:
        found = driver.claim(["default"], limit=20, free=1, lease=30, wait=0.5)
        driver.settle([Done(delivery) for delivery in found])
        came.extend(found)
        return len(came) >= count

    wait_until(all_came, f"{count} jobs", seconds=seconds)
    return came


def hold(driver: RabbitMQDriver, limit: int = 20) -> list[Delivery]:
    """Claim as a worker of quick jobs does, so that more are pushed than it has slots for."""
    found: list[Delivery] = wait_until(
        lambda: driver.claim(["default"], limit=limit, free=1, lease=30, wait=1), "jobs to be pushed"
    )
    return found


@pytest.mark.parametrize("queue_type", QUEUE_TYPES)
def test_what_a_slow_worker_gives_back_keeps_its_order_for_that_worker(make: Make, queue_type: str) -> None:
    driver = make(queue_type=queue_type)
    driver.send([message(number) for number in range(200)])
    came: list[Delivery] = []
    for _ in range(3):
        running, *prefetched = hold(driver)
        driver.settle([Released(delivery) for delivery in prefetched])  # the worker sees that its slot is slow
        time.sleep(1.4)  # what is pushed and not claimed goes back meanwhile
        driver.settle([Done(running)])
        came += [running, *run_all(driver, 30)]
    came += run_all(driver, 200 - len(came))
    assert bodies(came) == [str(number) for number in range(200)]
    assert {delivery.attempt for delivery in came} == {1}


@pytest.mark.parametrize("queue_type", QUEUE_TYPES)
def test_what_a_slow_worker_does_not_run_others_run_soon_in_order_and_uncharged(make: Make, queue_type: str) -> None:
    slow, other = make(queue_type=queue_type), make(queue_type=queue_type)
    slow.send([message(number) for number in range(40)])
    found = hold(slow)
    assert other.claim(["default"], limit=1, free=1, lease=30, wait=0.1) or True
    begin = time.monotonic()
    came = run_all(other, 40 - len(found) - 1)
    assert time.monotonic() - begin < 5
    assert {delivery.attempt for delivery in came} == {1}
    assert set(bodies(came)).isdisjoint(bodies(found))


@pytest.mark.parametrize("queue_type", QUEUE_TYPES)
def test_a_worker_that_starts_runs_first_what_another_gave_back_when_it_stopped(make: Make, queue_type: str) -> None:
    stopped = make(queue_type=queue_type)
    stopped.send([message(number) for number in range(100)])
    found = hold(stopped)
    stopped.settle([Done(found[0])])
    stopped.settle([Released(delivery) for delivery in found[1:]])
    stopped.close()
    came = run_all(make(queue_type=queue_type), 99)
    assert bodies(came) == [str(number) for number in range(1, 100)]
    assert {delivery.attempt for delivery in came} == {1}


@pytest.mark.parametrize("queue_type", QUEUE_TYPES)
def test_a_worker_that_stops_amid_the_flow_charges_no_job_that_it_did_not_run(make: Make, queue_type: str) -> None:
    sender, total = make(queue_type=queue_type), 6000
    flow = threading.Thread(
        target=lambda: [sender.send([message(n) for n in range(start, start + 100)]) for start in range(0, total, 100)]
    )
    flow.start()
    done: list[Delivery] = []
    for _ in range(5):
        driver = make(queue_type=queue_type)
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            found = driver.claim(["default"], limit=200, free=200, lease=30, wait=0.2)
            driver.settle([Done(delivery) for delivery in found])
            done += found
        driver.close()
    flow.join()
    last = make(queue_type=queue_type)
    while len(done) < total:
        found = last.claim(["default"], limit=200, free=200, lease=30, wait=5)
        assert found, f"{len(done)} of {total} jobs came"
        last.settle([Done(delivery) for delivery in found])
        done += found
    assert len({delivery.message.body for delivery in done}) == total
    assert [delivery.message.body for delivery in done if delivery.attempt > 1] == []


def test_workers_of_different_queues_in_one_process_leave_one_another_what_they_were_pushed(make: Make) -> None:
    driver = make()
    driver.send([message(number, queue=queue) for number in range(30) for queue in ("default", "other")])
    came: dict[str, list[Delivery]] = {"default": [], "other": []}
    for _ in range(60):
        for queue in came:
            found = driver.claim([queue], limit=4, free=1, lease=30, wait=0.1)
            driver.settle([Done(delivery) for delivery in found])
            came[queue] += found
    for found in came.values():
        assert bodies(found) == [str(number) for number in range(30)]
        assert {delivery.attempt for delivery in found} == {1}


def test_a_waiting_worker_hears_at_once_of_what_another_gives_back(make: Make) -> None:
    one, two = make(), make()
    one.send([message("first")])
    held = hold(one)
    two.claim(["default"], limit=1, free=1, lease=30, wait=0.1)
    took: list[float] = []

    def wait_for_it() -> None:
        begin = time.monotonic()
        assert bodies(two.claim(["default"], limit=1, free=1, lease=30, wait=5)) == ["first"]
        took.append(time.monotonic() - begin)

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    time.sleep(0.3)
    one.settle([Released(held[0])])
    waiting.join(6)
    assert 0.3 <= took[0] < 0.8
