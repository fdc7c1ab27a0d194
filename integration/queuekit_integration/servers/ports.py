"""Ports for servers of a test's own."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port", "listens"]

FIRST, LAST = 10_000, 32_000
"""Below the range from which Linux takes the ports of outgoing connections: one of those must not take a server's port while
the server restarts."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    numbers = random.SystemRandom()
    while True:
        port = numbers.randint(FIRST, LAST)
        with socket.socket() as probe:
            # As servers do: connections of an earlier server that still linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(host: str, port: int) -> bool:
    """Ask whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
