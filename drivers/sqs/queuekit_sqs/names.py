"""What queues are called at the service: readable where the service's rules allow it, never ambiguous."""

from __future__ import annotations

import hashlib
import re

__all__ = ["DEAD", "FIFO", "PLAIN", "queue_name"]

LONGEST = 80
"""Characters of a queue's name, its suffixes included (SQS quotas)."""
DEAD = "--dead"
"""Suffix of the queue that keeps what ended without success."""
FIFO = ".fifo"
"""Suffix that SQS asks of FIFO queues."""
ROOM = LONGEST - len(DEAD) - len(FIFO)
PLAIN = re.compile(r"(?!-)(?!.*--)[A-Za-z0-9_-]+(?<!-)")
"""Texts that stay as they are: two of them with `--` between are told apart at that one place."""


def queue_name(namespace: str, queue: str) -> str:
    """Return `namespace--queue`; what SQS does not allow in it, or would make it ambiguous, is replaced by a digest."""
    name = f"{namespace}--{queue}"
    if PLAIN.fullmatch(namespace) and PLAIN.fullmatch(queue) and len(name) <= ROOM:
        return name
    digest = hashlib.sha256(f"{namespace}\0{queue}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{namespace}-{queue}").strip("-")[: ROOM - 19]
    return f"{readable}--h{digest}"
