"""Lending: claims that look, wait on the bell and look again; leases and their renewal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from queuekit.contract import Clock, Delivery, DriverError, Extension, Outcome, Released, State, SystemClock, Wakeup
from queuekit_redis import codec
from queuekit_redis.bell import Bell
from queuekit_redis.calls import CHUNK, Calls, parts
from queuekit_redis.codec import micros, pack

__all__ = ["Asked", "Lender"]

_log = logging.getLogger("queuekit.redis")


class Lender:
    """Lends due messages, and keeps them lent."""

    def __init__(self, calls: Calls, *, poll_interval: float, settle: Callable[[Sequence[Outcome]], object]) -> None:
        self._calls = calls
        self._clock = calls.clock or SystemClock()
        self._bell = Bell(calls.link, calls.keys, self._clock)
        self._poll_interval = poll_interval
        self._settle = settle

    def close(self) -> None:
        """End every wait. Idempotent."""
        self._bell.close()

    def claim(self, asked: Asked, *, wait: float, wakeup: Wakeup | None) -> list[Delivery]:
        """Lend due messages; wait for them as long as none are due."""
        seen = self._look(asked)
        if seen.found or wait <= 0:
            return seen.found
        flag = wakeup or Wakeup()
        with self._bell.attended(flag):
            return self._wait_for(asked, flag, seen, self._clock.monotonic() + wait)

    def _wait_for(self, asked: Asked, flag: Wakeup, seen: Seen, end: float) -> list[Delivery]:
        """Wait on the bells, and look again when time may have made something due or the poll interval has passed."""
        while (left := end - self._clock.monotonic()) > 0:
            pause = min(left, self._poll_interval, seen.change if seen.change >= 0 else left)
            heard = self._hear(asked, flag, pause, seen)
            if heard or (heard is not None and flag.is_set()):
                return heard
            seen = self._look(asked)
            if seen.found or flag.is_set():
                return seen.found
        return []

    def _hear(self, asked: Asked, flag: Wakeup, pause: float, seen: Seen) -> list[Delivery] | None:
        """Wait on the bells; return what the server lent at the end of the wait, None where it is to be asked.

        No more than will start at once, and nothing taken back from others: should this process be frozen or cut off meanwhile,
        nobody knows that it is.
        """
        then = None
        if self._calls.clock is None:  # a clock that a test moves stood elsewhere when the claim left
            wanted = pack([asked.queues, max(1, min(asked.limit, asked.free, CHUNK)), micros(asked.lease)])
            then = ("lend_fresh", self._calls.keys_of("lend_fresh", asked.queues), "", wanted)
        reply = self._bell.wait(asked.queues, flag, pause, then=then)
        self._calls.link.check()
        if reply is None:
            return None
        found = codec.deliveries_of(reply)
        if found and seen.age_of(reply, self._clock) > asked.lease / 2:
            self._give_back(found)
            return []
        return found

    def _give_back(self, found: Sequence[Delivery]) -> None:
        """Refuse what was lent while this process could not hear of it: its leases may be over, and others run it."""
        _log.warning("%d jobs were lent while this process stood still; they are given back", len(found))
        try:
            self._settle([Released(delivery) for delivery in found])
        except DriverError as error:
            _log.info("they are lent again when their leases run out: %s", error)

    def _look(self, asked: Asked) -> Seen:
        """Lend what is due now."""
        begin = self._clock.monotonic()
        reply = self._calls.run("claim", asked.packed(0), queues=asked.queues, doing="claiming")
        found = self.more(asked, codec.deliveries_of(reply))
        return Seen(found, reply[4] / codec.SECOND, begin - int(reply[5]) / codec.SECOND)

    def more(self, asked: Asked, found: list[Delivery]) -> list[Delivery]:
        """Lend on while each script finds as many as it may."""
        while len(found) < asked.limit and found and len(found) % CHUNK == 0:
            try:
                reply = self._calls.run("claim", asked.packed(len(found)), queues=asked.queues, doing="claiming")
            except DriverError as error:
                _log.info("a further part of a claim failed (%s); the first is lent", error)
                return found
            part = codec.deliveries_of(reply)
            found += part
            if not part:
                break
        return found

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None, recover: bool
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; for each that cannot be lent its state."""
        lent: list[Delivery | State | None] = []
        places = len(ids) if free is None else free
        for chunk in parts(ids, CHUNK):
            wanted = pack([micros(lease), places, recover])
            codes, *reply = self._calls.run("lend", pack(list(chunk)), wanted, doing="lending by id")
            deliveries = codec.deliveries_of(reply)
            places -= sum(delivery.recovered for delivery in deliveries)
            following = iter(deliveries)
            lent += [next(following) if code == "!" else codec.STATES.get(code) for code in codes.decode()]
        return lent

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; say which are still held, and what was asked of their jobs."""
        return [answer for part in parts(deliveries, CHUNK) for answer in self._extend(part, lease)]

    def _extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Extension]:
        groups: dict[str, list[int]] = {}
        for number, delivery in enumerate(deliveries):
            groups.setdefault(delivery.receipt, []).append(number)
        packed = [[state, [deliveries[number].message.id for number in numbers]] for state, numbers in groups.items()]
        marks, shut = self._calls.run("extend", micros(lease), pack(packed), doing="extending leases")
        paused = {queue.decode() for queue in shut}
        answers = [Extension(held=False)] * len(deliveries)
        for numbers, group in zip(groups.values(), marks, strict=True):
            for number, mark in zip(numbers, group.decode(), strict=True):
                if mark != "0":
                    queue = deliveries[number].message.queue
                    answers[number] = Extension(held=True, cancel=mark == "2", paused=queue in paused)
        return answers


class Asked(msgspec.Struct, frozen=True):
    """What a claim asks for."""

    queues: tuple[str, ...]
    limit: int
    lease: float
    free: int
    recover: bool

    def packed(self, lent: int) -> bytes:
        """Return what one script is asked for, when so many are lent already."""
        most = min(self.limit - lent, CHUNK)
        return pack([self.queues, most, max(0, min(self.free - lent, most)), micros(self.lease), self.recover])


class Seen(msgspec.Struct, frozen=True):
    """What a claim found."""

    found: list[Delivery]
    change: float
    """Seconds until time may make something due; below 0 when nothing waits for time."""
    apart: float
    """How far this process's monotonic clock is ahead of the server's, at least."""

    def age_of(self, reply: Sequence[Any], clock: Clock) -> float:
        """Return how many seconds ago the server made a later reply, at most."""
        return clock.monotonic() - (int(reply[5]) / codec.SECOND + self.apart)
