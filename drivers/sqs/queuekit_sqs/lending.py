"""Receives messages: polls at once where one looks, polls in the background where one waits."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from queuekit.contract import Clock, Delivery, DriverError, Message, Wakeup
from queuekit_sqs.lent import Lent, Tokens, delivery_of, lent_of
from queuekit_sqs.queues import Queues, passing
from queuekit_sqs.sending import BATCH
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import LONGEST_LEASE, Settings
from queuekit_sqs.threads import Threads
from queuekit_sqs.wire import ATTRIBUTE

__all__ = ["Lending", "Line", "whole_lease", "whose_turn"]

_log = logging.getLogger("queuekit.sqs")
UNWANTED = 1.0
"""Seconds after which a message that arrived for a claim that never came back is given back."""
QUIET = 1.0
"""Seconds for which a queue that was found empty is not looked at again, while there are more queues than free places."""
TRIES = 1.0
"""Seconds for which a poll rides out throttling; the worker's own patience has no end."""


class Line(msgspec.Struct, kw_only=True):
    """One queue as it is polled."""

    queue: str
    asked: int = 0
    """Messages that polls under way may bring."""
    polls: int = 0
    width: int = 1
    """Polls that may run at once: doubled by a full answer, back to one by an empty one."""
    quiet_until: float = 0.0
    looked: float = 0.0
    """When the last poll began."""
    given_back: float = -1.0
    """When a job was last given back: what a poll from before that brings is most likely the same."""


class Waiter(msgspec.Struct, kw_only=True, eq=False):
    """A claim that waits."""

    flag: Wakeup


