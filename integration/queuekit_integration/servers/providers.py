"""Who provides a server: the environment's address, else the machine's program; in that order."""

from __future__ import annotations

import os

from queuekit_integration.servers.base import Kind, Server, ServerError
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
    address = os.environ.get(kind.variable)
    found = GivenServer(kind, address) if address else ProcessServer(kind)
    found.start()
    return found


def unavailable(kind: Kind) -> str | None:
    """Return why no server of a kind can be had here; None where one can."""
    if os.environ.get(kind.variable) or kind.program():
        return None
    return f"no {kind.name}: {kind.variable} is not set, and the machine has no program for it"


def close_servers() -> None:
    """End the servers that this process shares."""
    for name in [name for name in _running if name[0] == os.getpid()]:
        _running.pop(name).close()
