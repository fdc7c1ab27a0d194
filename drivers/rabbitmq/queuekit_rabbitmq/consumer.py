"""Taking deliveries: fetched one by one where a claim must not wait, pushed where it may, acknowledged in runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pika

from queuekit.contract import Wakeup
from queuekit_rabbitmq.session import Answer, Session, reply
from queuekit_rabbitmq.stream import Arrival
from queuekit_rabbitmq.wire import Properties, acknowledgements, decoded

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Consumer", "Held"]

STALE = 1.0
"""Seconds after which a pushed message that nobody claims is given back."""
EXACT = 32
"""Prefetch counts up to this are set exactly; above, they move in steps, since each change is a new consumer."""


class Held:
    """A message that the broker has lent to this connection: a delivery's receipt."""

    __slots__ = (
        "_properties",
        "body",
        "came",
        "consumer",
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
        self.lost = False
        """Whether its acknowledgement had no answer: asked again, it has none either."""

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

    __slots__ = ("ending", "lane", "queue", "subscription", "waiting", "wanted")

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

    @property
    def at_rest(self) -> bool:
        """Whether nothing of the lane is on its way here or waits to be claimed, so that what is fetched now is the next in order."""
        subscription = self.subscription
        return not self.waiting and not self.ending and (subscription is None or subscription.used_up)


class Subscription:
    """A consumer of a lane at the broker. Its allowance counts what it was pushed itself, and nothing else of its lane."""

    __slots__ = ("prefetch", "source", "tag", "used")

    def __init__(self, source: Source, tag: str, prefetch: int) -> None:
        self.source = source
        self.tag = tag
        self.prefetch = prefetch
        self.used = 0
        """How many of the messages that it was pushed are unacknowledged."""

    @property
    def used_up(self) -> bool:
        """Whether the broker pushes nothing more until something is acknowledged."""
        return self.used >= self.prefetch


class Consumer:
    """Lends from a session's channel; lives as long as the session."""

    def __init__(
        self, session: Session, *, give_back: Callable[[list[Held]], None], gone: Callable[[str], None]
    ) -> None:
        self.session = session
        self._gone = gone
        self._give_back = give_back
        self._sources: dict[str, Source] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        """By their tags; of a cancelled one until the broker has said that nothing more comes."""
        self._outstanding: dict[int, Held] = {}
        """Everything unacknowledged, by tag, oldest first."""
        self._waiters: set[Wakeup] = set()
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._tags = 0
        self._looking = False
        self._on_empty: Callable[[Any], None] = lambda _: None
        """What to do when a lane that is fetched from has nothing."""
        self._claimed_at = self._pushed_at = time.monotonic()
        self.looked: set[str] = set()
        """Queues whose lanes were asked for; of new ones the session is told."""

    # ----------------------------------------------------------------------------------------------------- taking

    def take(self, lanes: Sequence[tuple[str, str]], *, limit: int, recovered: int) -> list[Held]:
        """Take up to `limit` pushed messages, of them at most `recovered` that came back from a lost connection."""
        found: list[Held] = []
        with self._lock:
            self._claimed_at = time.monotonic()
            for _, lane in lanes:
                source = self._sources.get(lane)
                if source is not None and source.waiting:
                    recovered -= _take(source.waiting, found, limit, recovered)
                    if len(found) >= limit:
                        break
        return found

    def consumes(self, lane: str) -> bool:
        """Whether the broker pushes what comes to this lane."""
        source = self._sources.get(lane)
        return source is not None and source.subscription is not None

    def used_up(self, lane: str) -> bool:
        """Whether the broker pushes nothing more to this lane until something is acknowledged."""
        source = self._sources.get(lane)
        return source is not None and source.subscription is not None and source.subscription.used_up

    def fetch(self, lanes: Sequence[tuple[str, str]], *, limit: int, timeout: float) -> list[Held]:
        """Fetch up to `limit` messages that are ready now, lane by lane; one round trip each.

        From a lane of which something is on its way here nothing is fetched: it would overtake that.
        """
        with self._fetching:
            found: list[Held] = []
            doing = "fetching messages"
            self.session.ask(
                lambda answer: self._fetch(deque(lanes), limit, found, answer), doing=doing, timeout=timeout
            )
            return found

    def _fetch(self, lanes: deque[tuple[str, str]], limit: int, found: list[Held], answer: Answer) -> None:
        """Fetch the next one; each answer asks for the one after it."""

        def got(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            queue, lane = lanes[0]
            source = self._sources.get(lane) or self._sources.setdefault(lane, Source(queue, lane))
            found.append(self._hold(source, method.delivery_tag, method.redelivered, _encoded(properties), body))
            self._fetch(lanes, limit, found, answer)

        def empty(_: Any) -> None:
            lanes.popleft()
            self._fetch(lanes, limit, found, answer)

        while lanes and not self._at_rest(lanes[0][1]):
            lanes.popleft()
        if not lanes or len(found) >= limit:
            reply(answer)
            return
        self._on_empty = empty
        self.session.channel.basic_get(lanes[0][1], got)

    def _at_rest(self, lane: str) -> bool:
        """Ask before each fetch: an acknowledgement may have left meanwhile, and then the broker pushes again. On the I/O thread."""
        source = self._sources.get(lane)
        return source is None or source.at_rest

    def prepare(self, channel: Channel) -> None:
        """Hear of lanes that are empty, and of consumers that the broker cancels; on the I/O thread."""
        self.session.on_lost = self.wake
        self.session.connection.short_cut(channel.channel_number, on_arrivals=self._on_arrivals)
        channel.add_callback(self._empty, [pika.spec.Basic.GetEmpty], one_shot=False)
        channel.add_on_cancel_callback(self._on_cancelled)

    def _empty(self, frame: Any) -> None:
        self._on_empty(frame)

    # ------------------------------------------------------------------------------------------------ being pushed

    def subscribe(self, lanes: Sequence[tuple[str, str]], *, want: int) -> None:
        """Let the broker push: together about `want` unacknowledged messages, shared among the lanes.

        A lane's allowance changes once it is used up. A consumer that is cancelled earlier may have something on its way, and the
        broker takes that back: it comes again behind others, in any order, and as if it had been lent.
        """
        share = _step(max(1, -(-want // len(lanes))))
        wanted = {lane for _, lane in lanes}
        stale = [source for lane, source in self._sources.items() if source.subscription and lane not in wanted]
        moved = [lane for lane in lanes if self._moves(lane[1], share)]
        if moved or stale:
            self.session.call(lambda: self._resubscribe(moved, stale, share))

    def _moves(self, lane: str, share: int) -> bool:
        """Ask whether a lane needs a consumer of another allowance; half as much again is let pass, for a new one costs a commit."""
        source = self._sources.get(lane)
        if source is None or source.subscription is None:
            return True
        slack = share // 2 if share > EXACT else 0
        return not share <= source.wanted <= share + slack

    def _resubscribe(self, lanes: Sequence[tuple[str, str]], stale: Sequence[Source], share: int) -> None:
        for source in stale:
            self._cancel(source)
        for queue, lane in lanes:
            if self._moves(lane, share):
                source = self._sources.setdefault(lane, Source(queue, lane))
                source.wanted = share
                self._fit(source)

    def _fit(self, source: Source) -> None:
        """Give a lane the allowance that is wanted, unless something may be on its way."""
        present = source.subscription
        if present is None or (present.used_up and present.prefetch != source.wanted):
            self._cancel(source)
            self._consume(source, source.wanted)

    def _consume(self, source: Source, prefetch: int) -> None:
        self._tags += 1
        source.subscription = subscription = Subscription(source, f"queuekit-{self._tags}", prefetch)
        tag = subscription.tag.encode()
        self._subscriptions[tag] = subscription
        self.session.connection.consumers.add(tag)

        def pushed(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            self._on_arrivals([(tag, method.delivery_tag, method.redelivered, _encoded(properties), body)])

        self.session.channel.basic_qos(prefetch_count=prefetch)
        self.session.channel.basic_consume(source.lane, pushed, consumer_tag=subscription.tag)

    def _on_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Take what the broker has pushed; also of a consumer that was just cancelled: nothing else would lend it again."""
        self._pushed_at = now = time.monotonic()
        outstanding, subscriptions = self._outstanding, self._subscriptions
        with self._lock:
            for consumer, tag, redelivered, properties, body in arrivals:
                by = subscriptions[consumer]
                outstanding[tag] = held = Held(
                    self,
                    by.source,
                    tag,
                    redelivered=redelivered,
                    properties=properties,
                    body=body,
                    came=now,
                    subscription=by,
                )
                by.used += 1
                by.source.waiting.append(held)
            for wakeup in self._waiters:
                wakeup.set()
        for by in {subscriptions[arrival[0]] for arrival in arrivals}:
            if by is by.source.subscription:
                self._fit(by.source)
        if not self._looking:
            self._look_later()

    def _hold(self, source: Source, tag: int, redelivered: bool, properties: bytes, body: bytes) -> Held:
        held = Held(self, source, tag, redelivered=redelivered, properties=properties, body=body, came=time.monotonic())
        with self._lock:
            self._outstanding[tag] = held
        return held

    def _cancel(self, source: Source) -> None:
        subscription, source.subscription = source.subscription, None
        if subscription is not None:
            source.ending += 1
            self.session.channel.basic_cancel(subscription.tag, lambda _: self._cancelled(subscription))

    def _cancelled(self, subscription: Subscription) -> None:
        """Note that nothing more comes by a subscription."""
        subscription.source.ending -= 1
        tag = subscription.tag.encode()
        self._subscriptions.pop(tag, None)
        self.session.connection.consumers.discard(tag)

    def _on_cancelled(self, frame: Any) -> None:
        """Note that the broker cancelled a consumer, because its queue was deleted. The next claim makes it anew."""
        for source in self._sources.values():
            if source.subscription is not None and source.subscription.tag == frame.method.consumer_tag:
                source.subscription = None
                self.looked.discard(source.queue)
                self._gone(source.queue)
        self.wake()

    def stop(self) -> list[Held]:
        """Let the broker push nothing more, and take everything that nobody has claimed. From any thread."""
        self.session.call(lambda: self._resubscribe((), tuple(self._sources.values()), 0))
        with self._lock:
            return self._drained()

    def _drained(self) -> list[Held]:
        found = [held for source in self._sources.values() for held in source.waiting]
        for source in self._sources.values():
            source.waiting.clear()
        return found

    def _look_later(self) -> None:
        self._looking = True
        self.session.later(STALE, self._look)

    def _look(self) -> None:
        """Give back what was pushed and is not claimed: the worker turned slow, or has stopped."""
        self._looking = False
        with self._lock:
            if not any(source.waiting for source in self._sources.values()):
                return
            idle = not self._waiters and time.monotonic() - self._claimed_at > STALE
            found = self._drained() if idle else []
        if not idle:
            self._look_later()
            return
        for source in self._sources.values():
            self._cancel(source)
        self._give_back(found)

    def silent_for(self) -> float:
        """Return the seconds since the broker pushed anything, or since it was last looked whether it should have."""
        return time.monotonic() - self._pushed_at

    def look_again(self, lanes: Sequence[str]) -> None:
        """Note that it was looked, and consume these lanes anew."""
        self._pushed_at = time.monotonic()
        sources = [self._sources[lane] for lane in lanes]
        if sources:
            self.session.call(lambda: self._resubscribe((), sources, 0))

    # ------------------------------------------------------------------------------------------------- waiting

    def add_waiter(self, wakeup: Wakeup) -> None:
        """Raise this flag whenever something was pushed."""
        with self._lock:
            self._waiters.add(wakeup)

    def remove_waiter(self, wakeup: Wakeup) -> None:
        """Leave it alone from now on."""
        with self._lock:
            self._waiters.discard(wakeup)

    def wake(self) -> None:
        """Let every waiting claim look around."""
        with self._lock:
            for wakeup in self._waiters:
                wakeup.set()

    # ------------------------------------------------------------------------------------------------- settling

    @property
    def lent(self) -> int:
        """How many messages are claimed and not acknowledged."""
        with self._lock:
            return len(self._outstanding) - sum(len(source.waiting) for source in self._sources.values())

    def held(self) -> dict[str, int]:
        """Count what is unacknowledged, claimed or not, by queue."""
        counts: dict[str, int] = {}
        with self._lock:
            for held in self._outstanding.values():
                counts[held.queue] = counts.get(held.queue, 0) + 1
        return counts

    def acknowledge(self, held: Sequence[Held], *, timeout: float) -> None:
        """Acknowledge, and block until the broker has seen it; raises when the session was lost before.

        An acknowledgement has no answer of its own: a synchronous method behind it on the same channel has.
        """

        def begin(answer: Answer) -> None:
            self._acknowledge(held)
            self.session.channel.basic_qos(callback=lambda _: reply(answer))

        self.session.ask(begin, doing="acknowledging", timeout=timeout)

    def let_go(self, held: Sequence[Held]) -> None:
        """Acknowledge soon; never blocks, and nobody learns whether the broker has seen it."""

        def acknowledge() -> None:
            if self.session.alive:
                self._acknowledge(held)

        self.session.call(acknowledge)

    def _acknowledge(self, held: Sequence[Held]) -> None:
        """Acknowledge all up to the first message that stays open in one frame, the others one by one."""
        tags = {each.tag for each in held}
        run = 0
        with self._lock:
            for tag in self._outstanding:
                if tag not in tags:
                    break
                run = tag
            for tag in tags:
                gone = self._outstanding.pop(tag, None)
                if gone is not None and gone.subscription is not None:
                    gone.subscription.used -= 1
        channel = self.session.channel.channel_number
        self.session.write(acknowledgements(channel, run, sorted(tag for tag in tags if tag > run)))


def _encoded(properties: Any) -> bytes:
    return b"".join(properties.encode())


def _take(waiting: deque[Held], found: list[Held], limit: int, recovered: int) -> int:
    """Move messages from a lane's buffer; return how many of them were recovered."""
    passed: list[Held] = []
    count = 0
    while waiting and len(found) < limit:
        held = waiting.popleft()
        if held.redelivered and count >= recovered:
            passed.append(held)
            continue
        count += held.redelivered
        found.append(held)
    waiting.extendleft(reversed(passed))
    return count


def _step(want: int) -> int:
    """Return the largest step that is not above `want`."""
    if want <= EXACT:
        return want
    power = 1 << (want.bit_length() - 1)
    return power * 3 // 2 if want >= power * 3 // 2 else power
