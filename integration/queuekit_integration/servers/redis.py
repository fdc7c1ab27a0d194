"""Redis, and what speaks as it does."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Contained, Kind

__all__ = ["Redis"]

SETTINGS = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
"""A kill loses nothing that was answered. With `everysec` it would lose what came while a sync of the disk was under way: the log is written
after the reply then."""


class Redis(Kind):
    """A Redis server; `settings` are lines of redis.conf, by name."""

    name: ClassVar[str] = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    image: ClassVar[str] = "redis:8"
    package: ClassVar[str] = "redis-server"

    def __init__(self, settings: Mapping[str, str] | None = None, *, program: str | None = None) -> None:
        self.settings = {**SETTINGS, **(settings or {})}
        self._chosen = program or os.environ.get("QUEUEKIT_TEST_REDIS_PROGRAM")

    def program(self) -> str | None:
        """Return redis-server, or valkey-server where only that is here; QUEUEKIT_TEST_REDIS_PROGRAM names another."""
        names = [self._chosen] if self._chosen else ["redis-server", "valkey-server"]
        return next((found for name in names if (found := shutil.which(name))), None)

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
        return [program, *self._options(port=str(port), bind="127.0.0.1", dir=str(folder))]

    def contained(self) -> Contained:
        """Serve from a folder of the container's own."""
        names = self._chosen or "redis-server || command -v valkey-server"
        options = self._options(port="6379", bind="*", dir="/tmp/queuekit", **{"protected-mode": "no"})  # noqa: S108
        script = f"mkdir -p /tmp/queuekit && exec $(command -v {names}) {shlex.join(options)}"
        return Contained(script=script, port=6379, stop_signal=self.stop_signal.name)

    def _options(self, **settings: str) -> list[str]:
        everything = {"daemonize": "no", **settings, **self.settings}
        return [word for name, value in everything.items() for word in (f"--{name}", value)]

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
