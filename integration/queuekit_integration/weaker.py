"""Weaker promises that several drivers make, each as a function that asserts its exact sentence."""

from __future__ import annotations

from queuekit_integration.harness import Harness

__all__ = ["delays_follow_the_wall_clock"]


def delays_follow_the_wall_clock(h: Harness) -> None:
    """Assert the weaker sentence of SCH-STEP: a step forward shortens a delay by as much, and by no more."""
    driver = h.driver()
    driver.send([h.message(delay=10)])
    h.clock.step(4)
    h.advance(5.9)
    assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(0.2)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1
