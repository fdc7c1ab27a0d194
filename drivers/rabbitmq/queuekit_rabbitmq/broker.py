"""The queues and exchanges of a namespace, made when they are first needed, and asked how full they are."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pika.channel import Channel

from queuekit.contract import FAILED_RETAIN, DriverUnavailable
from queuekit_rabbitmq.delays import STEPS, key_of
from queuekit_rabbitmq.presence import Census
from queuekit_rabbitmq.publisher import Parcel, Publisher, UnroutableError
from queuekit_rabbitmq.session import Answer, Session, reply
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import BACK, LANES, NORMAL, Lane, Names
from queuekit_rabbitmq.wire import fleeting

__all__ = ["Broker"]

TIMEOUT = 10.0
"""Seconds that the broker has to answer a declaration."""
AT_ONCE = 8
"""Channels on which many queues are made: a broker makes those of one channel one after the other."""
PROBE = "probe"
"""A routing key to which nothing is bound."""
SLICE = 0.05
"""Seconds between looks whether an alarm was told meanwhile."""
NEVER = (1 << 31) - 1
"""A delivery limit that nothing reaches: left out, it is 20 from RabbitMQ 4.0 on; -1 means none there, and no return at all before."""
Step = Callable[[Channel], None]


class Broker:
    """What one publishing session knows to exist; a new session starts from nothing, and makes it again."""

    def __init__(self, session: Session, publisher: Publisher, settings: Settings, names: Names) -> None:
        self._session = session
        self._publisher = publisher
        self._settings = settings
        self._names = names
        self.census = Census(publisher, names)
        self._known: set[str] = set()
        self._lanes: dict[str, set[Lane]] = {}
        self._lock = threading.Lock()

    def prepare(self, channel: Channel, ready: Callable[[], None]) -> None:
        """Make what every queue needs; on the I/O thread."""
        names = self._names
        channel.exchange_declare(names.lanes, "topic", durable=True)
        channel.queue_declare(names.void, durable=True, arguments={"x-max-length": 0})
        channel.queue_declare(names.workers, durable=True)
        self.census.prepare(channel)
        self._publisher.prepare(channel, ready)

    # --------------------------------------------------------------------------------------------------- making

    def need_lane(self, queue: str, lane: Lane) -> None:
        """Make a lane unless this session knows it to exist; blocks for a round trip then."""
        self.need_lanes([(queue, lane)])

    def need_lanes(self, lanes: Iterable[tuple[str, Lane]]) -> None:
        """Make those of these lanes that this session does not know to exist: many at once, since each costs the broker a commit."""
        missing = [(queue, lane) for queue, lane in dict.fromkeys(lanes) if lane not in self._lanes.get(queue, ())]
        if not missing:
            return

        def steps(some: Sequence[tuple[str, Lane]]) -> Step:
            return lambda channel: self._make_lanes(channel, some)

        wide = min(len(missing), AT_ONCE)
        self._declare(*(steps(missing[start::wide]) for start in range(wide)), doing=f"making {len(missing)} queues")
        self._publisher.publish([_notice(self._names.lanes, f"new.{lane}.{queue}") for queue, lane in missing])
        for queue, lane in missing:
            self.note_lane(queue, lane)

    def _make_lanes(self, channel: Channel, lanes: Sequence[tuple[str, Lane]]) -> None:
        for queue, lane in lanes:
            self._make_lane(channel, queue, lane)

    def _make_lane(self, channel: Channel, queue: str, lane: Lane) -> None:
        name = self._names.lane(queue, lane)
        channel.queue_declare(self._names.dead(queue), durable=True, arguments=self._dead_arguments())
        channel.queue_declare(name, durable=True, arguments=self._lane_arguments(queue))
        channel.queue_bind(self._names.void, self._names.lanes, f"is.{lane}.{queue}")

    def need_ladder(self, queue: str, lane: Lane, units: int) -> str:
        """Make the steps that a delay needs; return the exchange at which it enters."""
        top = units.bit_length() - 1
        wanted = {f"{queue}:due:{lane}", *(f"{queue}:step:{n}" for n in range(top + 1))}
        wanted |= {f"{queue}:wait:{n}" for n in range(top + 1) if units >> n & 1}
        missing = wanted - self._known
        if missing:
            self._declare(lambda channel: self._ladder(channel, queue, lane, missing), doing="making the delay ladder")
            self._known |= missing
        return self._names.step(queue, top)

    def _ladder(self, channel: Channel, queue: str, lane: Lane, missing: set[str]) -> None:
        names = self._names
        if f"{queue}:due:{lane}" in missing:
            channel.exchange_declare(names.due(queue), "topic", durable=True)
            channel.queue_bind(names.lane(queue, lane), names.due(queue), "*." * STEPS + lane)
        for number in range(STEPS):
            below = names.step(queue, number - 1) if number else names.due(queue)
            step = names.step(queue, number)
            above = "*." * (STEPS - 1 - number)
            if f"{queue}:step:{number}" in missing:
                channel.exchange_declare(step, "topic", durable=True)
                channel.exchange_bind(below, step, f"{above}0.#")
            if f"{queue}:wait:{number}" in missing:
                channel.queue_declare(step, durable=True, arguments=self._step_arguments(number, below))
                channel.queue_bind(step, step, f"{above}1.#")

    def _lane_arguments(self, queue: str) -> dict[str, Any]:
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self._names.dead(queue)}
        if self._settings.queue_type == "classic":
            return {"x-queue-type": "classic", **dead}
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self._settings.delivery_limit,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            **dead,
        }

    def _step_arguments(self, number: int, below: str) -> dict[str, Any]:
        """Return what makes a queue a step; always a quorum queue, since a classic one cannot dead-letter at least once."""
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": round((1 << number) * self._settings.delay_unit * 1000),
            "x-delivery-limit": NEVER,
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def _dead_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "x-queue-type": self._settings.queue_type,
            "x-message-ttl": round(FAILED_RETAIN * 1000),
        }
        return arguments if self._settings.queue_type == "classic" else {**arguments, "x-delivery-limit": NEVER}

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
        missing: list[tuple[str, Lane]] = []
        queues = list(queues)
        self.need_lanes((queue, NORMAL) for queue in queues)
        for queue in queues:
            missing += [(queue, lane) for lane in LANES if lane not in self._lanes[queue]]
        batch = self._publisher.publish([_notice(self._names.lanes, f"is.{lane}.{queue}") for queue, lane in missing])
        if missing and not batch.wait(TIMEOUT):
            raise DriverUnavailable("RabbitMQ did not say which queues exist")
        confirmed, found = set(batch.accepted), list[tuple[str, Lane]]()
        for index, (queue, lane) in enumerate(missing):
            error = batch.errors.get(index)
            if error is None and index in confirmed:
                found.append((queue, lane))  # it was made once; if somebody has deleted it, it is made again
            elif not isinstance(error, UnroutableError):
                raise DriverUnavailable(f"RabbitMQ did not say which queues exist: {error or self._session.error}")
        self.need_lanes(found)

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
        """Return exchange and routing key of a message for a lane, after a delay; makes what is missing."""
        self.need_lane(queue, lane)
        if not units:
            return "", self._names.lane(queue, lane)
        return self.need_ladder(queue, lane, units), key_of(units, lane)

    def tell_back(self, queues: Iterable[str]) -> None:
        """Tell every process that lends that something of these queues was given back; does not block."""
        self._publisher.publish([_notice(self._names.lanes, f"back.{queue}") for queue in queues])

    def back(self, queue: str) -> tuple[str, str]:
        """Return exchange and routing key of a job that is given back."""
        return self.address(queue, BACK, 0)


def _notice(exchange: str, key: str) -> Parcel:
    id = str(uuid.uuid4())
    return exchange, key, id, fleeting(id), b""
