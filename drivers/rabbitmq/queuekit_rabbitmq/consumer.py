"""Taking deliveries: fetched one by one where a claim must not wait, pushed where it may, acknowledged in runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pika

from queuekit.contract import DriverError, DriverUnavailable, Wakeup
from queuekit_rabbitmq.backs import Backs
from queuekit_rabbitmq.session import ANSWER, Answer, Session, reply
from queuekit_rabbitmq.source import STALE, Held, Source, Subscription
from queuekit_rabbitmq.stream import Arrival
from queuekit_rabbitmq.wire import acknowledgements

if TYPE_CHECKING:
    from pika.channel import Channel

__all__ = ["Consumer"]

EXACT = 32
"""Prefetch counts up to this are set exactly; above, they move in steps, since each change is a new consumer."""
SAMPLE = 0.02
"""Seconds in which the flow is measured before consumers are cancelled."""
LAST = (128, 1000)
"""The least and the most that a lane's last consumer may be pushed: as much as comes in ten samples."""
AT_ONCE, PUT_OFF = 30, 0.25
"""Acknowledgements of fetched messages that a quorum queue's channel sends at once, and seconds for which it may put off the others."""
USING_UP = 0.5
"""Seconds that this may take."""
Fill: TypeAlias = Callable[[str, int], None]
"""Put so many blanks into a queue of the broker, and block until it has them."""


class Fetch:
    """Messages that are asked for one after the other; each answer asks for the next."""

    __slots__ = ("found", "given_up", "lanes", "limit")

    def __init__(self, lanes: deque[tuple[str, str]], limit: int) -> None:
        self.lanes = lanes
        """Those that may have more."""
        self.limit = limit
        self.found: list[Held] = []
        self.given_up = False
        """Whether nobody waits for it any more: what still comes is for the next claim."""


