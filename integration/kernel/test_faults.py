"""Faults of processes, disks and clocks: each one hits, and is over afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.contract import Wakeup
from queuekit_integration.faults import ShiftedClock, SmallDisk, burning, few_files, little_memory
from queuekit_integration.servers.tree import alive

PROGRAM = """
import os, sys
opened = []
for line in sys.stdin:
    try:
        if line == "file\\n":
            opened.append(os.open("/dev/null", os.O_RDONLY))
        else:
            bytes(int(line))
        print("ok", flush=True)
    except (OSError, MemoryError) as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert ask(process, "1") == "ok"
        yield process
        process.kill()


def ask(process: subprocess.Popen[str], line: str) -> str:
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_process_with_few_files_opens_no_more_until_the_limit_is_lifted(program):
    with few_files(program.pid, more=1):
        assert ask(program, "file") == "ok"
        assert ask(program, "file") == "OSError"
    assert ask(program, "file") == "ok"


def test_a_process_with_little_memory_gets_no_more_until_the_limit_is_lifted(program):
    with little_memory(program.pid, more=16 << 20):
        assert ask(program, str(200 << 20)) == "MemoryError"
        assert ask(program, "1000") == "ok"
    assert ask(program, str(200 << 20)) == "ok"


def test_burners_burn_and_are_gone():
    with burning(1) as [pid]:
        before = cpu(pid)
        end = time.monotonic() + 20
        while cpu(pid) < before + 5:
            assert time.monotonic() < end, "nothing was burnt"
            time.sleep(0.01)
    assert not alive(pid)


def cpu(pid: int) -> int:
    """Return the ticks of CPU time that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.skipif(bool(SmallDisk.unavailable()), reason=str(SmallDisk.unavailable()))
def test_a_small_disk_is_full_until_it_is_freed():
    with SmallDisk(1 << 20) as disk:
        file = disk.path / "file"
        file.write_bytes(b"x" * 100_000)
        assert disk.fill() > 500_000
        with pytest.raises(OSError, match="No space") as caught:
            file.write_bytes(b"x" * 200_000)
        assert caught.value.errno == errno.ENOSPC
        disk.free()
        file.write_bytes(b"x" * 200_000)
    assert not disk.path.exists()


@pytest.mark.skipif(bool(SmallDisk.unavailable()), reason=str(SmallDisk.unavailable()))
def test_a_small_disk_goes_with_whoever_made_it():
    program = (
        "import os; from queuekit_integration.faults import SmallDisk;"
        "print(SmallDisk(1 << 20).path, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    path = Path(done.stdout.strip())
    end = time.monotonic() + 20
    while path.exists():
        assert time.monotonic() < end, "the mount is left"
        time.sleep(0.01)


def test_a_disk_cannot_be_made_by_everybody_and_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")
    assert "only root" in SmallDisk.unavailable()


def test_a_shifted_clock_is_wrong_about_the_instant_alone():
    clock = ShiftedClock(-3600.0)
    assert clock.time() == pytest.approx(time.time() - 3600, abs=1)
    assert clock.monotonic() == pytest.approx(time.monotonic(), abs=1)
    clock.step(7200)
    assert clock.time() == pytest.approx(time.time() + 3600, abs=1)


def test_a_fast_clock_gains():
    clock = ShiftedClock(rate=1000.0)
    begun = clock.time()
    assert clock.wait(Wakeup(), 0.01) is False
    assert clock.time() - begun >= 9.0


BLOCKED = """
import ctypes, sys, threading, time
from queuekit_integration.faults import interrupted_at_every_step

begun = threading.Event()
lock = threading.Lock()
lock.acquire()
thread = threading.Thread(target=lambda: (begun.set(), lock.acquire()), daemon=True)
thread.start()
begun.wait()
time.sleep(0.1)
assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(ValueError))
print(len(list(interrupted_at_every_step(lambda: None, ["<string>"]))))
"""


def test_interruptions_are_tried_although_an_exception_waits_for_a_thread_that_blocks():
    """CPython 3.11 stands still otherwise, deaf to signals, so another process tries it."""
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=30, check=True)
    assert int(done.stdout) > 1
