"""Measures the SQS driver on an emulator that this starts, beside a bare client doing the same work in the same batches.

    python scripts/bench/sqs.py [--jobs 5000] [--rounds 3]

One worker process, 10 threads, no-op handler, small JSON payload, backlog loaded first. Requests are counted at the client: they
cost money. The bare client receives ten and deletes ten, on as many threads as the driver polls with: that is the emulator's
own limit, both having the same cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core import dispatch_many, dispatch_one_by_one, latency, register, run_all

from queuekit import Queue
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


def measure(address: str, jobs: int) -> dict[str, float]:
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
    figures["bare client/s"] = bare(queue, jobs)
    figures["of the bare client"] = figures["run and settled/s"] / figures["bare client/s"]
    figures["p50 ms"], figures["p99 ms"] = latency(queue, 200)
    figures["bare p50 ms"] = bare_latency(queue, 200)
    queue.close()
    return figures


def bare(queue: Queue, jobs: int) -> float:
    """Return jobs per second that a bare client receives and deletes, ten a request."""
    dispatch_many(queue, jobs)
    driver: Any = queue.driver
    client, url = driver.native(), driver.native().get_queue_url(QueueName=f"{queue.namespace}--default")["QueueUrl"]
    done = [0] * POLLS

    def work(number: int) -> None:
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
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


def bare_latency(queue: Queue, count: int) -> float:
    """Return the median milliseconds from a bare client's send to another thread's long poll having it."""
    driver: Any = queue.driver
    client, url = driver.native(), driver.native().get_queue_url(QueueName=f"{queue.namespace}--default")["QueueUrl"]
    arrived = threading.Event()
    waits: list[float] = []

    def receive() -> None:
        while len(waits) < count:
            for message in client.receive_message(QueueUrl=url, WaitTimeSeconds=2).get("Messages", ()):
                waits.append((time.perf_counter() - float(message["Body"])) * 1e3)
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                arrived.set()

    thread = threading.Thread(target=receive)
    thread.start()
    for _ in range(count):
        arrived.clear()
        time.sleep(0.005)
        client.send_message(QueueUrl=url, MessageBody=repr(time.perf_counter()))
        arrived.wait(5)
    thread.join()
    return statistics.median(waits)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with emulator() as address:
        rounds = [measure(address, wanted.jobs) for _ in range(wanted.rounds)]
    print(f"sqs (roto), {wanted.jobs} jobs, median of {wanted.rounds} rounds on {os.cpu_count()} cores")
    for figure in rounds[0]:
        print(f"  {figure:<20} {statistics.median(r[figure] for r in rounds):>12,.2f}")


if __name__ == "__main__":
    main()
