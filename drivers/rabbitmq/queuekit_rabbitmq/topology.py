"""What the driver makes in a virtual host, and what it is called.

Every name begins with the namespace and a colon, which no queue's name can have. For a queue `mail` of the namespace `shop`:

    shop:mail            jobs of the default priority; `shop:mail:9` … `shop:mail:0` the other levels, once they are used
    shop:mail:back       jobs that were given back: they keep their place before all others
    shop:mail:dead       failed and cancelled jobs, with the reason in their headers
    shop:mail:delay:N    the delay ladder's step of 2^N units: an exchange, and a queue whose messages expire after that time
    shop:mail:due        the exchange at the foot of the ladder
    shop::lanes          the exchange that knows which of these queues exist; `shop::void` makes its bindings lead somewhere

A *lane* is one of the queues that jobs are lent from. Which lanes exist is asked of `shop::lanes` by publishing to it with the
mandatory flag: what is returned does not exist. (Declaring passively instead would log an error for each that does not.) Which
queues are written down, so that they can be sent to, is asked alike (see `written`); and so is whether two drivers have one namespace.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["BACK", "LANES", "NORMAL", "Lane", "Names", "lane_of"]

Lane: TypeAlias = str
BACK: Lane = "back"
NORMAL: Lane = "4"
LANES: tuple[Lane, ...] = (BACK, "9", "8", "7", "6", "5", "4", "3", "2", "1", "0")
"""In the order in which they are lent from."""


def lane_of(priority: int) -> Lane:
    """Return the lane of a priority."""
    return str(priority)


class Names:
    """The names in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.lanes = f"{namespace}::lanes"
        self.void = f"{namespace}::void"
        self.workers = f"{namespace}::workers"

    def lane(self, queue: str, lane: Lane) -> str:
        """Return the name of a lane's queue."""
        return f"{self.namespace}:{queue}" if lane == NORMAL else f"{self.namespace}:{queue}:{lane}"

    def dead(self, queue: str) -> str:
        """Return the name of the queue of failed jobs."""
        return f"{self.namespace}:{queue}:dead"

    def mark(self, queue: str, part: str) -> str:
        """Return the key of the binding which says that a lane's queue, or `step-N`, is written down (see `written`)."""
        return f"made.{part}.{queue}"

    def step(self, queue: str, number: int) -> str:
        """Return the name of a ladder's step, its exchange's and its queue's."""
        return f"{self.namespace}:{queue}:delay:{number}"

    def due(self, queue: str) -> str:
        """Return the name of the exchange at the foot of a queue's ladder."""
        return f"{self.namespace}:{queue}:due"
