"""The application that worker processes of the catalogue run: `python -m queuekit_integration.app`.

Every handler notes its start before anything else, with one unbuffered write, so that a kill loses nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from queuekit import Backoff, Event, Job, JobContext, Queue
from queuekit.drivers import connect
from queuekit_integration.faults import ShiftedClock
from queuekit_integration.history import Recorder, Watcher, lease_in_time
from queuekit_integration.told import Told

SETTINGS: dict[str, Any] = json.loads(os.environ["QUEUEKIT_APP"])
FOLDER = Path(os.environ["QUEUEKIT_HISTORY"])
NOTES = os.open(FOLDER / f"{SETTINGS['name']}-{os.getpid()}.notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

# A wrong clock is this process's alone: no driver may take it for the backend's.
store = connect(SETTINGS["store"], namespace=SETTINGS["namespace"], clock=None) if SETTINGS.get("store") else None
queue = Queue(
    connect(SETTINGS["url"], namespace=SETTINGS["namespace"], clock=None),
    store=store,
    namespace=SETTINGS["namespace"],
    clock=ShiftedClock(SETTINGS.get("clock", 0.0)),
)
recorder = Recorder(FOLDER, SETTINGS["name"])
limits = queue.driver.limits
queue.observe(Watcher(recorder, lease=lease_in_time(limits, SETTINGS.get("lease", 1.0)), fenced=limits.fenced))
if not queue.supports("browse"):
    queue.observe(Told(FOLDER, SETTINGS["name"]))


def die_on(event: Event) -> None:
    """Die in the middle of it, at the event that the scenario names."""
    if event.kind == SETTINGS.get("die_on"):
        os.kill(os.getpid(), signal.SIGKILL)


queue.observe(die_on)


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


@queue.job(name="until_released", retries=5, backoff=Backoff.constant(0.01))
def until_released(ctx: JobContext) -> str:
    """Run until the scenario puts the file `release` into the folder."""
    note("start", ctx)
    while not (FOLDER / "release").exists():
        time.sleep(0.01)
    note("end", ctx, lost=ctx.lost)
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


@queue.job(name="stubborn")
def stubborn(ctx: JobContext, seconds: float) -> None:
    """Go on for a while whatever anybody asks."""
    note("start", ctx)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            time.sleep(0.05)
    note("end", ctx)


@queue.job(name="hog")
def hog(ctx: JobContext, seconds: float) -> None:
    """Burn CPU in pure Python, never blocking."""
    note("start", ctx)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    note("end", ctx)


@queue.job(name="flaky", retries=20, backoff=Backoff.constant(0.02))
def flaky(ctx: JobContext) -> None:
    """Fail the first attempt."""
    if ctx.attempt == 1:
        message = "the first attempt always fails"
        raise RuntimeError(message)


def own(ctx: JobContext, database: tuple[str, str], table: str, die: str) -> None:
    """Write and complete the job in one transaction; the first attempt dies before or after its commit."""
    note("start", ctx)
    module, address = database
    connection = importlib.import_module(module).connect(address)
    connection.execute(f"INSERT INTO {table} VALUES ({ctx.attempt})")
    ctx.complete(connection=connection)
    if die == "before" and ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    connection.commit()
    if die == "after" and ctx.attempt == 1:
        recorder.settle(
            "ok", ctx.id, token=int(ctx.fence), outcome="done", attempt=ctx.attempt
        )  # nobody else can say so
        os.kill(os.getpid(), signal.SIGKILL)
    connection.close()


if queue.supports("transactional_settle"):  # others refuse such a handler
    queue.register("own", own, settle="transaction")


@queue.job(name="eat", retries=0)
def eat(ctx: JobContext, size: int) -> int:
    """Take memory, and give it back."""
    note("start", ctx)
    return len(bytearray(size))


def main() -> None:
    """Do what the scenario asked for: dispatch, or work until a signal comes."""
    if "dispatch" in SETTINGS:
        dispatch_until_killed()
    elif SETTINGS.get("signals"):
        work_as_queue_run_does()
    else:
        work()


def dispatch_until_killed() -> None:
    """Dispatch unique jobs, one a scope, and note each that was accepted."""
    queue.open()
    ready_file().touch()
    while SETTINGS.get("wait_for") and not (FOLDER / SETTINGS["wait_for"]).exists():
        time.sleep(0.001)
    count = SETTINGS["dispatch"]
    for number in ((SETTINGS.get("begin", 0) + i) % count for i in range(count)):
        created = queue.dispatch(Job("nobody_runs_it", {"number": number}, unique_key=f"k{number}")).created
        record = {"t": time.monotonic_ns(), "worker": SETTINGS["name"], "f": "sent", "created": created}
        os.write(NOTES, json.dumps(record).encode() + b"\n")
    queue.close()


def work_as_queue_run_does() -> None:
    """Leave signals to `Queue.run`."""
    queue.on_worker_start(ready_file().touch)
    queue.run(SETTINGS.get("concurrency", 4), grace=SETTINGS.get("grace", 5), lease=SETTINGS.get("lease", 1.0))
    queue.close()


def ready_file() -> Path:
    """Return the file whose existence says that this process is at work."""
    return Path(FOLDER / f"{SETTINGS['name']}.ready")


def work() -> None:
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
    ready_file().touch()
    stop.wait()
    worker.stop(timeout=SETTINGS.get("grace", 5))
    queue.close()


if __name__ == "__main__":
    main()
