"""Lending: which lanes to lend from, what was pushed there, and waiting for more."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from queuekit.contract import Clock, Delivery, DriverError, DriverUnavailable, Wakeup
from queuekit_rabbitmq.consumer import Consumer
from queuekit_rabbitmq.links import Lending, Links
from queuekit_rabbitmq.messages import attempts_of, generation_of, message_of
from queuekit_rabbitmq.session import ANSWER
from queuekit_rabbitmq.source import Held
from queuekit_rabbitmq.topology import BACK, NORMAL

__all__ = ["PUSH_WINDOW", "Lender"]

_log = logging.getLogger("queuekit.rabbitmq")
PUSH_WINDOW = 16
"""Messages beyond a claim's limit that the broker may push: each lane in use gets its whole share, rounded up."""
LOOK = 3.0
"""Seconds of silence after which a waiting claim looks whether anything is ready that should have been pushed."""
POLL = 0.2
"""Seconds between looks at what is not pushed: lanes that are more than the push window allows consumers, or that have used up their share."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody who waits would take."""

    limit: int
    recovered: int
    """The most of them that came back from a lost connection."""
    fetched: int
    """The most that are fetched one by one from lanes that have used up their share."""
    ahead: int = 0
    """How many more may be pushed meanwhile."""


class Lender:
    """Claims from the lanes of queues; the broker pushes to whoever waits."""

    def __init__(self, links: Links, clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._token = 0
        self._turn = ""
        """The queue that was lent from last."""

    def claim(
        self, queues: Sequence[str], *, limit: int, recovered: int, wait: float, wakeup: Wakeup | None
    ) -> list[Delivery]:
        """Lend up to `limit` messages, at most `recovered` of them from a lost connection; blocks for `wait` seconds at most.

        Whoever gives a flag looks around by itself each time it is raised; nobody else is troubled with what proves to be nothing.
        """
        end = self._clock.monotonic() + wait
        while True:
            left = max(0.0, end - self._clock.monotonic())
            found = self._lend(queues, limit, recovered, left, wakeup or Wakeup())
            if found or wakeup is not None or not left:
                return [self._delivery(held) for held in found]

    def _lend(self, queues: Sequence[str], limit: int, recovered: int, wait: float, wakeup: Wakeup) -> list[Held]:
        lending = self._links.lending()
        consumer = lending.consumer
        backs, lanes = self._lanes(consumer, queues)
        found, waits = self._from_back(consumer, backs, lanes, min(limit, recovered))
        lanes = [lane for lane in self._in_turn(lanes) if lane[0] not in waits]
        with consumer.asking(lanes):
            found += consumer.take(lanes, limit=limit - len(found), recovered=recovered - len(found))
            if not found and wait > 0:
                backs = [back for back in backs if back[0] not in waits]
                wish = Wish(limit, recovered, fetched=recovered, ahead=consumer.lent)
                found = self._wait(lending, backs, lanes, wish, wait, wakeup)
            elif len(found) < max(1, recovered):
                self._add_fetched(consumer, lanes, found, limit, recovered)
                found = found or consumer.take(lanes, limit=limit, recovered=recovered)
        if found:
            self._turn = found[-1].queue
        return found

    def _from_back(
        self, consumer: Consumer, backs: Sequence[tuple[str, str]], lanes: Sequence[tuple[str, str]], free: int
    ) -> tuple[list[Held], set[str]]:
        """Fetch what was given back, for free slots alone; return also the queues of which more may be there: nothing may overtake it."""
        quiet = {queue for queue, lane in lanes if not consumer.consumes(lane)} if free else set()
        due = [back for back in backs if back[0] in quiet or consumer.backs.due(back[0])]
        if not due:
            return [], set()
        if free:
            found = consumer.fetch_back(due, limit=free, timeout=ANSWER)
            return found, {queue for queue, _ in due if consumer.backs.due(queue)}
        for queue, _ in due:
            consumer.backs.looked(queue)
        ready = self._links.publishing().broker.depths(lane for _, lane in due)
        waits = {queue for queue, lane in due if ready[lane]}
        for queue in waits:
            consumer.backs.note(queue)
        return [], waits

    def take(
        self, queues: Sequence[str], *, limit: int, ahead: int, wait: float, wakeup: Wakeup | None
    ) -> list[Delivery]:
        """Hand over up to `limit` messages that are acknowledged at once, so that a lane's share is never used up for long.

        Without `wait` it asks the broker nothing, and connects to none.
        """
        found = self._arrived(queues, limit)
        if not found and wait > 0:
            lending = self._links.lending()
            backs, lanes = self._lanes(lending.consumer, queues)
            found, _ = self._from_back(lending.consumer, backs, lanes, limit)
            if not found:
                lanes = self._in_turn(lanes)
                wish = Wish(limit, recovered=limit, fetched=0, ahead=ahead)
                with lending.consumer.asking(lanes):
                    found = self._wait(lending, backs, lanes, wish, wait, wakeup or Wakeup())
        if found:
            self._turn = found[-1].queue
        return [self._delivery(held) for held in found]

    def _arrived(self, queues: Sequence[str], limit: int) -> list[Held]:
        """Take what was pushed from the lanes that are known; of queues to which something was given back nothing before that."""
        live = self._links.live()
        if live is None:
            return []
        publishing, lending = live
        names = self._links.names
        clear = [queue for queue in queues if not lending.consumer.backs.told(queue)]
        lanes = [(queue, names.lane(queue, lane)) for queue in clear for lane in publishing.broker.lanes(queue)]
        return lending.consumer.take(self._in_turn(lanes), limit=limit, recovered=limit)

    def _add_fetched(
        self, consumer: Consumer, lanes: Sequence[tuple[str, str]], found: list[Held], limit: int, recovered: int
    ) -> None:
        """Fetch more; what was taken before is lent whatever comes of that, unless it is lost."""
        try:
            self._fetch(consumer, lanes, found, limit, recovered)
        except DriverError as error:
            if not found or not consumer.session.alive:
                raise
            _log.info("a further part of a claim failed (%s); the first is lent", error)

    def _fetch(
        self, consumer: Consumer, lanes: Sequence[tuple[str, str]], found: list[Held], limit: int, recovered: int
    ) -> None:
        """Fetch what is not pushed: from lanes without a consumer, and for free slots from those that use up their allowance.

        Each message costs a round trip, so nothing is fetched to lie in wait.
        """
        quiet = [lane for lane in lanes if not consumer.consumes(lane[1])]
        if quiet:
            found += consumer.fetch(quiet, limit=limit - len(found), timeout=ANSWER)
        if len(found) < recovered:
            found += self._for_free_slots(consumer, lanes, recovered - len(found))

    @staticmethod
    def _for_free_slots(consumer: Consumer, lanes: Sequence[tuple[str, str]], free: int) -> list[Held]:
        """Fetch from lanes that have used up their share of what may be pushed, while those of others are not used."""
        full = [lane for lane in lanes if consumer.used_up(lane[1])]
        return consumer.fetch(full, limit=free, timeout=ANSWER) if full and free else []

    def _in_turn(self, lanes: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Begin behind the queue that was lent from last, where lanes are so many that each is fetched from by itself."""
        if len(lanes) <= PUSH_WINDOW:
            return lanes
        last = max((index for index, (queue, _) in enumerate(lanes) if queue == self._turn), default=-1)
        return lanes[last + 1 :] + lanes[: last + 1]

    def _wait(
        self,
        lending: Lending,
        backs: Sequence[tuple[str, str]],
        lanes: Sequence[tuple[str, str]],
        wish: Wish,
        wait: float,
        wakeup: Wakeup,
    ) -> list[Held]:
        session, consumer = lending.session, lending.consumer
        limit, recovered = wish.limit, wish.recovered
        end = self._clock.monotonic() + wait
        if len(lanes) > PUSH_WINDOW:
            return self._poll(consumer, [*backs, *lanes], limit, recovered, end, wakeup)
        if not lanes:
            self._clock.wait(wakeup, min(wait, POLL))  # what was given back waits for a free slot
            return []
        if consumer.silent_for() > LOOK:
            self._look(consumer, lanes)
        consumer.add_waiter(wakeup)
        try:
            consumer.subscribe(lanes, want=limit + wish.ahead)
            while True:
                found = consumer.take(lanes, limit=limit, recovered=recovered)
                found = found or self._for_free_slots(consumer, lanes, wish.fetched)
                left = end - self._clock.monotonic()
                if found or left <= 0 or wakeup.is_set():
                    break
                if not session.alive:
                    self._links.check()
                    raise DriverUnavailable(str(session.error))
                uneven = wish.fetched and any(consumer.used_up(lane) for _, lane in lanes)
                self._clock.wait(wakeup, min(left, POLL) if uneven else left)
                if wakeup.is_set():
                    break
            told = [back for back in backs if consumer.backs.told(back[0])]
            if told and not found and recovered:
                found = consumer.fetch_back(told, limit=min(limit, recovered), timeout=ANSWER)
            return found or consumer.take(lanes, limit=limit, recovered=recovered)
        finally:
            consumer.remove_waiter(wakeup)

    def _poll(
        self,
        consumer: Consumer,
        lanes: Sequence[tuple[str, str]],
        limit: int,
        recovered: int,
        end: float,
        wakeup: Wakeup,
    ) -> list[Held]:
        """Fetch from lanes that are too many to be pushed from: each consumer may hold a message that nobody claims."""
        while True:
            found = consumer.take(lanes, limit=limit, recovered=recovered)
            found = found or consumer.fetch(lanes, limit=limit, timeout=ANSWER)
            left = end - self._clock.monotonic()
            if found or left <= 0 or self._clock.wait(wakeup, min(left, POLL)):
                return found

    def _look(self, consumer: Consumer, lanes: Sequence[tuple[str, str]]) -> None:
        """Consume anew where messages are ready and the broker pushes none.

        A quorum queue that was deleted and made again at once has no consumers, and says so to none that it had.
        """
        deserted = self._links.publishing().broker.deserted(lane for _, lane in lanes)
        consumer.look_again([lane for lane in deserted if consumer.consumes(lane) and not consumer.used_up(lane)])

    def _lanes(self, consumer: Consumer, queues: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return queue and lane's name for everything to lend from, in order: what was given back, and the others.

        The broker is asked once a session for lanes that exist; of those that come later the session is told.
        """
        broker = self._links.publishing().broker
        backs: list[tuple[str, str]] = []
        lanes: list[tuple[str, str]] = []
        unknown = [queue for queue in queues if queue not in consumer.looked or not broker.lanes(queue)]
        if unknown and not broker.blocked:
            broker.look_for_lanes(unknown)
            consumer.looked.update(unknown)
        for queue in queues:
            for lane in broker.lanes(queue) or [NORMAL]:
                (backs if lane == BACK else lanes).append((queue, self._links.names.lane(queue, lane)))
        return backs, lanes

    def _delivery(self, held: Held) -> Delivery:
        properties = held.properties
        earlier, lent = attempts_of(properties, redelivered=held.redelivered)
        return Delivery(
            message=message_of(held.queue, properties, held.body),
            token=self._next_token(),
            attempt=earlier + lent + 1,
            generation=generation_of(properties),
            recovered=lent > 0,
            receipt=held,
        )

    def _next_token(self) -> int:
        self._token = token = max(self._token + 1, time.time_ns())
        return token
