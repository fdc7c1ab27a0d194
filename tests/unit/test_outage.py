"""How a worker waits for a backend that does not answer."""

from __future__ import annotations

import threading

from queuekit import Queue, VirtualClock
from queuekit.contract import DriverUnavailable
from queuekit.memory import MemoryDriver


def test_a_worker_tries_again_as_soon_as_its_lease_keeper_hears_the_backend():
    clock = VirtualClock()
    worker = Queue(MemoryDriver(clock=clock)).worker()
    for _ in range(9):  # what it waits is longest by now: five seconds
        worker._failures += 1
    begin = clock.monotonic()
    waiting = threading.Thread(target=worker._unavailable, args=[DriverUnavailable("away")])
    waiting.start()
    for tick in range(2000):
        waiting.join(0.005)
        if not waiting.is_alive():
            break
        if tick == 10:
            worker._keeper._recovered()
        if tick >= 10:
            clock.advance(0.05)
    assert not waiting.is_alive()
    assert clock.monotonic() - begin < 4
