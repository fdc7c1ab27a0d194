"""PostgreSQL."""

from __future__ import annotations

import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Kind

__all__ = ["Postgres"]

USER = "queuekit"
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "autovacuum_naptime": "10s",
}
"""Durability is as PostgreSQL has it by default: a commit is on the disk before it is answered."""


class Postgres(Kind):
    """A PostgreSQL server with the superuser `queuekit`, no password, database `postgres`; `settings` as in its file."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[int] = signal.SIGINT  # "fast": sessions are ended, a checkpoint is written

    def __init__(self, settings: Mapping[str, str] | None = None, *, folder: str | None = None) -> None:
        self.settings = {**SETTINGS, **(settings or {})}
        self._folder = folder

    def program(self) -> str | None:
        """Return `postgres`: of the folder that was given, else on PATH, else the newest of Debian's."""
        return self._binary("postgres")

    def account(self) -> str | None:
        """PostgreSQL refuses to be root: it runs as its package's user, or as nobody."""
        known = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    def prepare(self, folder: Path) -> list[str] | None:
        """Make a cluster; without fsync, since a folder that did not survive this is made anew."""
        initdb = self._needed("initdb")
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        return [initdb, "--pgdata", str(folder), *options]

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command; every setting is an argument."""
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self._needed("postgres"), "-D", str(folder), "-p", str(port), *options]

    def answers(self, host: str, port: int) -> bool:
        """Ask as `pg_isready` does: recovery is over and sessions are taken."""
        command = [self._needed("pg_isready"), "-q", "-t", "1", "-h", host, "-p", str(port), "-d", "postgres"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def url(self, host: str, port: int) -> str:
        """Return the address of the database `postgres`."""
        return f"postgresql://{USER}@{host}:{port}/postgres"

    def _needed(self, name: str) -> str:
        found = self._binary(name)
        assert found is not None, f"{name} is not installed"
        return found

    def _binary(self, name: str) -> str | None:
        if self._folder is not None:
            return f"{self._folder}/{name}"
        if found := shutil.which(name):
            return found
        folders = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        return max((str(path) for path in folders), key=_version, default=None)


def _version(path: str) -> int:
    return int(Path(path).parent.parent.name)
