"""What claims need not read: below its floor an index holds only entries of jobs that are gone.

While a transaction stays open anywhere in the database, vacuum clears nothing away, and a claim that began at the head of a
line would walk over every job that ended meanwhile. So each process surveys where the lines, the due times and the running
jobs begin, and claims begin there. That is safe because of what may still appear below a head that a survey saw:

1. A job comes back to an old place. It stands in the line of those that came back (line 3), which has no floor.
2. A transaction commits late. A transaction has its number before its jobs have places and its claims have times, so whoever
   may do so had a number below the survey's own. A survey's heads become floors only when a later one sees these
   transactions ended and nothing below; the later survey reads from the old floors.
3. A transaction that stays open is passed over after `LONG`. As soon as a survey finds it ended, the floors fall back to
   where it began, and the claim is asked again.

So a claim sees what was committed `EXEMPT_EVERY` before it, and at once what was stored by a transaction shorter than `LONG`.
Every `WHOLE_EVERY` a survey reads from the very beginning, for what no rule foresees: a server that was stopped between two
instructions, a clock set back.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from queuekit.contract import Delivery

RANKS = 10
BUSY_EVERY, BUSY_JOBS = 0.05, 200
"""Seconds between surveys of a process that has lent at least so many jobs since the last one."""
EXEMPT_EVERY = 0.1
"""Seconds between surveys while a transaction is passed over."""
IDLE_EVERY = 1.0
"""Seconds between surveys otherwise."""
LONG = 1.0
"""Seconds after which a transaction is passed over, and no longer waited for."""
WHOLE_EVERY = 60.0
"""Seconds between surveys that read everything; rarer where that takes more than a fiftieth of the time."""
MOST_QUEUES = 100
"""Queues that have floors; others are read from the beginning."""
DUE_MARGIN = 1.0
"""Seconds that may pass between reading the time for a delay and getting a transaction's number."""
ROUNDING = 0.001
"""Seconds by which a time may be off that travelled as a float."""

Line = tuple[str, int]
"""A queue and a rank."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a claim need not read."""

    lines: Mapping[Line, int] = field(default_factory=dict)
    """The floors of lines: jobs stand above them."""
    due: float = -math.inf
    started: float = -math.inf

    def stretches(self, queue: str) -> list[tuple[int, int, int]]:
        """Return where to read a queue, in order: a rank, its floor, and the rank before which the stretch ends."""
        ranks = sorted(rank for name, rank in self.lines if name == queue)
        starts = [(rank, self.lines[queue, rank]) for rank in ranks]
        if not ranks or ranks[0] > 0:
            starts.insert(0, (-1, -1))
        ends = [rank for rank, _ in starts[1:]] + [RANKS]
        return [(rank, floor, end) for (rank, floor), end in zip(starts, ends, strict=True)]

    def times(self) -> dict[str, float]:
        """Return the parameters that keep statements from reading old times."""
        return {"due_floor": self.due, "started_floor": self.started}


NOTHING = Known()


@dataclass(slots=True)
class Mark:
    """A survey's place in history: its transaction's number, the newest place and the time when it was made."""

    number: int
    place: int
    time: float


@dataclass(slots=True)
class Open:
    """A transaction that has not ended: since when it is known, and what cannot be above what it stores."""

    since: float
    bound: Mark
    passed: bool = False


@dataclass(slots=True)
class Survey:
    """The answer of `survey.sql`."""

    mark: Mark
    open: frozenset[int]
    due: float
    started: float
    heads: dict[Line, int | None]


