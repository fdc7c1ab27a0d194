"""Servers that the tests start themselves, from the programs on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Fault, Kind, Server, ServerError
from queuekit_integration.servers.guard import guard_folder, guard_process
from queuekit_integration.servers.ports import free_port, listens
from queuekit_integration.servers.tree import end_tree, freeze_tree, signal_tree, wait_gone

__all__ = ["ProcessServer"]

STOP = 20.0
"""Seconds within which a server must be gone."""
TAIL = 3000
"""Characters of its log that an error shows."""


class ProcessServer(Server):
    """A server process on a free port, its data in a folder of its own; it ends with the process that built it.

    Not for two threads at once. Every fault works, and stops and starts keep the port.
    """

    provider: ClassVar[str] = "process"

    def __init__(self, kind: Kind, *, folder: Path | None = None, port: int | None = None) -> None:
        self.kind = kind
        self.port = port or free_port()
        self._folder = folder or Path(tempfile.mkdtemp(prefix=f"queuekit-{kind.name}-"))
        self._own_folder = folder is None
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        if self._own_folder:
            guard_folder(self._folder)
        self._give(self._folder)

    @property
    def data(self) -> Path:
        """The folder with its data."""
        return self._folder / "data"

    @property
    def pid(self) -> int:
        """Its first process; raises `ServerError` when it does not run."""
        if self._process is None:
            raise ServerError(f"{self.kind.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its first process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def faults(self) -> frozenset[Fault]:
        """All."""
        return frozenset({"stop", "kill", "freeze", "wipe", "proxy"})

    def url(self, *, port: int | None = None) -> str:
        """Return its address; with `port`, as seen through a proxy on that port."""
        return self.kind.url(self.host, port or self.port)

    def start(self) -> None:
        """Start it where it does not run, and block until it answers."""
        if self.running:
            return
        self._prepare()
        with self._log.open("ab") as log:
            self._process = self._run(self.kind.command(self.data, self.port), log.fileno())
        guard_process(self._process.pid)
        self._await_answer()

    def stop(self) -> None:
        """End it in good order; SIGKILL and an error where it does not."""
        if self._process is None:
            return
        self.thaw()
        whom = [self.pid]
        self._process.send_signal(self.kind.stop_signal)
        self._await_end(whom, how="by its stop signal")

    def signal(self, number: signal.Signals) -> None:
        """Send its first process a signal, such as one that asks for another kind of end."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End all its processes at once."""
        if self._process is None:
            return
        self._await_end(end_tree(self.pid), how="by SIGKILL")
        while listens(self.host, self.port):  # a process of many threads is gone a moment before its sockets are
            time.sleep(0.002)

    def freeze(self) -> None:
        """Stop all its processes where they are."""
        freeze_tree(self.pid)
        self._frozen = True

    def thaw(self) -> None:
        """Let them go on."""
        if self._frozen:
            self._frozen = False
            signal_tree(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its data."""
        if self.running:
            raise ServerError(f"{self.kind.name} runs; stop it before its data are removed")
        shutil.rmtree(self.data, ignore_errors=False)

    def heal(self) -> None:
        """Thaw it, or start it again."""
        self.thaw()
        self.start()

    def close(self) -> None:
        """Kill it and remove its folder."""
        if self._process is not None:
            self._await_end(end_tree(self.pid), how="by SIGKILL")
        if self._own_folder:
            shutil.rmtree(self._folder)

    def log(self) -> str:
        """Return the end of what it wrote to stdout and stderr, over all its starts."""
        return self._log.read_text("utf-8", "replace")[-TAIL:] if self._log.exists() else "no log"

    @property
    def _log(self) -> Path:
        return self._folder / f"{self.kind.name}.log"

    def _prepare(self) -> None:
        if self.data.exists():
            return
        self.data.mkdir(mode=0o700)
        self._give(self.data)
        command = self.kind.prepare(self.data)
        if command is None:
            return
        with self._log.open("ab") as log:
            code = self._run(command, log.fileno()).wait(self.kind.start_seconds)
        if code:
            raise ServerError(f"{self.kind.name}: {command[0]} ended with {code}:\n{self.log()}")

    def _run(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tests: they end their servers in order
            user=self._account,
            group=self._account,
            extra_groups=None if self._account is None else [],
        )

    @property
    def _account(self) -> str | None:
        """Whom to run as: only root can choose, and some servers refuse to be root."""
        return self.kind.account() if os.geteuid() == 0 else None

    def _give(self, path: Path) -> None:
        if self._account is not None:
            shutil.chown(path, self._account)

    def _await_answer(self) -> None:
        end = time.monotonic() + self.kind.start_seconds
        while not self.kind.answers(self.host, self.port):
            if not self.running:
                raise ServerError(f"{self.kind.name} ended when it should have started:\n{self.log()}")
            if time.monotonic() > end:
                raise ServerError(f"{self.kind.name} does not answer on port {self.port}:\n{self.log()}")
            time.sleep(0.01)

    def _await_end(self, whom: list[int], *, how: str) -> None:
        assert self._process is not None
        process, self._process, self._frozen = self._process, None, False
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            end_tree(process.pid)
            process.wait()
            raise ServerError(f"{self.kind.name} did not end {how} within {STOP} s:\n{self.log()}") from None
        if left := wait_gone(whom, seconds=STOP):
            raise ServerError(f"{self.kind.name}: processes {left} are left:\n{self.log()}")
