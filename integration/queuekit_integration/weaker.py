"""Weaker promises that several drivers make, each as a function that asserts its exact sentence."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from queuekit import Job
from queuekit.contract import AmbiguousSend, Delivery, DispatchTimeout, DriverUnavailable, Released
from queuekit_integration.harness import Harness, wait_until

__all__ = [
    "an_open_transaction_holds_the_file",
    "an_unanswered_dispatch_waits_for_its_ticket",
    "delays_follow_the_wall_clock",
    "foreign_text_is_kept",
    "ids_are_not_unique",
    "order_may_break",
    "the_oldest_age_is_unknown",
    "time_is_real",
]


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


def the_oldest_age_is_unknown(h: Harness) -> None:
    """Show what is told of waiting jobs: how many there are."""
    driver: Any = h.driver()
    driver.send([h.message()])
    h.advance(0.2)
    [counts] = driver.count(["default"])
    assert (counts.pending, counts.oldest_ready_age) == (1, None)


def an_open_transaction_holds_the_file(h: Harness) -> None:
    """Leave a writing transaction open on the store's file: nobody else writes meanwhile, and a dispatch ends with its patience."""
    queue = h.queue()
    queue.open()
    connection = h.database()
    connection.execute("BEGIN IMMEDIATE")
    try:
        queue.dispatch(Job("t"), timeout=0.3)
    except DispatchTimeout:
        pass
    else:
        raise AssertionError("somebody else wrote")
    connection.rollback()
    connection.close()
    queue.dispatch(Job("t"))
    assert queue.stats().pending == 1


def an_unanswered_dispatch_waits_for_its_ticket(h: Harness) -> None:
    """Lose the store's answers to a dispatch: what was stored has no ticket, and runs once it is dispatched again under its id."""
    direct: Any = h.driver(virtual=False)
    stored = 0
    for number in range(12):
        proxy = h.proxy()
        late = h.driver(virtual=False, through=proxy)
        late.claim(["nothing"], limit=1, lease=1.0)
        queue = f"q{number}"
        message = h.message(queue=queue)
        proxy.lose_reply(skip=number)
        with contextlib.suppress(AmbiguousSend, DriverUnavailable):
            late.send([message])
        hit = bool(proxy.fired)
        proxy.heal()
        if not hit:
            break
        if direct.get([message.id]) != [None]:
            stored += 1
            assert direct.claim([queue], limit=5, lease=30) == [], "it has a ticket already"
        late.send([message])
        assert len(direct.claim([queue], limit=5, lease=30)) == 1, "dispatched again, and it is not one job"
    assert stored, "no dispatch was applied without its client knowing"


def foreign_text_is_kept(h: Harness) -> None:
    """Show what becomes of a foreign text that the service takes: parked with its reason, untouched."""
    queue = h.queue()
    queue.register("fine", lambda: "fine")
    queue.open()
    garbage = "no envelope, und kein \u00dcmschlag"
    h.write_garbage(garbage.encode())
    queue.start_workers(1)
    assert queue.dispatch(Job("fine")).result(20) == "fine"
    [dead] = wait_until(lambda: queue.jobs(state="failed"), "the foreign text to be parked")
    assert dead.reason == "undecodable"
    driver: Any = queue.driver
    [kept] = driver.get([dead.id])
    assert kept.body == garbage


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
