"""A server that somebody else runs: the tests have its address, and no hold of its processes."""

from __future__ import annotations

from typing import ClassVar, NoReturn
from urllib.parse import urlsplit, urlunsplit

from queuekit_integration.servers.base import CannotCauseError, Fault, Kind, Server, ServerError

__all__ = ["GivenServer"]


class GivenServer(Server):
    """The server behind an address from the environment; only faults of the connection can be caused."""

    provider: ClassVar[str] = "environment"

    def __init__(self, kind: Kind, address: str) -> None:
        self.kind = kind
        self._parts = urlsplit(address)
        if not self._parts.hostname or not self._parts.port:
            raise ServerError(f"{kind.variable} must be an address with host and port")
        self.host, self.port = self._parts.hostname, self._parts.port

    @property
    def faults(self) -> frozenset[Fault]:
        """What a proxy in front of it can do."""
        return frozenset({"proxy"})

    def url(self, *, port: int | None = None) -> str:
        """Return the address as given; with `port`, the same with a proxy's host and port."""
        if port is None:
            return urlunsplit(self._parts)
        credentials, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))

    def start(self) -> None:
        """See that it answers; starting it is somebody else's business."""
        if not self.kind.answers(self.host, self.port):
            raise ServerError(
                f"{self.kind.name} at {self.host}:{self.port}, from {self.kind.variable}, does not answer"
            )

    def stop(self) -> None:
        """Not in our hands."""
        self._cannot("stop")

    def kill(self) -> None:
        """Not in our hands."""
        self._cannot("kill")

    def freeze(self) -> None:
        """Not in our hands."""
        self._cannot("freeze")

    def thaw(self) -> None:
        """Not in our hands."""
        self._cannot("freeze")

    def wipe(self) -> None:
        """Not in our hands."""
        self._cannot("wipe")

    def heal(self) -> None:
        """Nothing was done to it."""

    def close(self) -> None:
        """Leave it alone."""

    def log(self) -> str:
        """Say where it would be."""
        return f"the log is where {self.host}:{self.port} keeps it"

    def _cannot(self, fault: Fault) -> NoReturn:
        raise CannotCauseError(f"{self.kind.name} comes from {self.kind.variable}: the tests cannot {fault} it")
