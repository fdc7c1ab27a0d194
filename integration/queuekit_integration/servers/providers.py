"""Who provides a server: the environment's address or image, else the machine's program, else a container."""

from __future__ import annotations

import os

from queuekit_integration.servers.base import Kind, Server, ServerError
from queuekit_integration.servers.container import ContainerServer, no_docker
from queuekit_integration.servers.given import GivenServer
from queuekit_integration.servers.process import ProcessServer

__all__ = ["close_servers", "provide", "server", "unavailable"]

_running: dict[tuple[int, str], Server] = {}
"""By process and kind: a forked child must not take its parent's servers for its own."""


def server(kind: Kind) -> Server:
    """Return this process's shared server of a kind, running; raises `ServerError` where none can be had."""
    name = (os.getpid(), kind.name)
    if name not in _running:
        _running[name] = provide(kind)
    _running[name].heal()
    return _running[name]


def provide(kind: Kind) -> Server:
    """Return a server of a kind by the first provider that has one, running."""
    if reason := unavailable(kind):
        raise ServerError(reason)
    found = _first(kind)
    found.start()
    return found


def _first(kind: Kind) -> Server:
    if address := os.environ.get(kind.variable):
        return GivenServer(kind, address)
    image = os.environ.get(_image_variable(kind))
    if image is None and kind.program():
        return ProcessServer(kind)
    return ContainerServer(kind, image)


def unavailable(kind: Kind) -> str | None:
    """Return why no server of a kind can be had here; None where one can."""
    if os.environ.get(kind.variable):
        return None
    image = _image_variable(kind)
    if os.environ.get(image):
        reason = no_docker()
        return reason and f"no {kind.name} in the container that {image} asks for: {reason}"
    if kind.program() or not (reason := no_docker()):
        return None
    return f"no {kind.name}: {kind.variable} is not set, the machine has no program for it, and {reason}"


def _image_variable(kind: Kind) -> str:
    """Return the environment variable that asks for a container, by its image."""
    return f"QUEUEKIT_TEST_{kind.name.upper()}_IMAGE"


def close_servers() -> None:
    """End the servers that this process shares."""
    for name in [name for name in _running if name[0] == os.getpid()]:
        _running.pop(name).close()