@dataclass(slots=True)
class Asked:
    """A survey that is under way."""

    lines: list[Line]
    known: Known
    since: float
    whole: bool

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `survey.sql`."""
        return {
            "queues": [queue for queue, _ in self.lines],
            "ranks": [rank for _, rank in self.lines],
            "floors": [self.known.lines.get(line, -1) for line in self.lines],
            **self.known.times(),
        }

    def read(self, row: Sequence[Any]) -> Survey:
        """Return what the row says."""
        snapshot, number, place, time, due, started, heads = row
        open = frozenset(map(int, filter(None, snapshot.rpartition(":")[2].split(","))))
        first = math.inf if due is None else due - ROUNDING
        oldest = math.inf if started is None else started - ROUNDING
        return Survey(Mark(int(number), place, time), open, first, oldest, dict(zip(self.lines, heads, strict=True)))


class Floors:
    """What this process knows, and what it is about to know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server = 0
        self._forget()

    def _forget(self) -> None:
        self.known = NOTHING
        self._pid = os.getpid()
        self._asked: Asked | None = None
        self._all: dict[Line, int] = {}
        self._busy: set[Line] = set()
        self._queues: dict[str, None] = {}
        self._marks: deque[Mark] = deque(maxlen=4)
        self._open: dict[int, Open] = {}
        self._candidates: deque[tuple[int, Known]] = deque(maxlen=64)
        self._last = self._next_whole = -math.inf
        self._lent = 0

    def lent(self, deliveries: Sequence[Delivery]) -> None:
        """Note what a claim lent, in the order of a line."""
        self._lent += len(deliveries)
        for delivery in (*deliveries[:1], *deliveries[-1:]):
            self._busy.add((delivery.message.queue, 9 - delivery.message.priority))

    def trust(self, server: int) -> bool:
        """Forget everything unless the server still is the one (by the count of broken connections) that all was learnt from."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()  # a thread of the parent's may hold the other one for ever
        elif server == self._server:
            return True
        with self._lock:
            self._forget()
            self._server = server
        return False

    def survey(self, queues: Sequence[str], now: float, *, urgent: bool = False) -> Asked | None:
        """Return what to ask, when it is time to; a claim that was just woken for a job (`urgent`) leaves it to the next one."""
        with self._lock:
            for queue in queues:
                if len(self._queues) < MOST_QUEUES:
                    self._queues[queue] = None
            pause = self._pause()
            if urgent and not self._passes():
                pause += IDLE_EVERY
            if self._asked is not None or now - self._last < pause:
                return None
            self._last, self._lent = now, 0
            whole = now >= self._next_whole
            lines = [(queue, rank) for queue in self._queues for rank in range(RANKS)]
            known = NOTHING if whole else replace(self.known, lines=dict(self._all))
            self._asked = Asked(lines, known, now, whole)
            return self._asked

    def _pause(self) -> float:
        if self._lent >= BUSY_JOBS:
            return BUSY_EVERY
        return EXEMPT_EVERY if self._passes() else IDLE_EVERY

    def _passes(self) -> bool:
        return any(entry.passed for entry in self._open.values())

    def look_again(self) -> float:
        """Return within how many seconds a claim that waits must look again: what was passed over may end in silence."""
        with self._lock:
            return EXEMPT_EVERY if self._passes() else math.inf

    def failed(self) -> None:
        """Note that the server gave no answer: what it says next may be said by another one."""
        with self._lock:
            self._forget()

    def learn(self, asked: Asked, row: Sequence[Any], now: float) -> bool:
        """Take in a survey; whether floors fell, so that a claim must be asked again."""
        with self._lock:
            if self._asked is not asked:
                return False
            self._asked = None
            found = asked.read(row)
            if asked.whole:
                self._next_whole = now + max(WHOLE_EVERY, 50 * (now - asked.since))
            last = self._marks[-1] if self._marks else None
            if last is not None and (found.mark.number <= last.number or found.mark.time < last.time):
                self._forget()
                return True
            fell = self._fall_below(found) | self._fall_back(found.open)
            self._meet(found.open, now)
            if not fell:
                self._confirm(found, now)
                self._suggest(found, last)
            self._marks.append(found.mark)
            self._publish()
            return fell

    def _fall_below(self, found: Survey) -> bool:
        """Whether a survey of everything found something below a floor, where nothing should be; that floor falls."""
        heads = ((line, head) for line, head in found.heads.items() if head is not None)
        below = {line: head - 1 for line, head in heads if head <= self._all.get(line, -1)}
        self._all.update(below)
        old = self.known
        self.known = Known(due=min(old.due, found.due), started=min(old.started, found.started))
        return bool(below) or self.known.times() != old.times()

    def _fall_back(self, open: frozenset[int]) -> bool:
        """Whether a transaction has ended that was passed over; all floors fall to where it began."""
        ended = [self._open.pop(number) for number in self._open.keys() - open]
        bounds = [entry.bound for entry in ended if entry.passed]
        if not bounds:
            return False
        place, time = min(bound.place for bound in bounds), min(bound.time for bound in bounds)
        self._all = {line: min(floor, place) for line, floor in self._all.items()}
        due, started = min(self.known.due, time - DUE_MARGIN), min(self.known.started, time - ROUNDING)
        self.known = Known(due=due, started=started)
        self._candidates.clear()
        return True

    def _meet(self, open: frozenset[int], now: float) -> None:
        """Note transactions that were not open before: they began after the newest mark with a lower number."""
        marks = list(self._marks)
        for number in open - self._open.keys():
            later = [before for before, mark in pairwise(marks) if mark.number < number]
            self._open[number] = Open(now, later[-1] if later else Mark(0, -1, -math.inf))

    def _confirm(self, found: Survey, now: float) -> None:
        """Raise floors to the heads of the newest survey before which nobody is open any more but those passed over."""
        long = {number for number, entry in self._open.items() if now - entry.since >= LONG}
        waited_for = min(found.open - long, default=math.inf)
        ready = None
        while self._candidates and self._candidates[0][0] <= waited_for:
            _, ready = self._candidates.popleft()
        if ready is None:
            return
        for number in long:
            self._open[number].passed = True
        for line, floor in ready.lines.items():
            head = found.heads[line]
            seen = floor if head is None else min(floor, head - 1)
            self._all[line] = max(self._all.get(line, -1), seen)
        due = max(self.known.due, min(ready.due, found.due))
        self.known = Known(due=due, started=max(self.known.started, min(ready.started, found.started)))

    def _suggest(self, found: Survey, last: Mark | None) -> None:
        """Remember what this survey found, for a later one to confirm."""
        self._busy.update(line for line, head in found.heads.items() if head is not None)
        if last is not None:
            lines = {line: last.place if head is None else head - 1 for line, head in found.heads.items()}
            due, started = min(found.due, last.time - DUE_MARGIN), min(found.started, last.time - ROUNDING)
            self._candidates.append((found.mark.number, Known(lines, due, started)))

    def _publish(self) -> None:
        lines = {line: floor for line, floor in self._all.items() if line in self._busy and floor >= 0}
        self.known = replace(self.known, lines=lines)
