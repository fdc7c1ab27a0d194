"""What happens to speed and cost when much waits, when a transaction stays open, and when nothing is to be done.

    python scripts/bench/scale.py waiting URL [--n 1000000]      claims with so many jobs waiting, against an almost empty queue
    python scripts/bench/scale.py held postgresql://… [--minutes 5]   throughput beside a transaction that somebody left open
    python scripts/bench/scale.py idle URL [--seconds 20]        CPU of a worker that has nothing to do

The backend must be the benchmark's own: the namespace `scale` is emptied.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from queuekit import Queue
from queuekit.contract import Done, Message, Migrate
from queuekit.drivers import connect
from queuekit.ids import new_id

BODY = '{"v":1,"id":"%s","type":"noop","sent":1700000000.000,"payload":{"i":1}}'
TICK = os.sysconf("SC_CLK_TCK")


def opened(address: str) -> Any:
    """Return an open driver on an empty namespace."""
    driver: Any = connect(address, namespace="scale", clock=None)
    if isinstance(driver, Migrate):
        driver.migrate()
    driver.open()
    for count in driver.count():
        driver.purge(count.queue)
    while driver.prune(older_than=0):
        pass
    driver.prepare(["q"])
    return driver


def load(driver: Any, count: int, *, delay: float = 0.0) -> float:
    """Store jobs in bulk; return how many a second."""
    begin = time.perf_counter()
    for start in range(0, count, driver.limits.batch):
        ids = [new_id() for _ in range(min(driver.limits.batch, count - start))]
        driver.send([Message(id, "q", "noop", BODY % id, delay=delay) for id in ids])
    return count / (time.perf_counter() - begin)


# ------------------------------------------------------------------------------------------------------------ waiting


def waiting(address: str, count: int) -> None:
    """Compare claims of 1 and of 100 with little and with much waiting."""
    driver = opened(address)
    figures: dict[str, dict[str, float]] = {}
    load(driver, 5000)
    figures["5,000 ready"] = claims(driver)
    rate = load(driver, count, delay=86_400.0)
    figures[f"and {count:,} delayed"] = claims(driver)
    print(f"{count:,} delayed jobs stored at {rate:,.0f}/s")
    rate = load(driver, count)
    figures[f"and {count:,} ready"] = claims(driver)
    print(f"{count:,} ready jobs stored at {rate:,.0f}/s\n")
    base = figures["5,000 ready"]
    print("| waiting | " + " | ".join(base) + " |\n| --- |" + " ---: |" * len(base))
    for name, found in figures.items():
        print(f"| {name} | " + " | ".join(f"{found[k]:,.0f} µs ({found[k] / base[k]:.2f} ×)" for k in base) + " |")
    driver.purge("q")
    driver.close()


def claims(driver: Any) -> dict[str, float]:
    """Return the median microseconds of one exchange; what is lent is settled, so that the depth stays about the same."""
    return {f"settle and claim {size}": exchange(driver, size, rounds) for size, rounds in ((1, 300), (100, 40))}


def exchange(driver: Any, size: int, rounds: int) -> float:
    """Exchange `size` outcomes for `size` deliveries again and again; what was settled is stored anew."""
    deliveries = driver.claim(["q"], limit=size, lease=30.0)
    times = []
    for _ in range(rounds):
        outcomes = [Done(delivery) for delivery in deliveries]
        begin = time.perf_counter()
        _, deliveries = driver.exchange(outcomes, ["q"], limit=size, lease=30.0)
        times.append((time.perf_counter() - begin) * 1e6)
        assert len(deliveries) == size
        load(driver, size)
    driver.settle([Done(delivery) for delivery in deliveries])
    return statistics.median(times)


# --------------------------------------------------------------------------------------------------------------- held


def held(address: str, minutes: float) -> None:
    """Churn jobs for a while, then go on beside a transaction that holds its snapshot and never ends."""
    import psycopg  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - only where Postgres is measured

    opened(address).close()
    queue = Queue(address, namespace="scale")
    queue.register("noop", noop)
    before = churn(queue, seconds=30.0, say="before")
    with psycopg.connect(address) as other:
        other.execute("SELECT pg_current_xact_id()")
        during = [churn(queue, seconds=30.0, say="open") for _ in range(max(1, round(minutes * 2)))]
        other.rollback()
    queue.close()
    print(f"\nlast half minute of {minutes:g} beside an open transaction: {during[-1] / before:.0%} of before")


def noop(i: int) -> None:
    """Do nothing."""
    del i


def churn(queue: Queue, *, seconds: float, say: str) -> float:
    """Dispatch 5,000 jobs and run them, again and again; return jobs run per second of running."""
    driver: Any = queue.driver
    jobs, running = 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        queue.open()
        load(driver, 5000)
        worker = queue.worker(concurrency=10, queues=["q"])
        begin = time.perf_counter()
        worker.start()
        while worker.done < 5000:
            time.sleep(0.002)
        running += time.perf_counter() - begin
        worker.stop(10)
        jobs += 5000
    print(f"{say}: {jobs / running:,.0f} jobs/s", flush=True)
    return jobs / running


# --------------------------------------------------------------------------------------------------------------- idle

APP = """
from queuekit import Queue
queue = Queue({address!r}, namespace="scale")
queue.register("noop", lambda i: None)
"""


def idle(address: str, seconds: float) -> None:
    """Let the real command line wait for jobs, and read what it used from /proc."""
    opened(address).close()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP.format(address=address))
        command = [sys.executable, "-m", "queuekit.cli", "worker", "app:queue"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as parent:
            time.sleep(3.0)
            assert parent.poll() is None, "the worker ended by itself"
            pids = [parent.pid, *children(parent.pid)]
            before = sum(map(cpu, pids))
            time.sleep(seconds)
            used = sum(map(cpu, pids)) - before
            memory = {pid: pss(pid) for pid in pids}
            parent.send_signal(signal.SIGTERM)
    print(
        f"idle worker: {used / seconds:.2%} of a core over {seconds:g} s; PSS {sum(memory.values()):.1f} MiB", end=" "
    )
    print(f"(supervisor {memory.pop(parent.pid):.1f}, child {sum(memory.values()):.1f})")


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def pss(pid: int) -> float:
    """Return a process's proportional share of memory in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, option, kind, default in (
        ("waiting", "--n", int, 1_000_000),
        ("held", "--minutes", float, 5.0),
        ("idle", "--seconds", float, 20.0),
    ):
        command = commands.add_parser(name)
        command.add_argument("address")
        command.add_argument(option, dest="amount", type=kind, default=default)
        command.set_defaults(run=RUN[name])
    wanted = parser.parse_args(arguments)
    wanted.run(wanted.address, wanted.amount)


RUN: dict[str, Callable[..., None]] = {"waiting": waiting, "held": held, "idle": idle}

if __name__ == "__main__":
    main()
