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
from queuekit_rabbitmq.wire import acknowledgements

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Consumer", "Held"]

STALE = 1.0
"""Seconds after which a pushed message that nobody claims is given back."""
EXACT = 32
"""Prefetch counts up to this are set exactly; above, they move in steps, since each change is a new consumer."""


class Held:
    """A message that the broker has lent to this connection."""

    __slots__ = ("body", "came", "lane", "properties", "queue", "redelivered", "settled", "tag")

    def __init__(
        self, tag: int, queue: str, lane: str, method: Any, properties: pika.BasicProperties, body: bytes
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.lane = lane
        """The name of the queue it came from."""
        self.redelivered: bool = method.redelivered
        self.properties = properties
        self.body = body
        self.came = time.monotonic()
        self.settled = False


class Source:
    """One lane that is consumed from."""

    __slots__ = ("lane", "prefetch", "queue", "tag", "waiting")

    def __init__(self, queue: str, lane: str) -> None:
        self.queue = queue
        self.lane = lane
        self.tag: str | None = None
        """The consumer's tag; None when the broker pushes nothing."""
        self.prefetch = 0
        self.waiting: deque[Held] = deque()
        """Pushed and not claimed yet."""


class Consumer:
    """Lends from a session's channel; lives as long as the session."""

    def __init__(
        self, session: Session, *, give_back: Callable[[list[Held]], None], gone: Callable[[str], None]
    ) -> None:
        self._session = session
        self._gone = gone
        self._give_back = give_back
        self._sources: dict[str, Source] = {}
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

    def pushed(self, lane: str) -> bool:
        """Whether the broker pushes what comes to this lane, and has not used up its allowance."""
        source = self._sources.get(lane)
        if source is None or source.tag is None:
            return False
        return sum(held.lane == lane for held in list(self._outstanding.values())) < source.prefetch

    def fetch(self, lanes: Sequence[tuple[str, str]], *, limit: int, timeout: float) -> list[Held]:
        """Fetch up to `limit` messages that are ready now, lane by lane; one round trip each."""
        with self._fetching:
            found: list[Held] = []
            doing = "fetching messages"
            self._session.ask(
                lambda answer: self._fetch(deque(lanes), limit, found, answer), doing=doing, timeout=timeout
            )
            return found

    def _fetch(self, lanes: deque[tuple[str, str]], limit: int, found: list[Held], answer: Answer) -> None:
        """Fetch the next one; each answer asks for the one after it."""

        def got(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            held = Held(method.delivery_tag, *lanes[0], method, properties, body)
            with self._lock:
                self._outstanding[held.tag] = held
            found.append(held)
            self._fetch(lanes, limit, found, answer)

        def empty(_: Any) -> None:
            lanes.popleft()
            self._fetch(lanes, limit, found, answer)

        if not lanes or len(found) >= limit:
            reply(answer)
            return
        self._on_empty = empty
        self._session.channel.basic_get(lanes[0][1], got)

    def prepare(self, channel: Channel) -> None:
        """Hear of lanes that are empty, and of consumers that the broker cancels; on the I/O thread."""
        self._session.on_lost = self.wake
        channel.add_callback(self._empty, [pika.spec.Basic.GetEmpty], one_shot=False)
        channel.add_on_cancel_callback(self._on_cancelled)

    def _empty(self, frame: Any) -> None:
        self._on_empty(frame)

    # ------------------------------------------------------------------------------------------------ being pushed

    def subscribe(self, lanes: Sequence[tuple[str, str]], *, want: int) -> None:
        """Let the broker push: together about `want` unacknowledged messages, shared among the lanes."""
        share = _step(max(1, -(-want // len(lanes))))
        wanted = {lane for _, lane in lanes}
        stale = [source for lane, source in self._sources.items() if source.tag is not None and lane not in wanted]
        moved = [lane for lane in lanes if self._moves(lane[1], share)]
        if moved or stale:
            self._session.call(lambda: self._resubscribe(moved, stale, share))

    def _moves(self, lane: str, share: int) -> bool:
        """Ask whether a lane needs a consumer of another allowance; half as much again is let pass, for a new one costs a commit."""
        source = self._sources.get(lane)
        if source is None or source.tag is None:
            return True
        slack = share // 2 if share > EXACT else 0
        return not share <= source.prefetch <= share + slack

    def _resubscribe(self, lanes: Sequence[tuple[str, str]], stale: Sequence[Source], share: int) -> None:
        for source in stale:
            self._cancel(source)
        for queue, lane in lanes:
            if self._moves(lane, share):
                source = self._sources.setdefault(lane, Source(queue, lane))
                self._cancel(source)
                self._consume(source, share)

    def _consume(self, source: Source, prefetch: int) -> None:
        self._tags += 1
        source.tag = f"queuekit-{self._tags}"
        source.prefetch = prefetch
        queue, lane, waiting = source.queue, source.lane, source.waiting
        outstanding, waiters, lock = self._outstanding, self._waiters, self._lock

        def pushed(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            held = Held(method.delivery_tag, queue, lane, method, properties, body)
            with lock:
                outstanding[held.tag] = held
                waiting.append(held)
                for wakeup in waiters:
                    wakeup.set()
            self._pushed_at = held.came
            if not self._looking:
                self._look_later()

        self._session.channel.basic_qos(prefetch_count=prefetch)
        self._session.channel.basic_consume(lane, pushed, consumer_tag=source.tag)

    def _cancel(self, source: Source) -> None:
        if source.tag is not None:
            self._session.channel.basic_cancel(source.tag)
            source.tag = None

    def _on_cancelled(self, frame: Any) -> None:
        """Note that the broker cancelled a consumer, because its queue was deleted. The next claim makes it anew."""
        for source in self._sources.values():
            if source.tag == frame.method.consumer_tag:
                source.tag = None
                self.looked.discard(source.queue)
                self._gone(source.queue)
        self.wake()

    def stop(self) -> list[Held]:
        """Let the broker push nothing more, and take everything that nobody has claimed. From any thread."""
        self._session.call(lambda: self._resubscribe((), tuple(self._sources.values()), 0))
        with self._lock:
            return self._drained()

    def _drained(self) -> list[Held]:
        found = [held for source in self._sources.values() for held in source.waiting]
        for source in self._sources.values():
            source.waiting.clear()
        return found

    def _look_later(self) -> None:
        self._looking = True
        self._session.later(STALE, self._look)

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
            self._session.call(lambda: self._resubscribe((), sources, 0))

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
            self._session.channel.basic_qos(callback=lambda _: reply(answer))

        self._session.ask(begin, doing="acknowledging", timeout=timeout)

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
                self._outstanding.pop(tag, None)
        channel = self._session.channel.channel_number
        self._session.write(acknowledgements(channel, run, sorted(tag for tag in tags if tag > run)))


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
