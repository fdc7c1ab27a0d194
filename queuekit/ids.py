"""Job ids: UUID version 7 (RFC 9562, section 5.7), so that ids of one producer sort by time."""

from __future__ import annotations

import os
import threading
import time
import uuid

from queuekit.durations import refuse
from queuekit.errors import ConfigurationError, JobNotFound

__all__ = ["checked_id", "new_id", "no_job", "sought_id"]

_lock = threading.Lock()
_millisecond = 0
_count = 0
_head = ""
"""The text of the newest millisecond, up to the version digit."""
_tails: list[str] = []
"""Random ends, made ahead of need: one call to the system serves many ids."""
TAILS = 256
COUNTS = 0x1000
"""Ids of one millisecond before the next one is borrowed: the counter has 12 bits (RFC 9562, section 6.2, method 1)."""


def _start_over() -> None:
    """Take fresh randomness: a forked child must not repeat its parent's ids."""
    global _lock
    _lock = threading.Lock()
    _tails.clear()


os.register_at_fork(after_in_child=_start_over)


def new_id() -> str:
    """Return a fresh UUIDv7 as text; increasing within a process."""
    global _count
    with _lock:
        _count += 1
        if time.time_ns() // 1_000_000 > _millisecond or _count == COUNTS:
            _next_millisecond()
        if not _tails:
            _make_tails()
        return f"{_head}{_count:03x}-{_tails.pop()}"


def _next_millisecond() -> None:
    global _millisecond, _count, _head
    _millisecond = max(time.time_ns() // 1_000_000, _millisecond + 1)
    _count = 0
    text = f"{_millisecond:012x}"
    _head = f"{text[:8]}-{text[8:]}-7"


def _make_tails() -> None:
    text = os.urandom(8 * TAILS).hex()
    for start in range(0, 16 * TAILS, 16):
        variant = "89ab"[int(text[start], 16) & 3]
        _tails.append(f"{variant}{text[start + 1 : start + 4]}-{text[start + 4 : start + 16]}")


def checked_id(value: object) -> str:
    """Return a client's own id in canonical form; refuses what is not a UUID."""
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)))
    except ValueError:
        message = f"id={value!r} ({type(value).__name__}) is refused: give a UUID, such as uuid.uuid4()"
        raise ConfigurationError(message) from None


def sought_id(value: str | uuid.UUID) -> str:
    """Return the id of a job that is looked for, in canonical form.

    Raises `JobNotFound` for a text that is no UUID, because no job has it, and `ConfigurationError` for what is no text.
    """
    if isinstance(value, uuid.UUID):
        return str(value)
    if not isinstance(value, str):
        raise refuse("id", value, "give a job's id, as a text or a UUID")
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise no_job(value) from None


def no_job(id: str) -> JobNotFound:
    """Return the error for an id that no job has."""
    return JobNotFound(f"there is no job {id}, or its record is past its retention")
