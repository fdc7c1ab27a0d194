"""How jobs ended, as their workers told it: what a scenario goes by where a driver cannot look a job up.

One line an outcome, once the backend has accepted it, in one file a process; a kill loses nothing that was written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from queuekit import Event, JobInfo
from queuekit.contract import Failure

__all__ = ["Ending", "Told", "ending_of", "last_told"]

SUFFIX = ".told"
ENDED = frozenset({"completed", "failed", "cancelled"})
REFUNDED = frozenset({"snoozed", "released"})
OUTCOMES = ENDED | {"retrying"} | REFUNDED


class Ending(msgspec.Struct, frozen=True):
    """Where a job stands: looked up where its driver can, else as its workers told it."""

    state: str
    """In the words of `JobInfo.state`."""
    reason: str | None = None
    attempt: int | None = None
    errors: tuple[str, ...] = ()
    """Class and text of what every failed attempt raised, the earliest first."""

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.state in ENDED


class Line(msgspec.Struct, frozen=True):
    """One accepted outcome."""

    at: float
    job: str
    state: str
    reason: str | None
    attempt: int | None
    error: str | None


class Told:
    """An observer that writes down every outcome that the backend accepted; any thread may call it."""

    def __init__(self, folder: Path, role: str) -> None:
        path = folder / f"{role}-{os.getpid()}-{id(self)}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._said: dict[tuple[str, int | str], Event] = {}

    def __call__(self, event: Event) -> None:
        """Keep an outcome until it is settled, and write it down then; one that was refused is forgotten."""
        if event.job_id is None or event.token is None:
            return
        lease = (event.job_id, event.token)
        with self._lock:
            if event.kind in OUTCOMES:
                self._said[lease] = event
            elif event.kind in {"settled", "settle_lost"}:
                said = self._said.pop(lease, None)
                if said is not None and event.kind == "settled":
                    self._write(said)

    def _write(self, said: Event) -> None:
        assert said.job_id is not None
        attempt = said.attempt
        if attempt is not None and said.kind in REFUNDED:
            attempt -= 1
        line = Line(said.at, said.job_id, _state(said), said.reason, attempt, said.error)
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _state(said: Event) -> str:
    if said.kind in ENDED:
        return said.kind
    return "scheduled" if said.delay else "pending"


def last_told(folder: Path, job: str) -> Ending | None:
    """Return where a job stands, by all that workers wrote in a folder; None when none has said anything."""
    lines = sorted((line for line in _lines(folder) if line.job == job), key=lambda line: line.at)
    if not lines:
        return None
    errors = tuple(line.error for line in lines if line.error)
    return Ending(lines[-1].state, lines[-1].reason, lines[-1].attempt, errors)


def _lines(folder: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    for path in folder.glob(f"*{SUFFIX}"):
        *lines, _torn = path.read_bytes().split(b"\n")
        yield from map(decoder.decode, lines)


def ending_of(info: JobInfo) -> Ending:
    """Return where a job stands, by its record."""
    return Ending(info.state, info.reason, info.attempt, tuple(map(_said, info.errors)))


def _said(failure: Failure) -> str:
    return f"{failure.kind}: {failure.message}" if failure.kind else failure.reason
