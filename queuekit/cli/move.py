"""The command `move`: brings what waits from one backend to another."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from queuekit.cli.app import load
from queuekit.cli.exits import OK, TIMED_OUT
from queuekit.cli.output import as_json, say, tell
from queuekit.move import Moved
from queuekit.move import move as move_jobs
from queuekit.queue import Queue

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
            tell=_progress,
        )
    say(as_json(results) if asked.json else _text(results))
    return TIMED_OUT if any(result.left for result in results) else OK


def _queue(target: str, namespace: str) -> Queue:
    return Queue(target, namespace=namespace) if "://" in target else load(target)


def _progress(queue: str, moved: int) -> None:
    if moved % LINE_EVERY == 0:
        tell(f"queue {queue}: {moved} jobs moved")


def _text(results: Sequence[Moved]) -> str:
    if not results:
        return "there was nothing to move"
    return "\n".join(_line(result) for result in results)


def _line(result: Moved) -> str:
    jobs = "job" if result.moved == 1 else "jobs"
    line = f"queue {result.queue}: {result.moved} {jobs} moved"
    if result.left is None:
        line += "; what is still delayed there cannot be counted: run it again later"
    elif result.left:
        line += f"; {result.left} left (running, or not due): run it again later"
    if result.paused:
        line += "; the queue stays paused in the source, so that what is still dispatched there waits for the next move"
    return line
