"""What a worker's child is told, as one value that fits into an argument."""

from __future__ import annotations

import msgspec
from msgspec import Struct

__all__ = ["WorkerSettings"]


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """How one child works."""

    app: str
    concurrency: int = 10
    queues: dict[str, int] | None = None
    lease: float = 30.0
    grace: float = 30.0
    """Seconds that running jobs have to end when the child is stopped."""
    max_jobs: int | None = None
    max_memory: int | None = None
    """MiB of resident memory."""
    reload: bool = False
    processes: int = 1
    """How many children there are in all."""

    def encode(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self, order="sorted").decode()

    @classmethod
    def decode(cls, text: str) -> WorkerSettings:
        """Return what `encode` made text of."""
        return msgspec.json.decode(text, type=cls)