class Consumer:
    """Lends from a session's channel; lives as long as the session."""

    def __init__(
        self, session: Session, *, quorum: bool, give_back: Callable[[], None], gone: Callable[[str], None]
    ) -> None:
        self.session = session
        self._quorum = quorum
        self._gone = gone
        self._give_back = give_back
        self._sources: dict[str, Source] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        """By their tags; of a cancelled one until the broker has said that nothing more comes."""
        self._outstanding: dict[int, Held] = {}
        """Everything unacknowledged, by tag, oldest first."""
        self._waiters: set[Wakeup] = set()
        self._lock = threading.Lock()
        self._blanks: list[Held] = []
        """Those that use up last consumers."""
        self._withdrawing: set[str] = set()
        """Lanes of which everything is being given back: nothing is claimed from them until that is done."""
        self._withdrawn = threading.Condition(self._lock)
        self._fetching = threading.Lock()
        self._tags = 0
        self._looking = False
        self._on_empty: Callable[[Any], None] = lambda _: None
        """What to do when a lane that is fetched from has nothing."""
        self._getting = False
        """Whether the broker has not answered the last fetch yet; pika keeps one at a time."""
        self._pushed_at = time.monotonic()
        self._fetched_acknowledged: deque[float] = deque(maxlen=AT_ONCE)
        """When the last messages that were fetched were acknowledged."""
        self.backs = Backs()
        self.looked: set[str] = set()
        """Queues whose lanes were asked for; of new ones the session is told."""

    # ----------------------------------------------------------------------------------------------------- taking

    @contextlib.contextmanager
    def asking(self, lanes: Sequence[tuple[str, str]]) -> Iterator[None]:
        """Mark lanes as wanted while a claim is at work; blocks while something of them is being given back, for that comes first."""
        names = [lane for _, lane in lanes]
        with self._withdrawn:
            self._withdrawn.wait_for(lambda: self._withdrawing.isdisjoint(names) or not self.session.alive, ANSWER)
            sources = [self._sources.get(lane) or self._source(queue, lane) for queue, lane in lanes]
            for source in sources:
                source.asking += 1
        try:
            yield
        finally:
            now = time.monotonic()
            with self._lock:
                for source in sources:
                    source.asking -= 1
                    source.asked = now

    def _source(self, queue: str, lane: str) -> Source:
        return self._sources.setdefault(lane, Source(queue, lane))

    def take(self, lanes: Sequence[tuple[str, str]], *, limit: int, recovered: int) -> list[Held]:
        """Take up to `limit` pushed messages, of them at most `recovered` that came back from a lost connection."""
        found: list[Held] = []
        now = time.monotonic()
        with self._lock:
            for _, lane in lanes:
                source = self._sources.get(lane)
                if source is None:
                    continue
                source.asked = now
                if source.waiting and len(found) < limit:
                    recovered -= _take(source.waiting, found, limit, recovered)
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
        return self._fetched(deque(lanes), limit, timeout)

    def fetch_back(self, lanes: Sequence[tuple[str, str]], *, limit: int, timeout: float) -> list[Held]:
        """Fetch from the lanes of what was given back, and note which of them may have more."""
        for queue, _ in lanes:
            self.backs.looked(queue)  # what is told from now on is news
        left = deque(lanes)
        try:
            kept = self.take(lanes, limit=limit, recovered=limit)  # what came for a claim that had given up
            return kept or self._fetched(left, limit, timeout)
        finally:
            for queue, _ in list(left):
                self.backs.note(queue)

    def _fetched(self, lanes: deque[tuple[str, str]], limit: int, timeout: float) -> list[Held]:
        """Fetch; the lanes that are left may have more."""
        with self._fetching:
            fetch, doing = Fetch(lanes, limit), "fetching messages"
            try:
                self.session.ask(lambda answer: self._fetch(fetch, answer), doing=doing, timeout=timeout)
            except (
                BaseException
            ):  # also of an interruption: the broker thinks that we hold what came, and what still comes
                self.session.call(lambda: self._leave(fetch))
                raise
            return fetch.found

    def _leave(self, fetch: Fetch) -> None:
        """Let the next claim have what was fetched for one that gave up; on the I/O thread."""
        fetch.given_up = True
        self.keep(fetch.found)

    def keep(self, found: Sequence[Held]) -> None:
        """Let whoever claims next have these, each behind what waits in its lane; from any thread."""
        with self._lock:
            for held in found:
                held.source.waiting.append(held)
                held.source.asked = time.monotonic()
            for wakeup in self._waiters:
                wakeup.set()
        if found:
            self.session.call(self._look_after)

    def _fetch(self, fetch: Fetch, answer: Answer) -> None:
        """Fetch the next one, unless nobody waits for it any more."""
        lanes = fetch.lanes

        def got(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            self._getting = False
            queue, lane = lanes[0]
            source = self._sources.get(lane) or self._source(queue, lane)
            held = self._hold(source, method.delivery_tag, method.redelivered, _encoded(properties), body)
            if held.blank:
                self._acknowledge([held])
            elif fetch.given_up:
                self.keep([held])
            else:
                fetch.found.append(held)
            self._fetch(fetch, answer)

        def empty(_: Any) -> None:
            lanes.popleft()
            self._fetch(fetch, answer)

        if fetch.given_up:
            return
        while lanes and not self._at_rest(lanes[0][1]):
            lanes.popleft()
        if not lanes or len(fetch.found) >= fetch.limit:
            reply(answer)
            return
        if self._getting:
            raise DriverUnavailable("RabbitMQ has not answered an earlier fetch yet")
        self._getting, self._on_empty = True, empty
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
        self._getting = False
        self._on_empty(frame)

    # ------------------------------------------------------------------------------------------------ being pushed

    def subscribe(self, lanes: Sequence[tuple[str, str]], *, want: int) -> None:
        """Let the broker push: together about `want` unacknowledged messages, shared among the lanes.

        A lane's allowance changes once it is used up. A consumer that is cancelled earlier may have something on its way, and the
        broker takes that back: it comes again behind others, in any order, and as if it had been lent.
        """
        share = _step(max(1, -(-want // len(lanes))))
        moved = [lane for lane in lanes if self._moves(lane[1], share)]
        if moved:
            self.session.call(lambda: self._resubscribe(moved, (), share))

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
                source = self._source(queue, lane)
                source.wanted = share
                self._fit(source)

    def _fit(self, source: Source) -> None:
        """Give a lane the allowance that is wanted, unless something may be on its way."""
        present = source.subscription
        if source.lane in self._withdrawing:
            return
        if present is None or (present.used_up and present.prefetch != source.wanted):
            self._cancel(source)
            self._consume(source, source.wanted)

    def _consume(self, source: Source, prefetch: int, *, last: bool = False) -> None:
        """Let the broker push to a lane; to its last consumer before all others."""
        self._tags += 1
        subscription = Subscription(source, f"queuekit-{self._tags}", prefetch, last=last)
        source.subscription = subscription
        tag = subscription.tag.encode()
        self._subscriptions[tag] = subscription
        self.session.connection.consumers.add(tag)

        def pushed(_channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            self._on_arrivals([(tag, method.delivery_tag, method.redelivered, _encoded(properties), body)])

        self.session.channel.basic_qos(prefetch_count=prefetch)
        arguments = {"x-priority": 1} if last else None
        self.session.channel.basic_consume(source.lane, pushed, consumer_tag=subscription.tag, arguments=arguments)

    def _on_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Take what the broker has pushed; also of a consumer that was just cancelled: nothing else would lend it again."""
        self._pushed_at = now = time.monotonic()
        outstanding, subscriptions = self._outstanding, self._subscriptions
        blanks: list[Held] = []
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
                (blanks if held.blank else by.source.waiting).append(held)
            for wakeup in self._waiters:
                wakeup.set()
        if blanks:
            self._drop(blanks)
        for by in {subscriptions[arrival[0]] for arrival in arrivals}:
            if by is by.source.subscription:
                self._fit(by.source)
        self._look_after()

    def _drop(self, blanks: Sequence[Held]) -> None:
        """Acknowledge blanks, but for those that use up a last consumer; on the I/O thread."""
        keep = [held for held in blanks if held.subscription is not None and held.subscription.last]
        self._blanks += keep
        if len(keep) < len(blanks):
            self._acknowledge([held for held in blanks if held not in keep])

    def _hold(self, source: Source, tag: int, redelivered: bool, properties: bytes, body: bytes) -> Held:
        held = Held(self, source, tag, redelivered=redelivered, properties=properties, body=body, came=time.monotonic())
        with self._lock:
            self._outstanding[tag] = held
        return held

    def _cancel(self, source: Source) -> None:
        subscription, source.subscription = source.subscription, None
        if subscription is not None:
            self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        subscription.source.ending += 1
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

    # ------------------------------------------------------------------------------------------- giving back

    @contextlib.contextmanager
    def withdrawn(self, fill: Fill, *, every: bool) -> Iterator[tuple[list[Held], list[Held]]]:
        """Let the broker push nothing more, and take what nobody has claimed, in order: of every lane, or of those that turned stale.

        The caller sends that anew, and acknowledges it together with the second list, of what is no job.

        Whoever claims waits until this has ended, so that what is given back comes first. Blocks for some round trips, and
        not on the I/O thread.
        """
        with self._lock:
            sources = [source for source in self._sources.values() if every or source.stale]
            names = {source.lane for source in sources} - self._withdrawing
            self._withdrawing |= names
        sources = [source for source in sources if source.lane in names]
        try:
            with contextlib.suppress(DriverError):  # it is lost, or about to be: what it has lent goes back with it
                self._use_up([source for source in sources if self._quorum and source.open], fill)
                self._cancel_all(sources)
            with self._lock:
                found = [held for source in sources for held in source.waiting]
                blanks, self._blanks = self._blanks, []
                for source in sources:
                    source.waiting.clear()
            for held in found:
                self.backs.note(held.queue)
            yield found, blanks
        finally:
            with self._withdrawn:
                self._withdrawing -= names
                self._withdrawn.notify_all()

    def _use_up(self, sources: Sequence[Source], fill: Fill) -> None:
        """Let each lane's allowance be used up, so that nothing is on its way when its consumer is cancelled.

        A quorum queue takes back what is on its way to a consumer that is cancelled, and counts that as lent. So

        1. a last consumer, with a small allowance and before all others, takes what comes now;
        2. the former one, to which nothing comes any more, is cancelled;
        3. blanks use up what is left of the last one's allowance.
        """
        if not sources:
            return
        before = len(self._outstanding)
        time.sleep(SAMPLE)
        share = min(max(10 * (len(self._outstanding) - before), LAST[0]), LAST[1])
        former = [source.subscription for source in sources]
        self.session.call(lambda: self._begin_last(sources, share))
        self._after_arrivals("beginning to stop being pushed")
        self.session.call(lambda: self._end_all(former))
        self._after_arrivals("cancelling consumers")
        end = time.monotonic() + USING_UP
        while (still := [source for source in sources if source.open]) and time.monotonic() < end:
            for source in still:
                if source.subscription is not None:
                    fill(source.lane, source.subscription.room)
            self._after_arrivals("waiting for what is pushed")

    def _begin_last(self, sources: Sequence[Source], share: int) -> None:
        for source in sources:
            self._consume(source, share, last=True)

    def _end_all(self, subscriptions: Sequence[Subscription | None]) -> None:
        for subscription in subscriptions:
            if subscription is not None:
                self._end(subscription)

    def _cancel_all(self, sources: Sequence[Source]) -> None:
        """Cancel consumers, and block until the broker has said that nothing more comes."""
        if any(source.subscription is not None for source in sources):
            self.session.call(lambda: self._resubscribe((), sources, 0))
            self._after_arrivals("cancelling consumers")

    def _after_arrivals(self, doing: str) -> None:
        """Block until everything has arrived that the broker had written before: answers keep their order on a channel."""
        self.session.ask(
            lambda answer: self.session.channel.basic_qos(callback=lambda _: reply(answer)), doing=doing, timeout=ANSWER
        )

    def _look_after(self) -> None:
        """See to it that what waits is looked after; on the I/O thread."""
        if not self._looking:
            self._look_later()

    def _look_later(self) -> None:
        self._looking = True
        self.session.later(STALE, self._look)

    def _look(self) -> None:
        """Have given back what was pushed and is not claimed: the worker turned slow, or has stopped."""
        self._looking = False
        with self._lock:
            waiting = [source for source in self._sources.values() if source.waiting]
            stale = any(source.stale and source.lane not in self._withdrawing for source in waiting)
        if stale:
            self._give_back()
        if waiting:
            self._look_later()

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
            waiting = sum(len(source.waiting) for source in self._sources.values())
            return len(self._outstanding) - waiting - len(self._blanks)

    def held(self) -> dict[str, int]:
        """Count what is unacknowledged, claimed or not, by queue; not what has a successor already, which counts in its stead."""
        counts: dict[str, int] = {}
        with self._lock:
            for held in self._outstanding.values():
                if held.blank or held.followed:
                    continue
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

    def await_acknowledgements(self) -> None:
        """Block until the broker has sent on what was acknowledged, a moment at most: it forgets with a channel what it has put off."""
        times = self._fetched_acknowledged
        if self._quorum and len(times) == AT_ONCE and times[-1] - times[0] < PUT_OFF:
            time.sleep(max(0.0, times[-1] + PUT_OFF - time.monotonic()))

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
                elif gone is not None:
                    self._fetched_acknowledged.append(time.monotonic())
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
