"""`queue.run()`: a worker on the main thread, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit import ConfigurationError, Queue

APP = """
import sys, time
from queuekit import Queue
queue = Queue("sqlite:///jobs.db")

@queue.job(name="nap")
def nap() -> None:
    print("napping", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)

handle = nap.dispatch() if "nap" in sys.argv else None
print(handle and handle.id, flush=True)
queue.on_worker_start(lambda: print("working", flush=True))
queue.run(2, grace=float(sys.argv[1]))
print("left", flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts the program in an empty folder."""
    programs: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", APP, *arguments]
        pipe = subprocess.PIPE
        programs.append(subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True))
        return programs[-1]

    yield run
    for program in programs:
        program.kill()
        program.communicate()


def says(program: subprocess.Popen[str], line: str) -> None:
    assert program.stdout is not None
    while (said := program.stdout.readline()) and said != f"{line}\n":
        pass
    assert said == f"{line}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order(start: Start, number: signal.Signals) -> None:
    program = start("5")
    says(program, "working")
    program.send_signal(number)
    out, _ = program.communicate(timeout=30)
    assert (program.returncode, out) == (0, "left\n")


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    program = start("60", "nap")
    says(program, "napping")
    program.send_signal(signal.SIGTERM)
    program.send_signal(signal.SIGINT)  # of another kind: two of one kind that wait together are one
    _, errors = program.communicate(timeout=30)
    assert program.returncode != 0
    assert "KeyboardInterrupt" in errors


def test_sigusr1_dumps_stacks_and_running_jobs(start: Start) -> None:
    program = start("0", "nap")
    assert program.stdout is not None
    id = program.stdout.readline().strip()
    says(program, "napping")
    program.send_signal(signal.SIGUSR1)
    assert program.stderr is not None
    said = ""
    while "runs 1 jobs" not in said and (line := program.stderr.readline()):
        said += line
    assert f"process {program.pid} runs 1 jobs: {id}" in said
    assert "in nap" in said
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    assert program.returncode == 0


def test_what_ends_the_worker_ends_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database " * 100)
    program = start("5")
    _, errors = program.communicate(timeout=30)
    assert program.returncode == 1
    assert errors.splitlines()[-1].startswith("queuekit.errors.DriverRejected: ")


def test_it_is_refused_off_the_main_thread() -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            queue.run(1)
        except BaseException as error:
            caught.append(error)

    with Queue("memory://") as queue:
        thread = threading.Thread(target=call, name="mine")
        thread.start()
        thread.join()
    [error] = caught
    assert isinstance(error, ConfigurationError)
    assert "'mine': call it there, or use queue.start_workers()" in str(error)


def test_it_returns_when_another_thread_shuts_down() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with Queue("memory://") as queue:
        queue.on_worker_start(lambda: threading.Thread(target=queue.shutdown).start())
        queue.run(1)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
