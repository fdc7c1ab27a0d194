"""Whether two drivers are one and the same backend, by whatever addresses: they are asked, for one backend has many names."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from queuekit.contract import Compare, Driver, Pause, UnsupportedError
from queuekit.pairing.paired import Paired

__all__ = ["same_backend"]


def same_backend(one: Driver, other: Driver, queues: Sequence[str]) -> bool:
    """Whether what one of these open drivers stores in `queues` is in the other one too: same backend, same namespace.

    Some round trips; leaves nothing behind. Of pairs the stores count, and towards a bare transport the transports. Raises
    `UnsupportedError` for two transports of one kind whose driver cannot tell.
    """
    if isinstance(one, Pause) and isinstance(other, Pause):
        return _paused_in_both(one, other)
    return any(_same_queues(a, b, queues) for a in _transports(one) for b in _transports(other))


def _paused_in_both(one: Pause, other: Pause) -> bool:
    """Pause a queue that nobody has and nobody can guess in one, and look for it in the other.

    A kill in between leaves it paused, which harms nobody.
    """
    marker = f"same-backend-{uuid.uuid4()}"
    try:
        one.pause(marker)
        return marker in other.paused()
    finally:
        one.resume(marker)


def _transports(driver: Driver) -> Sequence[Driver]:
    if isinstance(driver, Paired):
        return [driver.transport]
    return [] if isinstance(driver, Pause) else [driver]


def _same_queues(one: Driver, other: Driver, queues: Sequence[str]) -> bool:
    name = one.limits.name
    if isinstance(one, Compare):
        return any(one.same_queue(other, queue) for queue in queues[:1])
    if name == other.limits.name:
        message = f"whether both are the same {name} cannot be told, for its driver has no same_queue()"
        raise UnsupportedError(message, driver=name, feature="same_queue", remedy="")
    return False
