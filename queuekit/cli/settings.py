"""What a worker's child is told, as one value that fits into an argument."""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["WorkerSettings"]


class WorkerSettings(NamedTuple):
    """How one child works. Plain, because the supervisor loads nothing that it does not need."""

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
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def decode(cls, text: str) -> WorkerSettings:
        """Return what `encode` made text of."""
        return cls(**json.loads(text))
