"""Job ids: UUID version 7 (RFC 9562, section 5.7), so that ids of one producer sort by time."""

from __future__ import annotations

import os
import threading
import time
import uuid

from queuekit.errors import ConfigurationError

__all__ = ["checked_id", "new_id"]

_lock = threading.Lock()
_last = 0
"""The newest 60 ordered bits given out: 48 of milliseconds, 12 of a counter within the millisecond."""
_pool = b""
_offset = 0
_POOL_BYTES = 4096


def _forget_pool() -> None:
    """Start over with fresh randomness: a forked child must not repeat its parent's ids."""
    global _pool, _offset, _lock  # noqa: PLW0603 - one source of randomness a process
    _lock = threading.Lock()
    _pool, _offset = b"", 0


os.register_at_fork(after_in_child=_forget_pool)


def new_id() -> str:
    """Return a fresh UUIDv7 as text; increasing within a process."""
    global _last, _pool, _offset  # noqa: PLW0603 - the module is the generator
    with _lock:
        moment = (time.time_ns() // 1_000_000) << 12
        _last = moment = moment if moment > _last else _last + 1
        if _offset >= len(_pool):
            _pool, _offset = os.urandom(_POOL_BYTES), 0
        tail = _pool[_offset : _offset + 8].hex()
        _offset += 8
    head = f"{moment:015x}"
    variant = "89ab"[int(tail[0], 16) & 3]
    return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{variant}{tail[1:4]}-{tail[4:]}"


def checked_id(value: object) -> str:
    """Return a client's own id in canonical form; refuses what is not a UUID."""
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)))
    except ValueError:
        message = f"id={value!r} ({type(value).__name__}) is refused: give a UUID, such as uuid.uuid4()"
        raise ConfigurationError(message) from None
