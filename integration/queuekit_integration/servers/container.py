"""Servers in containers, through testcontainers: for machines with Docker and without the programs, and for other versions."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from functools import cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

from queuekit_integration.servers.base import Fault, Kind, Server, ServerError
from queuekit_integration.servers.guard import guard_container
from queuekit_integration.servers.ports import free_port

__all__ = ["ContainerServer", "no_docker"]

START = 60.0
"""Seconds within which a server must answer; an image that is already here is assumed to start in far less."""
STOP = 20
TAIL = 3000


@cache
def no_docker() -> str | None:
    """Return why no container can be started here; None where one can."""
    try:
        import docker  # noqa: PLC0415 - testcontainers' own dependency, and nobody else needs it
        import testcontainers.core.container  # noqa: F401, PLC0415 - the same
    except ImportError:
        return "testcontainers is not installed: pip install 'queuekit-integration[containers]'"
    if not _somebody_listens():
        return "Docker does not answer"
    try:
        with contextlib.closing(docker.from_env(timeout=int(START))) as client:
            client.ping()
    except Exception as error:  # whatever keeps Docker from answering is the reason that is returned
        return f"Docker does not answer ({type(error).__name__})"
    return None


def _somebody_listens() -> bool:
    """Ask before Docker's own client does, which leaves a socket open where nobody answers."""
    address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if address.scheme != "unix":
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.path) == 0


class ContainerServer(Server):
    """A server in a container of its own, on a port of this machine that it keeps through stops and starts."""

    provider: ClassVar[str] = "container"

    def __init__(self, kind: Kind, image: str | None = None) -> None:
        if reason := no_docker():
            raise ServerError(f"no {kind.name} in a container: {reason}")
        self.kind = kind
        self.image = image or kind.image
        self.port = free_port()
        self._box: Any = None
        self._container: Any = None
        """What runs: the Docker SDK's handle."""
        self._paused = False

    @property
    def faults(self) -> frozenset[Fault]:
        """All: an engine can stop, kill, pause and replace a container."""
        return frozenset({"stop", "kill", "freeze", "wipe", "proxy"})

    def url(self, *, port: int | None = None) -> str:
        """Return its address; with `port`, as seen through a proxy on that port."""
        return self.kind.url(self.host, port or self.port)

    def start(self) -> None:
        """Start it where it does not run, and block until it answers."""
        if self._container is None:
            self._create()
        elif not self._runs():
            self._container.start()
        self._await_answer()

    def stop(self) -> None:
        """End it in good order."""
        self.thaw()
        self._container.stop(timeout=STOP)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.thaw()
        if self._runs():
            self._container.kill()
        self._container.wait(timeout=STOP)

    def freeze(self) -> None:
        """Pause it."""
        self._container.pause()
        self._paused = True

    def thaw(self) -> None:
        """Let it go on."""
        if self._paused:
            self._paused = False
            self._container.unpause()

    def wipe(self) -> None:
        """Throw the container away; the next start makes a new one on the same port."""
        if self._runs():
            raise ServerError(f"{self.kind.name} runs; stop it before its data are removed")
        self.close()

    def heal(self) -> None:
        """Let it go on, or start it again."""
        self.thaw()
        self.start()

    def close(self) -> None:
        """Remove the container."""
        if self._container is not None:
            self._container.remove(force=True, v=True)
            self._container = None

    def log(self) -> str:
        """Return the end of what it wrote."""
        return "no log" if self._container is None else self._container.logs().decode("utf-8", "replace")[-TAIL:]

    def _create(self) -> None:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only who starts one needs it

        inside = self.kind.contained()
        self._box = (
            DockerContainer(self.image)
            .with_bind_ports(inside.port, self.port)
            .with_kwargs(
                entrypoint=["sh", "-c", inside.script],
                user=inside.user,
                stop_signal=inside.stop_signal,
                labels={"queuekit": "test"},
            )
        )
        self._box.start()
        self._container = self._box.get_wrapped_container()
        guard_container(self._container.id)
        host = self._box.get_container_host_ip()
        self.host = "127.0.0.1" if host == "localhost" else host

    def _runs(self) -> bool:
        if self._container is None:
            return False
        self._container.reload()
        return str(self._container.status) in {"running", "paused"}

    def _await_answer(self) -> None:
        end = time.monotonic() + START
        while not self.kind.answers(self.host, self.port):
            if not self._runs():
                raise ServerError(f"{self.kind.name} ended when it should have started:\n{self.log()}")
            if time.monotonic() > end:
                raise ServerError(
                    f"{self.kind.name} in {self.image} does not answer on port {self.port}:\n{self.log()}"
                )
            time.sleep(0.05)
