"""Which queues a node has written down for certain, so that what they are sent outlives the death of the node.

A quorum queue confirms a message once it is in the node's log on disk. To which queue a log belongs stands in a table of its own,
which RabbitMQ writes half a second to a second after the last change of it (Ra's `names.dets`, its `auto_save`; 3.10 and 4.x alike). A
node that is killed before that starts the queue anew, empty, although it had confirmed what was in it. So nothing is sent to a queue that
was just made before that time is over, by whoever made it or anybody else: then, and only then, the exchange of the lanes gets a binding that
says so, its *mark*. It is asked for like everything there, by publishing with the mandatory flag.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from queuekit.contract import Patience
from queuekit_rabbitmq.topology import Names

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Written"]

LOOK = 0.05
"""Seconds after which somebody who waits is asked whether they still want it."""


class Written:
    """What one publishing session knows of that, by mark."""

    def __init__(self, names: Names, *, seconds: float) -> None:
        self._names = names
        self._seconds = seconds
        self._made: dict[str, float] = {}
        """When this session made a queue that has no mark yet."""

    def made(self, marks: Sequence[str]) -> None:
        """Note that these queues exist by now; one that was noted before keeps its time."""
        now = time.monotonic()
        for mark in marks:
            self._made.setdefault(mark, now)

    def wait(self, marks: Sequence[str], patience: Patience | None) -> None:
        """Block until all of these are written down; raises when `patience` ends before. Who asks again goes on waiting where they stopped."""
        while (left := self.left(marks)) > 0:
            if patience is None:
                time.sleep(left)
            else:
                patience.check()
                time.sleep(min(left, LOOK))

    def left(self, marks: Sequence[str]) -> float:
        """Return the seconds until all of these are written down; 0 or less when they are."""
        return max(self._made.get(mark, 0.0) for mark in marks) + self._seconds - time.monotonic()

    def mark(self, channel: Channel, marks: Iterable[str]) -> None:
        """Say so to everybody; on the I/O thread."""
        for mark in marks:
            channel.queue_bind(self._names.void, self._names.lanes, mark)
            self._made.pop(mark, None)

    def unmark(self, channel: Channel, marks: Iterable[str]) -> None:
        """Take it back of queues that were deleted; on the I/O thread."""
        for mark in marks:
            channel.queue_unbind(self._names.void, self._names.lanes, mark)
            self._made.pop(mark, None)
