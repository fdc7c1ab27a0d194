"""The application that worker processes of the catalogue run: `python -m queuekit_integration.app`.

Every handler notes its start before anything else, with one unbuffered write, so that a kill loses nothing.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from queuekit import Backoff, JobContext, Queue
from queuekit.drivers import connect
from queuekit_integration.faults import ShiftedClock
from queuekit_integration.history import Recorder, Watcher

SETTINGS: dict[str, Any] = json.loads(os.environ["QUEUEKIT_APP"])
FOLDER = Path(os.environ["QUEUEKIT_HISTORY"])
NOTES = os.open(FOLDER / f"{SETTINGS['name']}-{os.getpid()}.notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

# A wrong clock is this process's alone: the driver must not take it for the backend's.
queue = Queue(
    connect(SETTINGS["url"], namespace=SETTINGS["namespace"], clock=None),
    namespace=SETTINGS["namespace"],
    clock=ShiftedClock(SETTINGS.get("clock", 0.0)),
)
recorder = Recorder(FOLDER, SETTINGS["name"])
queue.observe(Watcher(recorder, lease=SETTINGS.get("lease", 1.0)))


def note(f: str, ctx: JobContext, **fields: Any) -> None:
    """Append one record."""
    record = {
        "t": time.monotonic_ns(),
        "pid": os.getpid(),
        "worker": SETTINGS["name"],
        "f": f,
        "job": ctx.id,
        "attempt": ctx.attempt,
        "token": ctx.fence,
        **fields,
    }
    os.write(NOTES, json.dumps(record).encode() + b"\n")


@queue.job(name="note")
def noted(ctx: JobContext, tag: str = "") -> None:
    """Do nothing but be seen."""
    note("start", ctx, tag=tag)


@queue.job(name="slow", retries=5, backoff=Backoff.constant(0.01))
def slow(ctx: JobContext, seconds: float, tag: str = "") -> str:
    """Take a while; note the end too."""
    note("start", ctx, tag=tag)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    note("end", ctx, tag=tag, lost=ctx.lost)
    return str(SETTINGS["name"])


@queue.job(name="until_cancelled", retries=0)
def until_cancelled(ctx: JobContext) -> None:
    """Run until somebody cancels, and then end by an error."""
    note("start", ctx)
    while not ctx.cancelled:
        time.sleep(0.01)
    note("told", ctx)
    message = "stopped on request"
    raise RuntimeError(message)


@queue.job(name="die", retries=2, backoff=Backoff.constant(0.01))
def die(ctx: JobContext) -> None:
    """Kill the worker's process."""
    note("start", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@queue.job(name="hog")
def hog(ctx: JobContext, seconds: float) -> None:
    """Burn CPU in pure Python, never blocking."""
    note("start", ctx)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    note("end", ctx)


def main() -> None:
    """Work until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = queue.worker(
        concurrency=SETTINGS.get("concurrency", 4),
        queues=SETTINGS.get("queues"),
        lease=SETTINGS.get("lease", 1.0),
        name=SETTINGS["name"],
    ).start()
    assert worker.ready(20)
    (FOLDER / f"{SETTINGS['name']}.ready").touch()
    stop.wait()
    worker.stop(timeout=SETTINGS.get("grace", 5))
    queue.close()


if __name__ == "__main__":
    main()
