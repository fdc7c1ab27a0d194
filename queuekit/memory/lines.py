"""Where jobs wait: a queue's line by priority and age, the lines of keys, and the gates of limits."""

from __future__ import annotations

import heapq
from collections import deque

from queuekit.memory.job import Job

LEVELS = 10
"""Priorities 0 to 9."""


class Line:
    """The jobs of one queue that may be lent, highest priority first, then by acceptance.

    New jobs come in order of acceptance, so a deque per priority suffices for them; those that come back (retries,
    releases, due delays) are older than its tail and wait in a small heap beside it. Entries are removed lazily: a job
    that stopped being ready, or was given another priority, is passed over when its turn comes.
    """

    __slots__ = ("_fresh", "_levels", "_returned")

    def __init__(self) -> None:
        self._fresh: list[deque[Job]] = [deque() for _ in range(LEVELS)]
        self._returned: list[list[tuple[int, Job]]] = [[] for _ in range(LEVELS)]
        self._levels = 0
        """Bit p is set while level p may hold something."""

    def push(self, job: Job) -> None:
        """Let a job stand in line."""
        job.ready = True
        level = job.message.priority
        self._levels |= 1 << level
        fresh = self._fresh[level]
        if not fresh or fresh[-1].seq < job.seq:
            fresh.append(job)
        else:
            heapq.heappush(self._returned[level], (job.seq, job))

    def pop(self) -> Job | None:
        """Take the next ready job out of the line."""
        while self._levels:
            level = self._levels.bit_length() - 1
            job = self._pop_level(level)
            if job is None:
                self._levels &= ~(1 << level)
            elif job.ready and job.message.priority == level:
                job.ready = False
                return job
        return None

    def trim(self, level: int) -> None:
        """Let go of the newest entries that were lent by name: where nobody pops, the line must not grow."""
        fresh = self._fresh[level]
        while fresh and not fresh[-1].ready:
            fresh.pop()

    def _pop_level(self, level: int) -> Job | None:
        fresh, returned = self._fresh[level], self._returned[level]
        if returned and (not fresh or returned[0][0] < fresh[0].seq):
            return heapq.heappop(returned)[1]
        return fresh.popleft() if fresh else None


class KeyLines:
    """Strict order per key: the head of a key's line may be lent, the others are held until it has ended."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, deque[Job]] = {}

    def join(self, key: str, job: Job) -> None:
        """Stand at the end of the key's line."""
        self._lines.setdefault(key, deque()).append(job)

    def is_head(self, key: str, job: Job) -> bool:
        """Whether it is this job's turn."""
        return self._lines[key][0] is job

    def leave(self, key: str, job: Job) -> Job | None:
        """Leave the line; return the job whose turn it has become, if any."""
        line = self._lines[key]
        was_head = line[0] is job
        line.remove(job)
        if not line:
            del self._lines[key]
            return None
        return line[0] if was_head else None


class ConcurrencyGate:
    """How many jobs of one concurrency key run, and who waits for a place, highest priority first."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: list[tuple[int, int, Job]] = []

    def wait(self, job: Job) -> None:
        """Hold a job until a place is free."""
        job.held = "limit"
        heapq.heappush(self.waiting, (-job.message.priority, job.seq, job))

    def leave(self) -> Job | None:
        """Give a place back; return the job that should try for it."""
        self.running -= 1
        while self.waiting:
            job = heapq.heappop(self.waiting)[2]
            if job.held == "limit" and job.state == "pending":
                return job
        return None


class RateGate:
    """The newest grants of one rate key: a sliding window, so no window of one period ever holds more than the limit."""

    __slots__ = ("grants", "until", "waiting")

    def __init__(self) -> None:
        self.grants: deque[float] = deque()
        self.until = 0.0
        """When the last grant has left its window."""
        self.waiting = 0
        """How many jobs are held; they are spread over the coming periods so that they do not all wake at once."""

    def take(self, limit: int, period: float, now: float) -> float | None:
        """Take one grant; None when granted, else the moment at which to try again."""
        grants = self.grants
        while len(grants) >= limit and now - grants[0] >= period:
            grants.popleft()
        if len(grants) < limit:
            grants.append(now)
            self.until = max(self.until, now + period)
            return None
        again = grants[0] + period * (1 + self.waiting // limit)
        self.waiting += 1
        return again
