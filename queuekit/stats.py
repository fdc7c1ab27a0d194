"""What a queue says of itself, as values."""

from __future__ import annotations

from msgspec import Struct

from queuekit.contract import Limits, QueueCounts, WorkerInfo

__all__ = ["Capabilities", "Health", "Stats"]


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a backend can do."""

    limits: Limits
    features: tuple[str, ...]


class Stats(Struct, frozen=True, kw_only=True):
    """How much work there is and who does it."""

    queues: tuple[QueueCounts, ...]
    workers: tuple[WorkerInfo, ...] = ()

    @property
    def pending(self) -> int:
        """Jobs that could run, or are held by their key, a limit or a pause."""
        return sum(queue.pending for queue in self.queues)

    @property
    def in_flight(self) -> int:
        """Jobs on loan."""
        return sum(queue.running for queue in self.queues)

    @property
    def completed_per_second(self) -> float:
        """Jobs that live workers complete a second, each measured over its last third of a lease."""
        return sum(worker.completed_per_second for worker in self.workers)

    @property
    def failed_per_second(self) -> float:
        """Attempts that fail a second, measured in the same way."""
        return sum(worker.failed_per_second for worker in self.workers)


class Health(Struct, frozen=True, kw_only=True):
    """Whether the backend answers."""

    healthy: bool
    message: str
    seconds: float
