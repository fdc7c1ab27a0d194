"""PgBouncer, in front of a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from queuekit_integration.servers.base import CannotCauseError, Contained, Kind
from queuekit_integration.servers.postgres import Postgres

__all__ = ["PgBouncer"]

SETTINGS = """[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
max_client_conn = 200
server_login_retry = 0.1
"""
"""By default it refuses everybody for 15 s after the server was away: scenarios do not wait for that."""


class PgBouncer(Kind):
    """A pooler with so many connections to the server at `url`, for all of its clients together."""

    name: ClassVar[str] = "pgbouncer"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    image: ClassVar[str] = ""
    package: ClassVar[str] = "pgbouncer"

    def __init__(self, url: str = "", *, mode: str = "transaction", connections: int = 2) -> None:
        self._url = url
        self._mode = mode
        self._connections = connections

    def program(self) -> str | None:
        """Return `pgbouncer`; Debian keeps it where only root looks."""
        return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    def account(self) -> str | None:
        """Return whom PostgreSQL runs as: it refuses to be root as well."""
        return Postgres().account()

    def prepare(self, folder: Path) -> list[str] | None:
        """Need nothing: its settings are written with its port."""
        del folder
        return None

    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command."""
        program = self.program()
        assert program is not None, "pgbouncer is not installed"
        to = urlsplit(self._url)
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(
                host=to.hostname,
                port=to.port,
                user=to.username,
                own=port,
                mode=self._mode,
                connections=self._connections,
            ),
            "utf-8",
        )
        settings.chmod(0o644)
        return [program, str(settings)]

    def contained(self) -> Contained:
        """Refuse: it is only ever a program of this machine."""
        raise CannotCauseError("pgbouncer runs in no container of these tests")

    def answers(self, host: str, port: int) -> bool:
        """Ask as of a server: it answers once it has one behind it."""
        return Postgres().answers(host, port)

    def url(self, host: str, port: int) -> str:
        """Return the address of the same database."""
        return Postgres().url(host, port)
