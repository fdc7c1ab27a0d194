"""A server whose clients have sessions and transactions, and what can be done to it by its own commands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from queuekit_integration.servers import Server

__all__ = ["Sessions"]


class Sessions(Protocol):
    """Harm for the sessions of queuekit's clients; whatever lasts ends with its `with` block."""

    @property
    def count(self) -> int:
        """How many sessions queuekit's clients have."""
        ...

    @property
    def waiting(self) -> int:
        """How many of them wait for a lock."""
        ...

    @property
    def in_transaction(self) -> int:
        """How many of them idle in a transaction."""
        ...

    def end(self) -> int:
        """End all of them, as an administrator does; return how many."""
        ...

    def cancel(self) -> int:
        """Cancel what they wait for; return how many statements."""
        ...

    def crash_one(self) -> None:
        """Kill -9 the process behind one of them."""
        ...

    def setting(self, name: str, value: str) -> AbstractContextManager[None]:
        """Give new sessions a setting."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Hold the jobs' table in the strongest mode, as a migration does."""
        ...

    def colliding(self, every: int) -> AbstractContextManager[None]:
        """Let one in so many statements that write jobs fail as if it could not be serialized."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Keep a transaction open that sees what is there now, so that nothing of it can be cleared away."""
        ...

    def lock_job(self, id: str) -> AbstractContextManager[LockedJob]:
        """Lock a job's row in another transaction."""
        ...

    def pooled(self) -> AbstractContextManager[str]:
        """Put a pooler in transaction mode with two connections in front; give the address of a queue behind it."""
        ...

    def standby(self, primary: Server, *, port: int, folder: Path) -> Server:
        """Start a standby of a server that streams from it through `port`, with its data in `folder`."""
        ...

    def caught_up(self, primary: Server, standby: Server) -> bool:
        """Whether a standby has applied all that its primary has written."""
        ...

    def promote(self, standby: Server) -> None:
        """Make a standby take writes."""
        ...

    def url(self, server: Server, *, port: int | None = None) -> str:
        """Return a queue's address on another server."""
        ...


class LockedJob(Protocol):
    """A transaction that has a job's row."""

    def lock(self, id: str) -> None:
        """Ask for another one's, too."""
        ...
