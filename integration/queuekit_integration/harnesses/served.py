"""The harness of a driver that speaks to a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from queuekit import Queue
from queuekit.contract import Driver
from queuekit.drivers import connect
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.servers import CannotCauseError, Kind, ProcessServer, Server, free_port, server
from queuekit_integration.servers.providers import unavailable

__all__ = ["ServedHarness"]


@dataclass
class ServedHarness(Harness):
    """A driver on this process's shared server of a kind; subclass it, set `name` and `kind`, implement `write_garbage` and `leaks`.

    Cells are told apart by namespace alone, so the server may be somebody's own, given by an address.
    """

    kind: ClassVar[Kind]
    _server: Server | None = None
    _own_servers: list[ProcessServer] = field(default_factory=list)

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why there is no server here."""
        return unavailable(cls.kind)

    @property
    def server(self) -> Server:
        """The server, running when first asked for."""
        if self._server is None:
            self._server = server(self.kind)
        return self._server

    def address(self, url: str) -> str:
        """Return the queue's address for a server's; a driver that wants options in it adds them here."""
        return url

    def url(self, *, through: Proxy | None = None) -> str:
        """Return the address with which every process reaches the server."""
        return self.address(self.server.url(port=through.port if through else None))

    def make_driver(self, *, virtual: bool) -> Driver:
        """Build the driver from the address, as a user does."""
        return connect(self.url(), namespace=self.namespace, clock=self.clock if virtual else None)

    def broken(self) -> Driver:
        """Return a driver on a port where nobody listens."""
        return connect(self.address(self.server.url(port=free_port())), namespace=self.namespace, clock=None)

    @contextlib.contextmanager
    def outage(self, queue: Queue) -> Iterator[None]:  # noqa: ARG002 - the server fails every client
        """Kill the server, and start it again at the end."""
        self.server.kill()
        self.fired("outage")
        yield
        self.server.start()

    def private_server(self, *, folder: Path) -> Server:
        """Start a server of this cell's own, with its data in `folder`; raises `CannotCauseError` where none can be started."""
        if self.kind.program() is None:
            raise CannotCauseError(f"no program of {self.kind.name} on this machine to start a second server from")
        own = ProcessServer(self.kind, folder=folder)
        self.keep(own)
        own.start()
        return own

    def keep(self, own: ProcessServer) -> None:
        """End a server of this cell's own with it."""
        self._own_servers.append(own)

    def close(self) -> None:
        """End what this cell started."""
        with contextlib.ExitStack() as stack:
            for own in reversed(self._own_servers):
                stack.callback(own.close)
            super().close()

    def heal(self) -> None:
        """Undo what was done to the server."""
        if self._server is not None:
            self._server.heal()
