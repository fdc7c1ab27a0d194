"""Emulators of Amazon SQS."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Contained, Kind

__all__ = ["Roto", "address"]

CREDENTIALS = "test:test"
"""Emulators take any."""


def address(host: str, port: int) -> str:
    """Return a queue's address at an emulator; queues are made as they are used."""
    return f"sqs://{CREDENTIALS}@eu-west-1?endpoint=http://{host}:{port}&create=true"


class Roto(Kind):
    """roto-aws: starts in a tenth of a second, keeps what it accepted after a SIGKILL, and has exact timers."""

    name: ClassVar[str] = "roto"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    image: ClassVar[str] = "localstack/localstack:4"
    package: ClassVar[str] = "-"

    def program(self) -> str | None:
        """Return the program of this Python's environment, else the one on PATH."""
        beside = Path(sys.executable).with_name("roto-server")
        return str(beside) if os.access(beside, os.X_OK) else shutil.which("roto-server")

    def account(self) -> str | None:
        """Run as whoever runs the tests."""
        return None

    def prepare(self, folder: Path) -> list[str] | None:  # noqa: ARG002 - other kinds need it
        """Nothing: an empty folder will do."""
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command."""
        program = self.program()
        assert program is not None
        return [program, "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]

    def contained(self) -> Contained:
        """Serve from a folder of the container's own."""
        script = "exec $(command -v roto-server) --host 0.0.0.0 --port 5070 --data-dir /tmp/queuekit"
        return Contained(script=script, port=5070, stop_signal=self.stop_signal.name)

    def answers(self, host: str, port: int) -> bool:
        """Ask for anything: whatever HTTP answer comes, it serves."""
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def url(self, host: str, port: int) -> str:
        """Return the address of a queue; this emulator carries messages of 256 KiB."""
        return address(host, port) + "&message_bytes=262144"
