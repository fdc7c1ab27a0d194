"""SOAK: every kind of job at once, under faults, for as long as QUEUEKIT_SOAK_SECONDS says; seconds in an ordinary run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from queuekit import Backoff, Job, JobContext, Queue
from queuekit_integration.chaos import Chaos, seed_of_this_run
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario

RATE = 40
"""Jobs a second."""
GROWTH = 24 << 20
"""Bytes by which a worker's memory may grow after its first third."""
FILES = 8
"""Files that a worker may have open more than after its first third."""


def mixed(number: int) -> Job:
    """Return the next job of the mix."""
    payload = {"seconds": 0.005, "tag": str(number)}
    kinds = (
        Job("note", {"tag": str(number)}),
        Job("slow", payload),
        Job("slow", payload, delay=0.2),
        Job("slow", payload, key=f"k{number % 8}"),
        Job("slow", payload, priority=number % 10),
        Job("flaky", {}),
    )
    return kinds[number % len(kinds)]


def register_mixed(queue: Queue) -> None:
    """Register in this process what worker processes have."""
    queue.register("note", lambda tag: None)
    queue.register("slow", lambda seconds, tag: time.sleep(seconds))

    @queue.job(name="flaky", retries=20, backoff=Backoff.constant(0.02))
    def flaky(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise RuntimeError("the first attempt always fails")


class Growth:
    """What a process has taken, compared with an earlier look."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory, self._files = self._look()

    def _look(self) -> tuple[int, int]:
        pages = int(Path(f"/proc/{self._pid}/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGESIZE"), len(list(Path(f"/proc/{self._pid}/fd").iterdir()))

    def check(self) -> None:
        """Assert that it has not grown."""
        memory, files = self._look()
        assert memory <= self._memory + GROWTH, f"its memory grew from {self._memory >> 20} to {memory >> 20} MiB"
        assert files <= self._files + FILES, f"its open files grew from {self._files} to {files}"


@scenario("SOAK", needs=("count", "delay", "key", "priority", "unique_ids"), timing=True)
def scenario_soak_mixed_load(h: Harness) -> None:
    seconds = float(os.environ.get("QUEUEKIT_SOAK_SECONDS", "4"))
    count = int(seconds * RATE)
    if h.lacks(("processes",)):
        _soak_in_one_process(h, seconds, count)
    else:
        _soak_processes(h, seconds, count)


def _soak_in_one_process(h: Harness, seconds: float, count: int) -> None:
    queue = h.queue()
    register_mixed(queue)
    worker = h.work(queue, lease=5.0)
    load = h.load(queue, count, mixed, pause=1 / RATE)
    time.sleep(seconds / 3)
    growth = Growth(os.getpid())
    end = time.monotonic() + seconds * 2 / 3
    while time.monotonic() < end:
        with h.outage(queue):
            time.sleep(0.2)
        time.sleep(0.6)
    load.wait(seconds * 3 + 60)
    growth.check()
    h.finish(Plan(dispatches=count), seconds=60)
    worker.stop(10)


def _soak_processes(h: Harness, seconds: float, count: int) -> None:
    proxy = None if h.server is None else h.proxy()
    queue = h.queue(through=proxy)
    steady = h.spawn_worker(lease=1.0)
    chaos = Chaos(h, proxy, seed_of_this_run())
    load = h.load(queue, count, mixed, pause=1 / RATE)
    chaos.run(seconds / 3)
    growth = Growth(steady.pid)
    chaos.run(seconds * 2 / 3)
    h.heal()
    load.wait(seconds * 3 + 60)
    assert chaos.caused, "nothing was caused"
    growth.check()
    h.finish(Plan(dispatches=count, workers=(steady.pid,)), seconds=60 + seconds)
