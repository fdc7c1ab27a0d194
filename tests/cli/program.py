"""Real processes of the command line, and the app that they work on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

APP = """
import os, threading, time
from pathlib import Path
from queuekit import Queue

queue = Queue("sqlite:///jobs.db")

@queue.job
def add(a: int, b: int) -> int:
    return a + b

@queue.job(retries=0)
def bad() -> None:
    raise ValueError("no good")

@queue.job(retries=2)
def die_once() -> None:
    if not Path("died").exists():
        Path("died").touch()
        os._exit(7)

@queue.job
def nap(seconds: float) -> None:
    Path(f"nap-{os.getpid()}").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)

@queue.job
def sleep(seconds: float) -> None:  # cannot be interrupted before it ends
    Path(f"sleep-{os.getpid()}").touch()
    time.sleep(seconds)

@queue.job
def hog() -> int:
    hog.data = bytearray(b"x") * (64 << 20)
    return len(hog.data)

def spin(seconds: float) -> None:
    Path(f"spin-{os.getpid()}").touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

queue.register("app.spin", spin, executor="process")

@queue.job
def leave_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=False).start()

@queue.job
def whoami() -> int:
    return os.getpid()
"""
PATIENCE = 30.0


def until(what: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Poll until it is true."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Program:
    """`queuekit …` as a process, with what it wrote."""

    def __init__(self, here: Path, *arguments: str) -> None:
        self._stdout, self._stderr = here / f"out-{time.monotonic_ns()}", here / f"err-{time.monotonic_ns()}"
        with self._stdout.open("w") as out, self._stderr.open("w") as err:
            command = [sys.executable, "-m", "queuekit.cli", *arguments]
            self._popen = subprocess.Popen(command, cwd=here, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        self.pid = self._popen.pid

    def said(self) -> str:
        return self._stderr.read_text()

    def printed(self) -> str:
        return self._stdout.read_text()

    def children(self) -> list[int]:
        """Pids of all children that it started so far, in order."""
        lines = self.said().splitlines()
        return [int(line.rpartition(" ")[2]) for line in lines if " is process " in line]

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def code(self, timeout: float = PATIENCE) -> int:
        return self._popen.wait(timeout)

    def clear(self) -> None:
        """End what is left of it."""
        for pid in [self.pid, *self.children()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()
