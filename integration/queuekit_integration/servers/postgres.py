"""PostgreSQL."""

from __future__ import annotations

import pwd
import shlex
import shutil
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from queuekit_integration.servers.base import Contained, Kind

__all__ = ["Postgres"]

USER = "queuekit"
INITDB = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
"""Without fsync, since a folder that did not survive its making is made anew."""
PROTOCOL = 3 << 16
GOODBYE = b"X\0\0\0\4"
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
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    """"Fast": sessions are ended, a checkpoint is written."""
    image: ClassVar[str] = "postgres:17"
    package: ClassVar[str] = "postgresql"

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
        """Make a cluster."""
        return [self._needed("initdb"), *INITDB, "--pgdata", str(folder)]

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command; every setting is an argument."""
        return [
            self._needed("postgres"),
            "-D",
            str(folder),
            *self._options(port=str(port), listen_addresses="127.0.0.1"),
        ]

    def contained(self) -> Contained:
        """Make a cluster that trusts every address, and serve from it; a container that starts again finds it there."""
        initdb = f"initdb {shlex.join(INITDB)} --pgdata $data && echo host all all all trust >>$data/pg_hba.conf"
        options = shlex.join(self._options(port="5432", listen_addresses="*"))
        script = f"data=/tmp/queuekit; [ -d $data ] || {{ {initdb}; }} && exec postgres -D $data {options}"
        return Contained(script=script, port=5432, user="postgres", stop_signal=self.stop_signal.name)

    def _options(self, **settings: str) -> list[str]:
        everything = {"unix_socket_directories": "", **settings, **self.settings}
        return [word for name, value in everything.items() for word in ("-c", f"{name}={value}")]

    def answers(self, host: str, port: int) -> bool:
        """Ask for a session as any client does; while it starts, recovers or ends it answers with an error."""
        body = struct.pack("!I", PROTOCOL) + f"user\0{USER}\0database\0postgres\0\0".encode()
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                connection.sendall(struct.pack("!I", len(body) + 4) + body)
                answer = connection.recv(1)
                connection.sendall(GOODBYE)
        except OSError:
            return False
        return answer == b"R"

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
