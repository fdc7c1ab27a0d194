"""A child process as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

from queuekit.cli.settings import WorkerSettings

__all__ = ["Process"]


class Process:
    """Runs `queuekit.cli.child`, leading a process group of its own.

    The group keeps a terminal's Ctrl-C for the supervisor, which passes it on. What a child leaves behind in its group
    is ended with it; a handler that wants a program to live on starts it in a session of its own. The socket tells the child when the supervisor is gone, however that happened.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        command = [sys.executable, "-m", "queuekit.cli.child", settings.encode(), str(theirs.fileno())]
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603 - this interpreter with arguments of our own
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        self.pid = self._popen.pid
        self.started_at = time.monotonic()
        self.loaded = False
        """Whether it has imported the app."""
        self.leaving_since: float | None = None
        """When it said that it has nothing left to do but to exit; a thread that somebody left behind may keep it."""

    def fileno(self) -> int:
        """Return what `select` watches."""
        return self._socket.fileno()

    @property
    def talks(self) -> bool:
        """Whether it may still say something."""
        return self.leaving_since is None

    def listen(self) -> None:
        """Hear what it has said."""
        try:
            heard = self._socket.recv(16)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        self.loaded = self.loaded or bool(heard)
        if not heard:
            self.leaving_since = time.monotonic()

    def ended(self) -> int | None:
        """Return its exit code once it has ended; negative: the signal that ended it."""
        code = self._popen.poll()
        if code is not None:
            self._close()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it at once, with everything that it started."""
        self._popen.kill()
        self._popen.wait()
        self._close()

    def _close(self) -> None:
        """Let go of it, and end what it left behind in its group."""
        self._socket.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
