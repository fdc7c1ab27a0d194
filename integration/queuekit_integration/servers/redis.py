"""Redis, and what speaks as it does."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Kind

__all__ = ["Redis"]

SETTINGS = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
"""A kill loses nothing that was answered: the log is written before the reply, and only a crash of the machine needs its fsync."""


class Redis(Kind):
    """A Redis server; `settings` are lines of redis.conf, by name."""

    name: ClassVar[str] = "redis"
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(self, settings: Mapping[str, str] | None = None, *, program: str | None = None) -> None:
        self.settings = {**SETTINGS, **(settings or {})}
        self._program = program

    def program(self) -> str | None:
        """Return redis-server, or valkey-server where only that is here."""
        return self._program or shutil.which("redis-server") or shutil.which("valkey-server")

    def account(self) -> str | None:
        """Run as whoever runs the tests."""
        return None

    def prepare(self, folder: Path) -> list[str] | None:  # noqa: ARG002 - other kinds need it
        """Nothing: an empty folder will do."""
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command; every setting is an argument, so there is no file to write."""
        program = self.program()
        assert program is not None
        settings = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "daemonize": "no", **self.settings}
        return [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def answers(self, host: str, port: int) -> bool:
        """Ask for a PONG; while it loads its data it says LOADING."""
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def url(self, host: str, port: int) -> str:
        """Return the address of database 0."""
        return f"redis://{host}:{port}/0"
