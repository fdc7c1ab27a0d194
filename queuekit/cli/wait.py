"""The command `wait`: blocks until jobs have ended, and says how."""

from __future__ import annotations

import math
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from queuekit.cli.app import open_shared
from queuekit.cli.exits import FAILED, NOTHING, OK, TIMED_OUT
from queuekit.cli.output import as_json, say, tell
from queuekit.contract import State
from queuekit.errors import DriverUnavailable
from queuekit.info import JobInfo
from queuekit.queue import Queue

__all__ = ["wait"]

UNFINISHED: tuple[State, ...] = ("pending", "scheduled", "running")
ENDED: tuple[State, ...] = ("completed", "failed", "cancelled")
PAGE = 500
FIRST_LOOK, SLOWEST_LOOK = 0.05, 1.0
"""Seconds between looks: from quick, for jobs that end at once, to what costs a backend nothing."""
LINE_EVERY = 2.0
"""Seconds between two lines of progress where stderr is no terminal."""
NAMED = 10
"""Failed jobs that are named one by one."""


def wait(asked: Namespace) -> int:
    """Block until no job of the selection is unfinished; jobs that join it meanwhile count too."""
    with open_shared(asked.app) as queue:
        chosen = Selection(queue, queue_name=asked.queue, type=asked.type, tag=asked.tag)
        progress = Progress()
        unfinished = _until_ended(chosen, asked.timeout, progress)
        progress.close()
        return _report(asked, chosen, unfinished)


class Selection:
    """Jobs of one queue, type or tag, or all."""

    def __init__(self, queue: Queue, *, queue_name: str | None, type: str | None, tag: str | None) -> None:
        self._queue = queue
        self._filters = {"queue": queue_name, "type": type, "tag": tag}

    def count(self, states: Sequence[State]) -> Counter[State]:
        """Count the jobs by state."""
        return Counter(job.state for job in self.each(states))

    def each(self, states: Sequence[State]) -> Iterator[JobInfo]:
        """Yield the jobs in these states, in order of acceptance."""
        after: str | None = None
        while True:
            page = self._queue.jobs(state=states, limit=PAGE, after=after, **self._filters)
            yield from page
            after = page.next
            if after is None:
                return

    def __str__(self) -> str:
        return " ".join(f"--{name} {value}" for name, value in self._filters.items() if value is not None) or "any job"


class Progress:
    """One line on stderr: rewritten on a terminal, a new one every few seconds elsewhere."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._live = sys.stderr.isatty()
        self._most = 0
        self._last = ""
        self._last_at = -LINE_EVERY

    def show(self, counts: Counter[State]) -> None:
        """Show how many jobs are left."""
        left = counts.total()
        self._most = max(self._most, left)
        parts = ", ".join(f"{counts[state]} {state}" for state in UNFINISHED if counts[state])
        text = f"waiting for {left} of {self._most} jobs: {parts}"
        if not left or text == self._last or (not self._live and self._now() < self._last_at + LINE_EVERY):
            return
        self._last, self._last_at = text, self._now()
        sys.stderr.write(f"\r{text}\x1b[K" if self._live else f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Clear the line, so that what follows stands alone."""
        if self._live and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _until_ended(chosen: Selection, timeout: float | None, progress: Progress) -> int:
    """Look again and again; return how many jobs were unfinished at the last look."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    pause = FIRST_LOOK
    while True:
        start = time.monotonic()
        counts = _look(chosen, end)
        now = time.monotonic()
        left = end - now
        if counts is not None:
            progress.show(counts)
            if not counts or left <= 0:
                return counts.total()
        # A look at very many jobs takes long itself: never spend more than half of the time on looking.
        time.sleep(min(max(pause, now - start), left))
        pause = min(pause * 1.5, SLOWEST_LOOK)


def _look(chosen: Selection, end: float) -> Counter[State] | None:
    """Count what is unfinished; None when the backend is away and there is time for it to come back."""
    try:
        return chosen.count(UNFINISHED)
    except DriverUnavailable as error:
        if time.monotonic() >= end:
            raise
        tell(f"the backend is unavailable ({error}); waiting for it")
        return None


def _report(asked: Namespace, chosen: Selection, unfinished: int) -> int:
    ended: Counter[State] = Counter()
    bad: list[JobInfo] = []
    for job in chosen.each(ENDED):
        ended[job.state] += 1
        if job.state != "completed":
            bad.append(job)
    code = _code(unfinished, ended)
    if asked.json:
        say(as_json(_facts(unfinished, ended, bad)))
    else:
        _say(unfinished, ended, bad)
    if code == TIMED_OUT:
        tell(
            f"{unfinished} jobs were unfinished after {asked.timeout:g} s: wait longer with --timeout, "
            f"or see with queuekit stats {asked.app} whether a worker is alive"
        )
    elif code == NOTHING:
        tell(f"there are no such jobs ({chosen}): correct the selection, or dispatch them first and keep their records")
    return code


def _code(unfinished: int, ended: Counter[State]) -> int:
    if unfinished:
        return TIMED_OUT
    if not ended:
        return NOTHING
    return FAILED if ended["failed"] or ended["cancelled"] else OK


def _facts(unfinished: int, ended: Counter[State], bad: list[JobInfo]) -> dict[str, Any]:
    named = [{"id": job.id, "type": job.type, "state": job.state, "reason": job.reason} for job in bad]
    return {"unfinished": unfinished, **{state: ended[state] for state in ENDED}, "not_completed": named}


def _say(unfinished: int, ended: Counter[State], bad: list[JobInfo]) -> None:
    parts = [f"{ended[state]} {state}" for state in ENDED] + ([f"{unfinished} unfinished"] if unfinished else [])
    say(", ".join(parts))
    for job in bad[:NAMED]:
        last = job.errors[-1].message.partition("\n")[0] if job.errors else ""
        tell(f"{job.state}: {job.id} {job.type} ({job.reason}){f': {last}' if last else ''}")
    if len(bad) > NAMED:
        tell(f"… and {len(bad) - NAMED} more")
