"""Sees to it that nothing outlives the process that started it.

The guard is a small process of its own. It is told what to end and to remove by lines on its standard input, and acts
when that closes, which the kernel does however its owner ended, by kill -9 too. (The alternative, PR_SET_PDEATHSIG, is tied to
the thread that started a server and forgotten when the server changes its user.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from queuekit_integration.servers.tree import alive, end_tree, started_at, wait_gone

__all__ = ["guard_container", "guard_folder", "guard_mount", "guard_process"]

_guards: dict[int, int] = {}
"""The guard's input, a file descriptor, by the process it was started for: a forked child gets a guard of its own."""


def guard_process(pid: int) -> None:
    """End this process and all below it when the calling process ends."""
    _tell(f"process {pid} {started_at(pid)}")


def guard_folder(path: Path) -> None:
    """Remove this folder when the calling process ends."""
    _tell(f"folder {path}")


def guard_container(id: str) -> None:
    """Remove this container when the calling process ends."""
    _tell(f"container {id}")


def guard_mount(path: Path) -> None:
    """Unmount this folder when the calling process ends."""
    _tell(f"mount {path}")


def _tell(line: str) -> None:
    owner = os.getpid()
    if owner not in _guards:
        _guards[owner] = _start()
    os.write(_guards[owner], line.encode() + b"\n")


def _start() -> int:
    theirs, ours = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        stdin=theirs,
        start_new_session=True,  # Ctrl-C is for the tests, not for who cleans up behind them
    )
    os.close(theirs)
    guard.returncode = 0  # it outlives its owner on purpose: nobody waits for it, and nobody is warned
    return ours


def main() -> None:
    """Remember what is told until the owner is gone, then end and remove it."""
    told = [line.rstrip("\n").split(" ", 1) for line in sys.stdin]
    for what, name in told:
        if what == "process":
            pid, _, started = name.partition(" ")
            _end(int(pid), started)
    _remove_containers([name for what, name in told if what == "container"])
    for what, name in told:
        if what == "mount" and Path(name).is_mount():
            sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
            subprocess.run([*sudo, "umount", "-l", name], check=False, capture_output=True)
    for what, name in told:
        if what == "folder":
            with contextlib.suppress(OSError):  # a mount that only its scenario can remove
                shutil.rmtree(name)


def _remove_containers(ids: list[str]) -> None:
    if not ids:
        return
    import docker  # noqa: PLC0415 - only who started containers has it
    from docker.errors import DockerException  # noqa: PLC0415 - the same

    for id in ids:
        with contextlib.suppress(DockerException):  # its owner removed it, or Docker itself is gone
            docker.from_env().containers.get(id).remove(force=True, v=True)


def _end(pid: int, started: str) -> None:
    if alive(pid) and started_at(pid) == started:
        wait_gone(end_tree(pid), seconds=10)
