"""Trees of processes, as Linux's /proc shows them: a database is many processes, and a fault must hit all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

__all__ = ["alive", "descendants", "end_tree", "freeze_tree", "signal_tree", "started_at", "wait_gone"]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name: state, parent, …; none when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Ask whether a process exists and is no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def _runs(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"T", "t", "Z", "X", "D"}


def started_at(pid: int) -> str:
    """Return when a process started, in ticks since the boot: with its id, the name of this one process for ever."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def descendants(pid: int) -> list[int]:
    """Return a process's children, their children, and so on, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found[1:]


def signal_tree(pid: int, number: int) -> list[int]:
    """Send a signal to a process and all below it; return whom. The top comes first, so that it starts no others."""
    _send(pid, number)
    below = descendants(pid)
    for child in below:
        _send(child, number)
    return [pid, *below]


def freeze_tree(pid: int) -> list[int]:
    """SIGSTOP a process and all below it, and block until none of them runs; return whom."""
    while True:
        whom = signal_tree(pid, signal.SIGSTOP)
        # A signal takes effect a moment after it was sent, and a child may have come into being in that moment.
        while any(_runs(each) for each in whom):
            time.sleep(0.001)
        if set(descendants(pid)) <= set(whom):
            return whom


def end_tree(pid: int) -> list[int]:
    """SIGKILL a process and all below it, none of which can start another meanwhile; return whom.

    The top comes last: whoever is cut off in the midst of this leaves a tree that can still be found.
    """
    whom = freeze_tree(pid)
    for each in reversed(whom):
        _send(each, signal.SIGKILL)
    return whom


def wait_gone(pids: list[int], *, seconds: float) -> list[int]:
    """Block until these processes are gone, or for so long; return those that are not."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if alive(pid)]:
        if time.monotonic() > end:
            return left
        time.sleep(0.002)
    return []


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, number)
