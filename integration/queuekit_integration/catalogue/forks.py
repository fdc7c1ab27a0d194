"""SAF-01: processes that fork while they are connected, or while their worker is at work."""

from __future__ import annotations

import subprocess
import sys

from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario

FORKS = """
import os, sys
from queuekit import Job, Queue
queue = Queue(sys.argv[1], store=sys.argv[3] or None, namespace=sys.argv[2])
queue.dispatch(Job("t"))
child = os.fork()
for _ in range(50):
    queue.dispatch(Job("t"))
    assert queue.stats().pending
if child == 0:
    queue.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(status)
"""
"""A process that is connected forks, and both go on at the same time."""


@scenario("SAF-01", needs=("processes", "count"), timing=True)
def scenario_saf_01_fork_after_connect(h: Harness) -> None:
    queue = h.queue()
    queue.open()
    command = [sys.executable, "-c", FORKS, str(h.url()), h.namespace, h.store_url() or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert queue.stats().pending == 101


FORKS_AT_WORK = """
import os, sys, time
from queuekit import Job, Queue
queue = Queue(sys.argv[1], store=sys.argv[3] or None, namespace=sys.argv[2])
queue.register("t", lambda payload: os.getpid())
queue.start_workers(2)
assert queue.dispatch(Job("t", 0)).result(20) == os.getpid()
time.sleep(0.3)  # the worker waits for jobs by now, on whatever connection it hears of them
child = os.fork()
if child == 0:
    mine = Queue(sys.argv[1], store=sys.argv[3] or None, namespace=sys.argv[2])
    mine.register("child", lambda payload: os.getpid())
    with mine.worker(concurrency=1, queues=["child"]):
        for number in range(10):
            assert mine.dispatch(Job("child", number, queue="child")).result(20) == os.getpid()
            assert queue.dispatch(Job("t", number)).result(20) == os.getppid(), "the parent's worker is deaf"
    mine.close()
    os._exit(0)
for number in range(20):
    assert queue.dispatch(Job("t", number)).result(20) == os.getpid()
_, status = os.waitpid(child, 0)
assert queue.dispatch(Job("t", 0)).result(20) == os.getpid()
queue.close()
sys.exit(status)
"""
"""A process forks while its worker is at work; the child dispatches through what it inherited, and works on a queue of its own."""


@scenario("SAF-01-WORKER", needs=("processes", "browse", "count"), timing=True)
def scenario_saf_01_fork_beside_a_worker(h: Harness) -> None:
    queue = h.queue()
    queue.open()
    command = [sys.executable, "-c", FORKS_AT_WORK, str(h.url()), h.namespace, h.store_url() or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(counts.completed for counts in queue.stats().queues) == 42
