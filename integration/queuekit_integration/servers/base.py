"""What a server is to a test: an address, and the faults that can be caused in it.

A `Kind` knows one program (its command line, how it answers, what its addresses look like); a `Server` is one that runs, whoever
provides it. Every kind works with every provider.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

__all__ = ["CannotCauseError", "Contained", "Fault", "Kind", "Server", "ServerError"]

Fault: TypeAlias = Literal["stop", "kill", "freeze", "wipe", "proxy"]
"""stop: an orderly end, and a start with the same data. kill: the same after a SIGKILL. freeze: no process of it runs until
it is thawed. wipe: a start without the data. proxy: whatever can be done to its connections."""


class ServerError(RuntimeError):
    """A server did not start, did not end or cannot be had; says what it logged."""


class CannotCauseError(ServerError):
    """This provider cannot cause this fault; a scenario asks `Server.faults` before."""


@dataclass(frozen=True, kw_only=True)
class Contained:
    """How a kind of server runs in a container."""

    script: str
    """What a shell in it runs; must work in the image that the server's makers publish, and in a plain Debian with its package."""
    port: int
    user: str | None = None
    stop_signal: str


class Kind(ABC):
    """One kind of server: what to start, how to see that it answers, how to address it."""

    name: ClassVar[str]
    """As people know it; the environment variable QUEUEKIT_TEST_<NAME>_URL gives a server of this kind."""
    stop_signal: ClassVar[signal.Signals]
    """What makes it end in good order."""
    image: ClassVar[str]
    """The image that its makers publish."""
    package: ClassVar[str]
    """Debian's package with the program."""
    start_seconds: ClassVar[float] = 30.0
    """Seconds within which it must answer: crash recovery and a busy machine included."""

    @abstractmethod
    def program(self) -> str | None:
        """Return the path of the machine's own program, or None where there is none."""

    @abstractmethod
    def account(self) -> str | None:
        """Return the user to run as; None: whoever runs the tests."""

    @abstractmethod
    def prepare(self, folder: Path) -> list[str] | None:
        """Return the command that makes an empty folder ready for a first start; None where none is needed."""

    @abstractmethod
    def command(self, folder: Path, port: int) -> list[str]:
        """Return the command that serves from this folder on 127.0.0.1, in the foreground, logging to stdout or stderr."""

    @abstractmethod
    def contained(self) -> Contained:
        """Return how it runs in a container, open to the machine that the container runs on."""

    @abstractmethod
    def answers(self, host: str, port: int) -> bool:
        """Ask once, for a second at most, whether it takes clients now."""

    @abstractmethod
    def url(self, host: str, port: int) -> str:
        """Return the address that a queue is built with."""

    @property
    def variable(self) -> str:
        """The environment variable that may give an address."""
        return f"QUEUEKIT_TEST_{self.name.upper()}_URL"


class Server(ABC):
    """A server that runs. Faults last until their opposite or `heal`, which every cell calls at its end."""

    kind: Kind
    provider: ClassVar[str]
    host: str = "127.0.0.1"
    port: int

    @abstractmethod
    def url(self, *, port: int | None = None) -> str:
        """Return its address; with `port`, as seen through a proxy on that port of 127.0.0.1."""

    @property
    @abstractmethod
    def faults(self) -> frozenset[Fault]:
        """What this provider can do to it."""

    @abstractmethod
    def start(self) -> None:
        """Start it where it does not run, and block until it answers (`Kind.start_seconds` at most)."""

    @abstractmethod
    def stop(self) -> None:
        """End it in good order, and block until it is gone."""

    @abstractmethod
    def kill(self) -> None:
        """End all its processes at once by SIGKILL, and block until they are gone."""

    @abstractmethod
    def freeze(self) -> None:
        """Let none of its processes run; its connections stay open."""

    @abstractmethod
    def thaw(self) -> None:
        """Let them run again."""

    @abstractmethod
    def wipe(self) -> None:
        """Remove its data; it must not run."""

    def restart(self, *, wipe: bool = False) -> None:
        """End it in good order and start it again, on the same port, with its data or without."""
        self.stop()
        if wipe:
            self.wipe()
        self.start()

    @abstractmethod
    def heal(self) -> None:
        """Undo every fault: afterwards it runs and answers."""

    @abstractmethod
    def close(self) -> None:
        """End it for good, and remove what it stored."""

    @abstractmethod
    def log(self) -> str:
        """Return the end of what it logged."""
