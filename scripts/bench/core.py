"""Measures the core on its embedded drivers: one worker process, 10 threads, no-op handler, small JSON payload.

    python scripts/bench/core.py [--jobs 100000] [--only memory,sqlite] [--rounds 3]

Backlog loaded first; "run and settled" ends when the last job is settled in the backend. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from queuekit import Job, Queue

CONCURRENCY = 10
PAYLOAD = {"i": 1, "user": 123456, "path": "/a/b/c", "tags": ["x", "y"]}


def register(queue: Queue) -> None:
    """Register the no-op."""

    @queue.job(name="noop")
    def noop(i: int, user: int, path: str, tags: list[str]) -> None: ...


def dispatch_many(queue: Queue, count: int) -> float:
    """Return jobs per second, the making of the jobs included."""
    begin = time.perf_counter()
    queue.dispatch_many(Job("noop", PAYLOAD) for _ in range(count))
    return count / (time.perf_counter() - begin)


def dispatch_one_by_one(queue: Queue, count: int) -> float:
    """Return jobs per second, a call and a commit each."""
    job = Job("noop", PAYLOAD)
    begin = time.perf_counter()
    for _ in range(count):
        queue.dispatch(job)
    return count / (time.perf_counter() - begin)


def run_all(queue: Queue, count: int) -> float:
    """Return jobs per second run and settled."""
    worker = queue.worker(concurrency=CONCURRENCY)
    begin = time.perf_counter()
    worker.start()
    while worker.done < count:
        time.sleep(0.002)
    seconds = time.perf_counter() - begin
    worker.stop(10)
    return count / seconds


def latency(queue: Queue, count: int = 400) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds from the dispatch call to the handler's first line."""
    waits: list[float] = []
    arrived = threading.Event()

    def ping(t: float) -> None:
        waits.append((time.perf_counter() - t) * 1e3)
        arrived.set()

    queue.register("ping", ping)
    with queue.worker(concurrency=CONCURRENCY) as worker:
        worker.ready(10)
        time.sleep(0.2)
        for _ in range(count):
            arrived.clear()
            queue.dispatch(Job("ping", {"t": time.perf_counter()}))
            arrived.wait(5)
            time.sleep(0.005)
    waits.sort()
    return waits[len(waits) // 2], waits[int(len(waits) * 0.99)]


def measure(address: str, jobs: int) -> dict[str, float]:
    """Measure one backend once."""
    queue = Queue(address)
    register(queue)
    queue.open()
    figures = {"bulk dispatch/s": dispatch_many(queue, jobs)}
    ones = max(1000, jobs // 10)
    figures["one by one/s"] = dispatch_one_by_one(queue, ones)
    figures["run and settled/s"] = run_all(queue, jobs + ones)
    figures["p50 ms"], figures["p99 ms"] = latency(queue)
    queue.close()
    return figures


def alone(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def idle_memory(folder: str) -> str:
    """Return the resident memory of an idle SQLite worker, with an empty file and with 1,000,000 delayed jobs, in MiB."""
    code = (
        "import queuekit,time,sys\n"
        f"q=queuekit.Queue('sqlite:///{folder}/idle.db')\n"
        "q.register('t',lambda:None)\n"
        "w=q.start_workers(10);w.ready(10);time.sleep(1.5)\n"
        "print(round(int(open('/proc/self/statm').read().split()[1])*4096/2**20,1))\n"
    )
    empty = alone(code)
    alone(
        "import queuekit\n"
        f"q=queuekit.Queue('sqlite:///{folder}/idle.db')\n"
        "for _ in range(20): q.dispatch_many(queuekit.Job('t',delay=86400) for _ in range(50000))\n"
    )
    return f"{empty} MiB empty, {alone(code)} MiB with 1,000,000 delayed jobs"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="memory,sqlite")
    parser.add_argument("--memory", action="store_true", help="measure resident memory as well (a minute)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.only.split(","):
            rounds = []
            for number in range(wanted.rounds):
                file = Path(folder) / f"{number}.db"
                rounds.append(measure("memory://" if name == "memory" else f"sqlite:///{file}", wanted.jobs))
            print(f"{name}, {wanted.jobs} jobs, median of {wanted.rounds} rounds on {os.cpu_count()} cores")
            for figure in rounds[0]:
                print(f"  {figure:<20} {statistics.median(r[figure] for r in rounds):>12,.2f}")
        if wanted.memory:
            print("idle worker:", idle_memory(folder))
    begin = time.perf_counter()
    alone("from queuekit import Job, Queue")
    whole = time.perf_counter() - begin
    begin = time.perf_counter()
    alone("pass")
    print(f"from queuekit import Job, Queue: {(whole - (time.perf_counter() - begin)) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
