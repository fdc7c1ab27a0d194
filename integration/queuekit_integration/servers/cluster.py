"""A Redis cluster of three nodes, started from the machine's programs."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from queuekit_integration.servers.base import ServerError
from queuekit_integration.servers.ports import free_port
from queuekit_integration.servers.process import ProcessServer
from queuekit_integration.servers.redis import Redis

__all__ = ["RedisCluster"]

SLOTS = 16384
JOIN = 30.0
"""Seconds within which the nodes must agree."""


class RedisCluster:
    """Three primaries with a third of the slots each, and no replicas."""

    def __init__(self) -> None:
        self._buses: list[int] = []
        self.nodes = [self._node() for _ in range(3)]

    def _node(self) -> ProcessServer:
        bus = free_port()
        self._buses.append(bus)
        settings = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-port": str(bus)}
        return ProcessServer(Redis(settings))

    def start(self) -> None:
        """Start the nodes, deal out the slots, and block until each says that the cluster is whole."""
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            command(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            for other, bus in zip(self.nodes, self._buses, strict=True):
                command(node, "CLUSTER", "MEET", "127.0.0.1", str(other.port), str(bus))
        end = time.monotonic() + JOIN
        while not all(self._whole(node) for node in self.nodes):
            if time.monotonic() > end:
                raise ServerError(f"the nodes did not agree within {JOIN} s:\n{self.nodes[0].log()}")
            time.sleep(0.05)

    def _whole(self, node: ProcessServer) -> bool:
        info = command(node, "CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info

    def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.close()


def command(server: ProcessServer, *words: str) -> bytes:
    """Say one thing to a server, and return the beginning of what it says; raises `ServerError` for an error."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(_packed(words))
        reply = connection.recv(65536)
    if reply.startswith(b"-"):
        raise ServerError(f"{' '.join(words)}: {reply.decode('utf-8', 'replace').strip()}")
    return reply


def _packed(words: Sequence[str]) -> bytes:
    return f"*{len(words)}\r\n{''.join(f'${len(word)}{chr(13)}{chr(10)}{word}{chr(13)}{chr(10)}' for word in words)}".encode()
