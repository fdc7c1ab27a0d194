"""Weaker promises that several drivers make, each as a function that asserts its exact sentence."""

from __future__ import annotations

import time

from queuekit.contract import Delivery, Released
from queuekit_integration.harness import Harness, wait_until

__all__ = ["delays_follow_the_wall_clock", "ids_are_not_unique", "order_may_break", "time_is_real"]


def delays_follow_the_wall_clock(h: Harness) -> None:
    """Assert the weaker sentence of SCH-STEP: a step forward shortens a delay by as much, and by no more."""
    driver = h.driver()
    driver.send([h.message(delay=10)])
    h.clock.step(4)
    h.advance(5.9)
    assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(0.2)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


def ids_are_not_unique(h: Harness) -> None:
    """Send one message twice: two jobs run, both under the one id."""
    driver = h.driver()
    message = h.message()
    driver.send([message])
    driver.send([message])
    found: list[Delivery] = []

    def both() -> bool:
        found.extend(driver.claim(["default"], limit=2, lease=30))
        return len(found) == 2

    wait_until(both, "both messages to be lent")
    assert {delivery.message.id for delivery in found} == {message.id}


def order_may_break(h: Harness) -> None:
    """Give the first of two jobs back: the second one overtakes it."""
    driver = h.driver()
    driver.send([h.message("first")])
    delivery = h.claim_one(driver)
    driver.send([h.message("second")])
    driver.settle([Released(delivery)])
    assert [h.claim_one(driver).message.body for _ in range(2)] == ["second", "first"]


def time_is_real(h: Harness) -> None:
    """Nobody can move the service's clock: let a second of a lease, and of a delay, really pass, and see that nothing is early."""
    driver = h.driver()
    late = driver.limits.resolution + 1.0
    begin = time.monotonic()
    driver.send([h.message()])
    h.claim_one(driver, lease=1)
    again = _claimable_after(h, begin)
    assert 1.0 <= again <= 1.0 + late, f"a lease of 1 s ended after {again} s"
    if driver.limits.delays:
        begin = time.monotonic()
        driver.send([h.message(delay=1)])
        due = _claimable_after(h, begin)
        assert 1.0 <= due <= 1.0 + late, f"a delay of 1 s ended after {due} s"


def _claimable_after(h: Harness, begin: float) -> float:
    driver = h.driver()
    wait_until(lambda: driver.claim(["default"], limit=1, lease=60), "it to be lent", seconds=5)
    return time.monotonic() - begin
