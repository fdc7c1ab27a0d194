"""Scripts as the driver calls them: with the keys that they declare, on the clock that they go by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from queuekit.contract import Clock, DriverError
from queuekit_redis.keys import Keys
from queuekit_redis.link import Link
from queuekit_redis.scripts import script

__all__ = ["CHUNK", "HEAVY", "Calls", "parts"]

T = TypeVar("T")
_log = logging.getLogger("queuekit.redis")
CHUNK = 250
"""Jobs in one script: about a millisecond of the server's time, in which it answers nobody else."""
KNOWN = 256
"""Of so many scripts with their queues the keys are remembered."""
HEAVY = 5
"""What a job with a key, a limit, a scope or a result costs more than a plain one, whose work is shared by the whole script."""


class Calls:
    """The scripts of one namespace on one link."""

    def __init__(self, link: Link, keys: Keys, clock: Clock | None) -> None:
        self.link = link
        self.keys = keys
        self.clock = clock
        """A clock that a test moves; None for the server's own."""
        self._known = lru_cache(KNOWN)(self._keys_of)

    def run(self, name: str, *arguments: Any, queues: Iterable[str] = (), doing: str) -> Any:
        """Run a script whose loss or repetition the contract allows; `DriverUnavailable` when no answer comes."""
        self.link.check()
        return self.link.run(name, self.keys_of(name, queues), self.now(), *arguments, doing=doing)

    def keys_of(self, name: str, queues: Iterable[str]) -> Sequence[str]:
        """Return the keys that a script uses, of these queues where it is about queues."""
        return self._known(name, tuple(queues))

    def _keys_of(self, name: str, queues: tuple[str, ...]) -> tuple[str, ...]:
        declared = tuple(self.keys[key] for key in script(name).keys)
        if script(name).lists:
            return (*declared, *(key for queue in queues for key in self.keys.of_queue(queue)))
        return (*declared, *map(self.keys.bell, queues))

    def now(self) -> str:
        """Return the clock that scripts go by: none for the server's own."""
        clock = self.clock
        return "" if clock is None else f"{round(clock.monotonic() * 1e6)} {round(clock.time() * 1e6)}"

    def ring(self, elsewhere: Sequence[bytes]) -> None:
        """Wake a claim of each queue that a script could not know beforehand.

        What was asked for is done by then, so trouble here is none of the caller's: whoever was not woken looks by itself within
        the poll interval.
        """
        queues = [queue.decode() for queue in elsewhere]
        if queues:
            try:
                self.run("ring", queues=queues, doing="waking workers of other queues")
            except DriverError as error:
                _log.info("%s", error)


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces of at most this size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
