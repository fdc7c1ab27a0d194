"""What a lane has lent and has on its way: the things that a consumer keeps account of."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from queuekit_rabbitmq.wire import BLANK, Properties, decoded

if TYPE_CHECKING:
    from queuekit_rabbitmq.consumer import Consumer
    from queuekit_rabbitmq.session import Session

__all__ = ["STALE", "Held", "Source", "Subscription"]

STALE = 1.0
"""Seconds after which pushed messages that nobody claims are given back."""


class Held:
    """A message that the broker has lent to this connection: a delivery's receipt."""

    __slots__ = (
        "_properties",
        "body",
        "came",
        "consumer",
        "followed",
        "lost",
        "redelivered",
        "settled",
        "source",
        "subscription",
        "tag",
    )

    def __init__(
        self,
        consumer: Consumer,
        source: Source,
        tag: int,
        *,
        redelivered: bool,
        properties: bytes,
        body: bytes,
        came: float,
        subscription: Subscription | None = None,
    ) -> None:
        self.consumer = consumer
        self.source = source
        self.tag = tag
        self.redelivered = redelivered
        self._properties = properties
        self.body = body
        self.came = came
        self.subscription = subscription
        """What it was pushed by; None when it was fetched."""
        self.settled = False
        self.followed = False
        """Whether its successor is stored, and it is acknowledged later."""
        self.lost = False
        """Whether its acknowledgement had no answer: asked again, it has none either."""

    @property
    def blank(self) -> bool:
        """Whether it is no job."""
        return self.body == BLANK

    @property
    def queue(self) -> str:
        """The queue of the job."""
        return self.source.queue

    @property
    def session(self) -> Session:
        """What it is lent on."""
        return self.consumer.session

    @property
    def properties(self) -> Properties:
        """Its properties; read when asked for, which is not on the I/O thread."""
        return decoded(self._properties)


class Source:
    """One lane that is lent from."""

    __slots__ = ("asked", "asking", "ending", "lane", "queue", "subscription", "waiting", "wanted")

    def __init__(self, queue: str, lane: str) -> None:
        self.queue = queue
        self.lane = lane
        """The name of the broker's queue."""
        self.subscription: Subscription | None = None
        """What the broker pushes by; None when it pushes nothing."""
        self.wanted = 0
        """The allowance that it shall have, as soon as the present one is used up."""
        self.ending = 0
        """How many cancelled subscriptions may still bring something."""
        self.waiting: deque[Held] = deque()
        """Pushed and not claimed yet."""
        self.asking = 0
        """How many claims that want something of it are at work."""
        self.asked = time.monotonic()
        """When the last of them ended."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing of the lane is on its way here or waits to be claimed, so that what is fetched now is the next in order."""
        subscription = self.subscription
        return not self.waiting and not self.ending and (subscription is None or subscription.used_up)

    @property
    def open(self) -> bool:
        """Whether the broker may push something more at any time."""
        return self.subscription is not None and not self.subscription.used_up

    @property
    def stale(self) -> bool:
        """Whether something waits that nobody has asked for in a while."""
        return bool(self.waiting) and not self.asking and time.monotonic() - self.asked > STALE


class Subscription:
    """A consumer of a lane at the broker. Its allowance counts what it was pushed itself, and nothing else of its lane."""

    __slots__ = ("last", "prefetch", "source", "tag", "used")

    def __init__(self, source: Source, tag: str, prefetch: int, *, last: bool = False) -> None:
        self.source = source
        self.tag = tag
        self.prefetch = prefetch
        self.last = last
        """Whether it shall be used up, and then cancelled: it keeps blanks."""
        self.used = 0
        """How many of the messages that it was pushed are unacknowledged."""

    @property
    def used_up(self) -> bool:
        """Whether the broker pushes nothing more until something is acknowledged."""
        return self.used >= self.prefetch

    @property
    def room(self) -> int:
        """How many messages more the broker may push."""
        return max(0, self.prefetch - self.used)
