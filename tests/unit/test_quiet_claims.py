"""A claim that waits sleeps: there may be thousands, and each look costs the backend something."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from queuekit.clock import SystemClock
from queuekit.contract import Driver, Message
from queuekit.ids import new_id
from queuekit.memory import MemoryDriver
from queuekit.sqlite import SqliteDriver


class CountingClock(SystemClock):
    """Counts how often somebody asks it."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_claim_that_takes_nothing_back_sleeps_beside_leases_that_ran_out(kind: str, tmp_path: Path):
    clock = CountingClock()
    driver: Driver = MemoryDriver(clock=clock)
    if kind == "sqlite":
        driver = SqliteDriver(str(tmp_path / "jobs"), clock=clock, poll_interval=0.1)
    driver.open()
    driver.send([Message(new_id(), "default", "t", "{}")])
    assert driver.claim(["default"], limit=1, lease=0.05)
    time.sleep(0.1)
    begin, clock.looks = time.monotonic(), 0
    assert driver.claim(["default"], limit=1, lease=1, recover=False, wait=0.5) == []
    assert time.monotonic() - begin >= 0.5
    assert clock.looks <= 60, "after an outage each idle worker would look without a pause for as long as a lease"
    driver.close()
