"""The command `move`: brings what waits from one backend to another."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence

from queuekit.cli.app import queue_at
from queuekit.cli.exits import OK, TIMED_OUT
from queuekit.cli.output import as_json, say, tell
from queuekit.move import Moved
from queuekit.move import move as move_jobs
from queuekit.queue import Queue
from queuekit.url import shown

__all__ = ["move"]

LINE_EVERY = 10_000
"""Jobs between two lines of progress."""


def move(asked: Namespace) -> int:
    """Move, tell how far it is, and say what is left."""
    with _queue(asked.source, asked.namespace) as source, _queue(asked.target, asked.namespace) as target:
        source.open()
        target.open()
        results = move_jobs(
            source.driver,
            target.driver,
            clock=source.clock,
            queues=asked.queue,
            timeout=asked.timeout,
            tell=_Progress(),
            called=(shown(asked.source), shown(asked.target)),
        )
    say(as_json(results) if asked.json else _text(results) or _nothing(source))
    return TIMED_OUT if any(result.left or result.refused for result in results) else OK


def _queue(target: str, namespace: str | None) -> Queue:
    """Return one side; the namespace is for those that are URLs."""
    return queue_at(target, namespace if "://" in target else None)


class _Progress:
    """Writes a line after so many jobs of a queue."""

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()

    def __call__(self, queue: str, moved: int) -> None:
        if moved - self._told[queue] >= LINE_EVERY:
            self._told[queue] = moved
            tell(f"queue {queue}: {moved} jobs moved")


def _nothing(source: Queue) -> str:
    """Say that no queue was found, and where that may not be all."""
    if source.supports("browse"):
        return "there was nothing to move"
    name = source.driver.limits.name
    return f"there was nothing to move in the queues that {name} lists: name those that it does not, with --queue NAME"


def _text(results: Sequence[Moved]) -> str:
    return "\n".join(_line(result) for result in results)


def _line(result: Moved) -> str:
    jobs = "job" if result.moved == 1 else "jobs"
    line = f"queue {result.queue}: {result.moved} {jobs} moved"
    if result.left is None:
        line += "; what is still delayed there cannot be counted: run it again later"
    elif waiting := result.left - len(result.refused):
        line += f"; {waiting} left (running, or not due): run it again later"
    if result.refused:
        line += _refused(result.refused)
    if result.paused:
        line += "; the queue stays paused in the source, so that what is still dispatched there waits for the next move"
    return line


def _refused(refused: Mapping[str, str]) -> str:
    """Say why jobs were not taken, by the example of one."""
    job, holder = next(iter(refused.items()))
    return (
        f"; {len(refused)} left because another job holds its unique scope in the target "
        f"(that of {job} is held by {holder}): run it again when that one has ended"
    )
