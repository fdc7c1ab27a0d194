"""A server whose data are keys, and what can be done to it by its own commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Keyspace"]


class Keyspace(Protocol):
    """Harm for one namespace's keys, or for the whole server; whatever lasts ends with its `with` block."""

    @property
    def keys(self) -> Iterator[str]:
        """Yield the names of the keys that the namespace has now."""
        ...

    def flush(self) -> None:
        """Drop all data of the server."""
        ...

    def forget_scripts(self) -> None:
        """Let the server forget every script that was loaded."""
        ...

    def drop(self, key: str) -> None:
        """Remove one key, as an eviction does."""
        ...

    def spoil(self, key: str) -> AbstractContextManager[None]:
        """Put a value of another type in a key's place; the key is removed afterwards."""
        ...

    def full(self) -> AbstractContextManager[None]:
        """Let the server have no memory left; it refuses writes."""
        ...

    def evicting(self) -> AbstractContextManager[None]:
        """Let the server have too little memory, and make room by removing keys; some of the namespace's are gone then."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """Let a script of somebody else run and run."""
        ...

    def cut_clients(self) -> int:
        """Close the connections of all clients, those that wait included; return how many."""
        ...

    def hold_clients(self, seconds: float) -> None:
        """Let the server answer nobody for a while; blocks as long."""
        ...

    @property
    def clients(self) -> int:
        """How many clients are connected, the one that counts left out."""
        ...
