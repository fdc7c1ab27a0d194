"""The queues and exchanges of a namespace, made when they are first needed, and asked how full they are."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pika.channel import Channel

from queuekit.contract import DriverUnavailable, Patience
from queuekit_rabbitmq.delays import STEPS, key_of
from queuekit_rabbitmq.errors import MissingError
from queuekit_rabbitmq.maker import Maker, parts_of
from queuekit_rabbitmq.presence import Census
from queuekit_rabbitmq.publisher import Parcel, Publisher, UnroutableError
from queuekit_rabbitmq.session import Answer, Session, reply
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import BACK, LANES, NORMAL, Lane, Names
from queuekit_rabbitmq.wire import fleeting
from queuekit_rabbitmq.written import Written

__all__ = ["Broker", "Making", "Place"]

TIMEOUT = 10.0
"""Seconds that the broker has to answer a declaration."""
AT_ONCE = 8
"""Channels on which many queues are made: a broker makes those of one channel one after the other."""
PROBE = "probe"
"""A routing key to which nothing is bound."""
SLICE = 0.05
"""Seconds between looks whether an alarm was told meanwhile."""
Step = Callable[[Channel], None]
Place: TypeAlias = tuple[str, Lane, int]
"""A queue, a lane of it, and how many units later; several delays at once are their bits together."""


@dataclass(slots=True)
class Making:
    """What was missing of some places."""

    lanes: list[tuple[str, Lane]]
    ladders: dict[tuple[str, Lane], set[str]]
    young: list[str] = field(default_factory=list)
    """The marks of those queues that may not be written down yet."""


class Broker:
    """What one publishing session knows to exist; a new session starts from nothing, and makes it again."""

    def __init__(self, session: Session, publisher: Publisher, settings: Settings, names: Names) -> None:
        self._session = session
        self._publisher = publisher
        self._settings = settings
        self._names = names
        self.census = Census(publisher, names)
        self._maker = Maker(names, settings)
        self._written = Written(names, seconds=settings.new_queue_wait)
        self._known: set[str] = set()
        self._lanes: dict[str, set[Lane]] = {}
        self._lock = threading.Lock()

    def prepare(self, channel: Channel, ready: Callable[[], None]) -> None:
        """Make what every queue needs; on the I/O thread."""
        self._maker.base(channel)
        self.census.prepare(channel)
        self._publisher.prepare(channel, ready)

    # --------------------------------------------------------------------------------------------------- making

    def exist(self, lanes: Iterable[tuple[str, Lane]]) -> None:
        """Make lanes, for whoever lends from them; many at once, since each costs the broker a commit. Blocks for some round trips where one is new here."""
        missing = [(queue, lane) for queue, lane in dict.fromkeys(lanes) if lane not in self._lanes.get(queue, ())]
        if missing:
            self._make(Making(missing, {}), None)

    def need(self, places: Iterable[Place], patience: Patience | None = None) -> None:
        """Make what is needed to send to these places.

        Blocks for some round trips where something is new here, and, where it is new to all, until the broker has written that it exists
        (see `written`).
        """
        self.finish(self.begin(places, patience), patience)

    def begin(self, places: Iterable[Place], patience: Patience | None = None) -> Making:
        """Make it, and do not wait: what is sent there may be lost with its node until `finish` has returned."""
        bits: dict[tuple[str, Lane], int] = {}
        for queue, lane, units in places:
            bits[queue, lane] = bits.get((queue, lane), 0) | units
        lanes = [place for place in bits if _part(*place) not in self._known]
        ladders = {place: missing for place, units in bits.items() if (missing := self._missing(*place, units))}
        making = Making(lanes, ladders)
        if lanes or ladders:
            self._make(making, patience)
        return making

    def _missing(self, queue: str, lane: Lane, units: int) -> set[str]:
        return parts_of(queue, lane, units) - self._known if units else set()

    def finish(self, making: Making, patience: Patience | None = None) -> None:
        """Wait until it is written down, and say so to everybody."""
        young = making.young
        if young:
            self._written.wait(young, patience)
            self._declare(lambda channel: self._written.mark(channel, young), doing="marking what is written down")
        self._known.update(_part(*place) for place in making.lanes)
        self._known.update(*making.ladders.values())

    def until_written(self, making: Making) -> Callable[[], None] | None:
        """Return what blocks until it is written down; None where it is, which is said to everybody then."""
        if making.young and self._written.left(making.young) > 0:
            return lambda: self._written.wait(making.young, None)
        self.finish(making)
        return None

    def _make(self, making: Making, patience: Patience | None) -> None:
        """Declare all of it, and note the marks of what is new."""
        marks = self._marks(making.lanes, making.ladders)
        marked = self._bound(marks, patience)
        try:
            self._declare_all(making.lanes, making.ladders, marked)
        except MissingError:  # somebody has deleted one: all of these are taken for new
            self._declare(lambda channel: self._written.unmark(channel, marked), doing="making queues anew")
            marked = set()
            self._declare_all(making.lanes, making.ladders, marked)
        making.young = [mark for mark in marks if mark not in marked]
        self._written.made(making.young)
        fresh = [(queue, lane) for queue, lane in making.lanes if lane not in self._lanes.get(queue, ())]
        if fresh:
            self._publisher.publish([_notice(self._names.lanes, f"new.{lane}.{queue}") for queue, lane in fresh])
        for queue, lane in fresh:
            self.note_lane(queue, lane)

    def _marks(self, lanes: Iterable[tuple[str, Lane]], ladders: Mapping[tuple[str, Lane], set[str]]) -> list[str]:
        """Return the marks of those quorum queues that are to be made; none where nobody waits for them."""
        mark, found = self._names.mark, dict[str, None]()
        if not self._settings.new_queue_wait:
            return []
        if self._settings.queue_type == "quorum":
            found |= {mark(queue, part): None for queue, lane in lanes for part in (lane, BACK)}
        for (queue, _), parts in ladders.items():
            found |= {mark(queue, f"step-{n}"): None for n in range(STEPS) if f"{queue}:wait:{n}" in parts}
        return list(found)

    def _declare_all(
        self,
        lanes: Sequence[tuple[str, Lane]],
        ladders: Mapping[tuple[str, Lane], set[str]],
        marked: AbstractSet[str],
    ) -> None:
        """Declare lanes, then what leads to them."""

        def some(part: Sequence[tuple[str, Lane]]) -> Step:
            return lambda channel: self._maker.lanes(channel, part, marked)

        def steps(channel: Channel) -> None:
            for (queue, lane), parts in ladders.items():
                self._maker.ladder(channel, queue, lane, parts, marked)

        if lanes:
            wide = min(len(lanes), AT_ONCE)
            self._declare(*(some(lanes[start::wide]) for start in range(wide)), doing=f"making {len(lanes)} queues")
        if ladders:
            self._declare(steps, doing="making the delay ladder")

    def _declare(self, *several: Step, doing: str) -> None:
        """Run declarations, each of these on a channel of its own, without waiting for each; a synchronous method behind them answers for all."""

        def answered(steps: Step) -> Callable[[Channel, Answer], None]:
            def run(channel: Channel, answer: Answer) -> None:
                steps(channel)
                channel.basic_qos(callback=lambda _: reply(answer))

            return run

        self._session.aside(*map(answered, several), doing=doing, timeout=TIMEOUT * len(several))

    # --------------------------------------------------------------------------------------------------- knowing

    def note_lane(self, queue: str, lane: Lane) -> None:
        """Remember that a lane exists."""
        with self._lock:
            self._lanes.setdefault(queue, set()).add(lane)

    def forget(self, queue: str) -> None:
        """Remember nothing of a queue: something of it was deleted."""
        with self._lock:
            self._lanes.pop(queue, None)
            self._known = {name for name in self._known if not name.startswith(f"{queue}:")}

    @property
    def blocked(self) -> bool:
        """Whether the broker reads nothing from this session at the moment, because of an alarm."""
        return self._session.blocked is not None

    def takes_messages(self, timeout: float) -> bool:
        """Ask by a message that nobody gets, for an alarm is told to those alone who publish; blocks for a round trip."""
        end = time.monotonic() + timeout
        batch = self._publisher.publish([_notice(self._names.lanes, PROBE)])
        while not (batch.ended or self.blocked) and time.monotonic() < end:
            batch.wait(SLICE)
        return isinstance(batch.errors.get(0), UnroutableError)

    def lanes(self, queue: str) -> list[Lane]:
        """Return the lanes that this session knows of, in the order in which they are lent from."""
        known = self._lanes.get(queue, set())
        return [lane for lane in LANES if lane in known]

    @property
    def queues(self) -> list[str]:
        """The queues that this session knows of."""
        return list(self._lanes)

    def look_for_lanes(self, queues: Iterable[str]) -> None:
        """Ask the broker which lanes these queues have; blocks for a round trip."""
        queues = list(queues)
        self.exist((queue, NORMAL) for queue in queues)
        missing = {
            f"is.{lane}.{queue}": (queue, lane) for queue in queues for lane in LANES if lane not in self._lanes[queue]
        }
        # What was made once is made again if somebody has deleted it.
        self.exist(missing[key] for key in self._bound(list(missing)))

    @contextmanager
    def marked(self) -> Iterator[str]:
        """Give the exchange of the lanes a binding that nobody else can name, while the block runs; return its key.

        It leads to a queue of this connection, and goes with it if it is not deleted before.
        """
        key = f"here.{uuid.uuid4()}"

        def bind(channel: Channel, answer: Answer) -> None:
            def declared(frame: Any) -> None:
                mine = frame.method.queue
                channel.queue_bind(mine, self._names.lanes, key, callback=lambda _: reply(answer, mine))

            channel.queue_declare("", exclusive=True, callback=declared)

        mine = self._session.aside(bind, doing="marking the namespace", timeout=TIMEOUT)

        def delete(channel: Channel, answer: Answer) -> None:
            channel.queue_delete(mine, callback=lambda _: reply(answer))

        try:
            yield key
        finally:
            self._session.aside(delete, doing="taking a mark away", timeout=TIMEOUT)

    def has_binding(self, key: str) -> bool:
        """Whether the exchange of the lanes has a binding for this key; blocks for a round trip."""
        return bool(self._bound([key]))

    def _bound(self, keys: Sequence[str], patience: Patience | None = None) -> set[str]:
        """Return those keys for which the exchange of the lanes has a binding; blocks for a round trip."""
        if not keys:
            return set()
        batch = self._publisher.publish([_notice(self._names.lanes, key) for key in keys])
        left = None if patience is None else patience.remaining()
        if not batch.wait(TIMEOUT if left is None else min(left, TIMEOUT)):
            if patience is not None:
                patience.check()
            raise DriverUnavailable("RabbitMQ did not say which queues exist")
        confirmed, found = set(batch.accepted), set[str]()
        for index, key in enumerate(keys):
            error = batch.errors.get(index)
            if error is None and index in confirmed:
                found.add(key)
            elif not isinstance(error, UnroutableError):
                raise DriverUnavailable(f"RabbitMQ did not say which queues exist: {error or self._session.error}")
        return found

    def depths(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many messages are ready in each of these queues; raises when one of them does not exist."""
        return {name: found.message_count for name, found in self._looked(list(names)).items()}

    def deserted(self, names: Iterable[str]) -> set[str]:
        """Return those of these queues that have messages ready, or no consumer at all."""
        return {
            name for name, found in self._looked(list(names)).items() if found.message_count or not found.consumer_count
        }

    def running(self) -> tuple[Counter[str], int]:
        """Return how many jobs each queue has lent, and how many processes did not say."""
        looked = self._looked([self._names.workers])
        return self.census.ask(looked[self._names.workers].consumer_count)

    def _looked(self, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def ask(channel: Channel, answer: Answer) -> None:
            def heard(frame: Any) -> None:
                found[frame.method.queue] = frame.method
                if len(found) == len(names):
                    reply(answer, found)

            for name in names:
                channel.queue_declare(name, passive=True, callback=heard)

        if names:
            self._session.aside(ask, doing="counting", timeout=TIMEOUT)
        return found

    def purge(self, names: Iterable[str]) -> int:
        """Delete what is ready in these queues, and return how many messages that were."""
        total = 0
        for name in names:

            def ask(channel: Channel, answer: Answer, name: str = name) -> None:
                channel.queue_purge(name, callback=lambda frame: reply(answer, frame.method.message_count))

            total += int(self._session.aside(ask, doing=f"purging {name}", timeout=TIMEOUT))
        return total

    def steps(self, queue: str) -> list[str]:
        """Return the names of those queues of a ladder that this session knows of."""
        return [self._names.step(queue, n) for n in range(STEPS) if f"{queue}:wait:{n}" in self._known]

    # --------------------------------------------------------------------------------------------------- addressing

    def address(self, queue: str, lane: Lane, units: int) -> tuple[str, str]:
        """Return exchange and routing key of a message for a lane, after a delay."""
        if not units:
            return "", self._names.lane(queue, lane)
        return self._names.step(queue, units.bit_length() - 1), key_of(units, lane)

    def tell_back(self, queues: Iterable[str]) -> None:
        """Tell every process that lends that something of these queues was given back; does not block."""
        self._publisher.publish([_notice(self._names.lanes, f"back.{queue}") for queue in queues])

    def back(self, queue: str) -> tuple[str, str]:
        """Return exchange and routing key of a job that is given back; makes what is missing."""
        self.need([(queue, BACK, 0)])
        return self.address(queue, BACK, 0)


def _part(queue: str, lane: Lane) -> str:
    return f"{queue}:lane:{lane}"


def _notice(exchange: str, key: str) -> Parcel:
    id = str(uuid.uuid4())
    return exchange, key, id, fleeting(id), b""
