"""Shows queuekit at work on a file of its own, and exits with 1 unless it saw everything that it names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from queuekit import Backoff, JobContext, Queue

LEASE = 2
FOLDER = Path(os.environ.get("QUEUEKIT_DEMO", "."))
queue = Queue(f"sqlite:///{FOLDER / 'demo.db'}")


@queue.job(name="greet")
def greet(name: str) -> str:
    """Succeed at once."""
    return f"hello {name}"


@queue.job(name="flaky", retries=3, backoff=Backoff.constant(0.3))
def flaky(ctx: JobContext) -> str:
    """Fail twice."""
    if ctx.attempt < 3:
        message = f"attempt {ctx.attempt} fails on purpose"
        raise RuntimeError(message)
    return f"succeeded at attempt {ctx.attempt}"


@queue.job(name="later")
def later(dispatched: float) -> float:
    """Return how long it waited."""
    return time.time() - dispatched


@queue.job(name="long")
def long(ctx: JobContext) -> str:
    """Take long the first time: its worker is killed meanwhile."""
    (FOLDER / "inside").touch()
    if ctx.attempt == 1:
        time.sleep(60)
    return f"finished by process {os.getpid()} at attempt {ctx.attempt}"


def work() -> None:
    """Be a worker process until SIGTERM."""
    queue.run(4, lease=LEASE)


def start() -> subprocess.Popen[bytes]:
    """Start a worker process."""
    environment = {**os.environ, "QUEUEKIT_DEMO": str(FOLDER)}
    return subprocess.Popen([sys.executable, __file__, "work"], env=environment)


def show(what: str) -> None:
    """Print a line with a live count behind it."""
    [counts] = queue.stats().queues
    print(f"{what:<66} pending {counts.pending} running {counts.running} done {counts.completed}", flush=True)


def demo() -> list[str]:
    """Run the demonstration; return what was not seen."""
    missing: list[str] = []

    def expect(seen: bool, what: str) -> None:
        show(("  seen: " if seen else "  NOT SEEN: ") + what)
        if not seen:
            missing.append(what)

    greetings = queue.dispatch_many(greet.job(name) for name in ("Ada", "Grace", "Barbara"))
    retried, delayed, crash = flaky.dispatch(), later.using(delay=1.5).dispatch(time.time()), long.dispatch()
    show("dispatched 3 greetings, a flaky job, a delayed one and a long one")
    first = start()
    try:
        expect(
            [g.result(15) for g in greetings] == ["hello Ada", "hello Grace", "hello Barbara"], "jobs run by a process"
        )
        result = retried.result(15)
        expect(result == "succeeded at attempt 3" and len(retried.info().errors) == 2, f"a retry: {result}")
        waited = delayed.result(15)
        expect(waited >= 1.5, f"a delayed job: ran {waited:.2f} s after its dispatch, not before 1.5 s")
        while not (FOLDER / "inside").exists():
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        show(f"killed worker process {first.pid} with -9 inside the long job")
        second = start()
        try:
            result = crash.result(20)
            info = crash.info()
            expect(info.attempt == 2 and str(second.pid) in result, f"a crash recovered: {result}")
        finally:
            second.terminate()
            expect(second.wait(20) == 0, "a worker that stops in good order")
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
    return missing


def main() -> int:
    """Demonstrate in a temporary folder."""
    global FOLDER
    if sys.argv[1:] == ["work"]:
        work()
        return 0
    with tempfile.TemporaryDirectory(prefix="queuekit-demo-") as folder:
        FOLDER = Path(folder)
        restore = queue.swap_driver(Queue(f"sqlite:///{FOLDER / 'demo.db'}").driver, queue.clock)
        try:
            missing = demo()
        finally:
            queue.close()
            restore()
    print(
        "NOT SEEN: " + ", ".join(missing)
        if missing
        else "saw jobs dispatched, a retry, a delayed job and a recovered crash"
    )
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