class Lending:
    """Lends messages.

    A poll cannot be called off: a message that arrives after its claim has returned is kept for the next claim, and given
    back when none comes. All polls together never ask for more than the claim's `limit`.
    """

    def __init__(
        self,
        service: Service,
        queues: Queues,
        settings: Settings,
        clock: Clock,
        *,
        threads: Threads,
        hop: Callable[[Lent], None],
        give_back: Callable[[Sequence[Lent]], None],
        refresh: Callable[[Sequence[Lent], float], list[bool]],
        fetch: Callable[[Lent], Message],
    ) -> None:
        self._service = service
        self._queues = queues
        self._settings = settings
        self._clock = clock
        self._threads = threads
        self._hop = hop
        self._give_back = give_back
        self._refresh = refresh
        self._fetch = fetch
        self._most = 1 if settings.fifo else BATCH  # one receipt may hold several of one group, and only one may run
        self._tokens = Tokens(clock)
        self._lock = threading.Lock()
        self._lines: dict[str, Line] = {}
        self._kept: dict[str, deque[Lent]] = {}
        self._waiters: set[Waiter] = set()
        self._trouble: DriverError | None = None
        self._closing = threading.Event()
        self._minding = False

    # ------------------------------------------------------------------------------------------------------- claiming

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None,
        recover: bool,
        wait: float,
        wakeup: Wakeup | None,
    ) -> list[Delivery]:
        """Lend messages; see the contract."""
        seconds = whole_lease(lease)
        allowed = (limit if free is None else free) if recover else 0
        until = self._clock.monotonic() + lease
        if wait <= 0:
            self._look(queues, limit, seconds)
            return self._lend(queues, limit, allowed, seconds, until)
        waiter = Waiter(flag=wakeup or Wakeup())
        with self._lock:
            self._waiters.add(waiter)
        try:
            return self._wait(waiter, queues, limit, allowed, seconds, wait, until, patient=wakeup is None)
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def _wait(
        self,
        waiter: Waiter,
        queues: Sequence[str],
        limit: int,
        allowed: int,
        lease: int,
        wait: float,
        until: float,
        *,
        patient: bool,
    ) -> list[Delivery]:
        end = self._clock.monotonic() + wait
        while True:
            found = self._lend(queues, limit, allowed, lease, until)
            self._ask(queues, limit - len(found), lease)
            left = end - self._clock.monotonic()
            if found or left <= 0:
                return found
            if self._clock.wait(waiter.flag, left) and not patient:
                return self._lend(queues, limit, allowed, lease, until)
            waiter.flag.clear() if patient else None

    def _lend(self, queues: Sequence[str], limit: int, allowed: int, lease: int, until: float) -> list[Delivery]:
        """Turn kept messages into deliveries: recovered ones only as many as `allowed`, and each leased `until` then at least."""
        taken = self._take(queues, limit, allowed)
        if not taken:
            self._raise_trouble()
            return []
        stale = [lent for lent in taken if lent.ends < until]
        if stale:
            held = self._refresh(stale, lease)
            gone = {id(lent) for lent, is_held in zip(stale, held, strict=True) if not is_held}
            taken = [lent for lent in taken if id(lent) not in gone]
        return self._with_bodies(taken)

    def _with_bodies(self, taken: Sequence[Lent]) -> list[Delivery]:
        """Read the payloads that are elsewhere; what cannot be read now is kept for a while. Raises when nothing else is there."""
        found: list[Delivery] = []
        trouble: DriverError | None = None
        for lent in taken:
            try:
                message = self._fetch(lent)
            except DriverError as error:
                trouble = error
                with self._lock:
                    self._kept.setdefault(lent.queue, deque()).append(lent)
            else:
                found.append(delivery_of(lent, message, self._tokens.next()))
        if trouble is not None:
            self._mind_what_is_kept()
            if not found:
                raise trouble
            _log.warning("jobs wait whose payloads cannot be read: %s", trouble)
        return found

    def _take(self, queues: Sequence[str], limit: int, allowed: int) -> list[Lent]:
        taken: list[Lent] = []
        now = self._clock.monotonic()
        with self._lock:
            for queue in queues:
                kept = self._kept.get(queue)
                if not kept:
                    continue
                left: deque[Lent] = deque()
                while kept:
                    lent = kept.popleft()
                    if lent.ends <= now:
                        continue  # the service lends it again by itself
                    if len(taken) == limit or (lent.recovered and not allowed):
                        left.append(lent)
                        continue
                    allowed -= lent.recovered
                    taken.append(lent)
                kept.extend(left)
            return newest(taken, [lent for kept in self._kept.values() for lent in kept])

    def _raise_trouble(self) -> None:
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    # -------------------------------------------------------------------------------------------------------- polling

    def _look(self, queues: Sequence[str], limit: int, lease: int) -> None:
        """Ask each queue in turn, without waiting, until there is enough or nothing."""
        for queue in queues:
            while (room := limit - self._kept_of(queues)) > 0:
                asked = min(self._most, room)
                if self._receive(queue, asked, 0, lease) < asked:
                    break

    def _kept_of(self, queues: Sequence[str]) -> int:
        with self._lock:
            return sum(len(self._kept.get(queue, ())) for queue in queues)

    def _ask(self, queues: Sequence[str], limit: int, lease: int) -> None:
        """Start polls for what may still be lent; with more queues than places, quiet ones wait."""
        now = self._clock.monotonic()
        with self._lock:
            lines = [self._lines.setdefault(queue, Line(queue=queue)) for queue in queues]
            room = limit - sum(line.asked + len(self._kept.get(line.queue, ())) for line in lines)
            crowded = len(lines) > limit
            open_ = [line for line in lines if line.polls < (1 if crowded else line.width)]
            awake = whose_turn(open_, now) if crowded else open_
            while room > 0 and awake:
                for place, line in enumerate(awake):
                    share = min(self._most, room, max(1, room // (len(awake) - place)))
                    if share > 0:
                        room -= share
                        seconds = _short_poll(line, now) if crowded else self._settings.poll
                        self._start(line, share, seconds, lease)
                awake = [] if crowded else [line for line in awake if line.polls < line.width]

    def _start(self, line: Line, share: int, seconds: int, lease: int) -> None:
        line.asked += share
        line.polls += 1
        line.looked = self._clock.monotonic()
        self._threads.start(lambda: self._poll(line, share, seconds, lease))

    def _poll(self, line: Line, asked: int, seconds: int, lease: int) -> None:
        found, began = 0, self._clock.monotonic()
        try:
            if not self._closing.is_set():
                found = self._receive(line.queue, asked, seconds, lease)
            if line.given_back >= began and not self._waiters:
                self.give_back(queue=line.queue)
        except DriverError as error:
            self._trouble = error
        except BaseException as error:
            self._trouble = DriverError(f"receiving failed: {type(error).__name__}: {error}")
            raise
        finally:
            self._polled(line, asked, found)

    def _polled(self, line: Line, asked: int, found: int) -> None:
        with self._lock:
            line.asked -= asked
            line.polls -= 1
            line.quiet_until = 0.0 if found else self._clock.monotonic() + QUIET
            line.width = self._width(line, asked, found)
            for waiter in self._waiters:
                waiter.flag.set()

    def _width(self, line: Line, asked: int, found: int) -> int:
        if not found:
            return 1
        return min(self._settings.polls, line.width * 2) if found == asked == self._most else line.width

    def _receive(self, queue: str, asked: int, seconds: int, lease: int) -> int:
        """Receive up to `asked` messages and keep them; return how many came. Raises `DriverError`."""
        # A lease begins while the request is under way. It is counted from before that, and lasts longer by the length of the poll:
        # so it is as long as was asked for when the answer comes in time, and over when the answer comes too late.
        visible = min(LONGEST_LEASE, lease + seconds)
        began = self._clock.monotonic()
        try:
            answer = self._service.call(
                "receive_message",
                doing=f"receiving from {queue}",
                patience=TRIES,
                QueueUrl=self._queues.url(queue),
                MaxNumberOfMessages=asked,
                WaitTimeSeconds=seconds,
                VisibilityTimeout=visible,
                MessageAttributeNames=[ATTRIBUTE],
                MessageSystemAttributeNames=["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"],
            )
        except RequestError as error:
            self._queues.forget(queue)
            raise passing(error).meaning from error
        now = self._clock.monotonic()
        received = [lent_of(m, queue, began=began, ends=began + visible, now=now) for m in answer.get("Messages", ())]
        due = [lent for lent in received if not self._early(lent)]
        with self._lock:
            self._kept.setdefault(queue, deque()).extend(due)
        if due and seconds:
            self._mind_what_is_kept()
        return len(received)

    def _early(self, lent: Lent) -> bool:
        """Send a message on that is not due yet; whether it was such a one."""
        if lent.label.due is None or lent.label.due <= self._clock.time():
            return False
        self._hop(lent)
        return True

    # ------------------------------------------------------------------------------------------------- what nobody took

    def _mind_what_is_kept(self) -> None:
        """Start the thread that gives back what nobody takes, unless it is at work."""
        with self._lock:
            if self._minding or self._closing.is_set():
                return
            self._minding = True
        threading.Thread(target=self._return_unwanted, name="queuekit-sqs-unwanted", daemon=True).start()

    def _return_unwanted(self) -> None:
        while not self._closing.wait(UNWANTED / 2):
            with self._lock:
                if not any(self._kept.values()):
                    self._minding = False
                    return
            try:
                self.give_back(older_than=UNWANTED)
            except DriverError as error:
                self._trouble = error  # what was not given back is lent again when its lease ends

    def given_back(self, queue: str) -> None:
        """Note that the holder gives jobs of a queue back: what else is kept for it goes the same way."""
        line = self._lines.get(queue)
        if line is not None:
            line.given_back = self._clock.monotonic()
            if not self._waiters:
                self.give_back(queue=queue)

    def give_back(self, *, older_than: float = 0.0, queue: str | None = None) -> None:
        """Give back what was kept for so long; a message that waits for a free place has half of its lease."""
        now = self._clock.monotonic()
        unwanted: list[Lent] = []
        with self._lock:
            for kept in [*self._kept.values()] if queue is None else [self._kept.get(queue, deque())]:
                mine = [lent for lent in kept if now - lent.arrived >= self._keep(lent, older_than)]
                for lent in mine:
                    kept.remove(lent)
                unwanted += [lent for lent in mine if lent.ends > now]
        if unwanted:
            self._give_back(unwanted)

    @staticmethod
    def _keep(lent: Lent, seconds: float) -> float:
        if not seconds or not lent.recovered:
            return seconds
        return max(seconds, (lent.ends - lent.arrived) / 2)

    def close(self) -> None:
        """Let running polls end, and give back what they brought."""
        self._closing.set()
        with self._lock:
            for waiter in self._waiters:
                waiter.flag.set()
        self._threads.end(self._settings.poll + self._settings.read_timeout)
        self.give_back()


def newest(taken: Sequence[Lent], others: Iterable[Lent]) -> list[Lent]:
    """Leave out receipts that a later one has replaced: the service lent the message anew, so this lease is over there."""
    counts: dict[str, int] = {}
    for lent in (*taken, *others):
        counts[lent.service_id] = max(lent.count, counts.get(lent.service_id, 0))
    return [lent for lent in taken if lent.count == counts[lent.service_id]]


def whose_turn(lines: list[Line], now: float) -> list[Line]:
    """Return the queues to be looked at: the one that the worker owes most, then those that waited longest for a look.

    So every queue is looked at once before any but that one is looked at twice.
    """
    awake = [line for line in lines if line.quiet_until <= now]
    return awake[:1] + sorted(awake[1:], key=lambda line: line.looked) if awake else lines[:1]


def _short_poll(line: Line, now: float) -> int:
    """Return the seconds for which one of many queues is polled: none, unless all of them were found empty."""
    return 0 if line.quiet_until <= now else 1


def whole_lease(lease: float) -> int:
    """Return a lease in the whole seconds that the service knows, never shorter."""
    return max(1, min(LONGEST_LEASE, math.ceil(lease)))
