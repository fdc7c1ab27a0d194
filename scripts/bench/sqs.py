"""Measures the SQS driver on an emulator that this starts, beside a bare client doing the same work in the same batches.

    python scripts/bench/sqs.py [--jobs 5000] [--rounds 3] [--fifo]

One worker process, 10 threads, no-op handler, small JSON payload, backlog loaded first. Requests are counted at the client: they
cost money. The bare client receives ten (on FIFO queues one, as the driver must) and deletes them, on as many threads as the driver polls with: that is the emulator's
own limit, both having the same cores.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core import CONCURRENCY, dispatch_many, dispatch_one_by_one, register, run_all

from queuekit import Job, Queue
from queuekit_integration.servers import ProcessServer, Roto

POLLS = 4


@contextmanager
def emulator() -> Iterator[str]:
    """Start an emulator on a free port; yield the address of its queues."""
    server = ProcessServer(Roto())
    server.start()
    try:
        yield server.url()
    finally:
        server.close()


def requests_of(queue: Queue) -> dict[str, int]:
    """Return the requests sent so far, by operation."""
    driver: Any = queue.driver
    return dict(driver.requests)


def measure(address: str, jobs: int, *, fifo: bool) -> dict[str, float]:
    """Measure once, in a namespace of its own."""
    queue = Queue(address, namespace=f"b{uuid.uuid4().hex[:8]}")
    register(queue)
    queue.open()
    dispatch_one_by_one(queue, 20)
    before = requests_of(queue)
    figures = {"bulk dispatch/s": dispatch_many(queue, jobs)}
    ones = max(500, jobs // 10)
    bulk = requests_of(queue)
    figures["one by one/s"] = dispatch_one_by_one(queue, ones)
    figures["bulk : one by one"] = figures["bulk dispatch/s"] / figures["one by one/s"]
    sent = requests_of(queue)
    figures["run and settled/s"] = run_all(queue, jobs + ones + 20)
    done = requests_of(queue)
    dispatching = (bulk["send_message_batch"] - before["send_message_batch"]) / jobs
    working = (sum(done.values()) - sum(sent.values())) / (jobs + ones + 20)
    figures["requests a job"] = dispatching + working
    figures["bare client/s"] = bare(queue, jobs, most=1 if fifo else 10)
    figures["of the bare client"] = figures["run and settled/s"] / figures["bare client/s"]
    if not fifo:
        figures["p50 ms"], figures["p99 ms"] = latency(queue, 200)
        figures["bare p50 ms"], figures["bare p99 ms"] = bare_latency(queue, 200)
    queue.close()
    return figures


def native(queue: Queue) -> tuple[Any, str]:
    """Return the driver's client, and the address of the one queue."""
    driver: Any = queue.driver
    client = driver.native()
    return client, client.list_queues(QueueNamePrefix=f"{queue.namespace}--default")["QueueUrls"][0]


def bare(queue: Queue, jobs: int, *, most: int) -> float:
    """Return jobs per second that a bare client receives and deletes, so many a request."""
    dispatch_many(queue, jobs)
    client, url = native(queue)
    done = [0] * POLLS

    def work(number: int) -> None:
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=most).get("Messages"):
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            client.delete_message_batch(QueueUrl=url, Entries=entries)
            done[number] += len(messages)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(POLLS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - begin)


def gap() -> float:
    """Return the seconds until the next message: the emulator looks after its waiting polls every 100 ms, so any part of that."""
    return random.uniform(0.02, 0.12)


def latency(queue: Queue, count: int) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds from the dispatch call to the handler's first line."""
    waits: list[float] = []
    arrived = threading.Event()

    def ping(t: float) -> None:
        waits.append((time.perf_counter() - t) * 1e3)
        arrived.set()

    queue.register("ping", ping)
    with queue.worker(concurrency=CONCURRENCY) as worker:
        worker.ready(10)
        for _ in range(count):
            arrived.clear()
            time.sleep(gap())
            queue.dispatch(Job("ping", {"t": time.perf_counter()}))
            arrived.wait(5)
    return percentiles(waits)


def bare_latency(queue: Queue, count: int) -> tuple[float, float]:
    """Return the same from a bare client's send to another thread's long poll having it."""
    client, url = native(queue)
    arrived = threading.Event()
    waits: list[float] = []

    def receive() -> None:
        while len(waits) < count:
            for message in client.receive_message(QueueUrl=url, WaitTimeSeconds=2).get("Messages", ()):
                waits.append((time.perf_counter() - float(message["Body"])) * 1e3)
                arrived.set()
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    thread = threading.Thread(target=receive)
    thread.start()
    for _ in range(count):
        arrived.clear()
        time.sleep(gap())
        client.send_message(QueueUrl=url, MessageBody=repr(time.perf_counter()))
        arrived.wait(5)
    thread.join()
    return percentiles(waits)


def percentiles(waits: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    waits.sort()
    return waits[len(waits) // 2], waits[int(len(waits) * 0.99)]


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fifo", action="store_true", help="FIFO queues")
    wanted = parser.parse_args()
    with emulator() as standard:
        address = f"{standard}&fifo=true" if wanted.fifo else standard
        rounds = [measure(address, wanted.jobs, fifo=wanted.fifo) for _ in range(wanted.rounds)]
    print(
        f"sqs{' FIFO' if wanted.fifo else ''} (roto), {wanted.jobs} jobs, median of {wanted.rounds} rounds on {os.cpu_count()} cores"
    )
    for figure in rounds[0]:
        print(f"  {figure:<20} {statistics.median(r[figure] for r in rounds):>12,.2f}")


if __name__ == "__main__":
    main()
