"""`sync://`: jobs run in their dispatcher, before `dispatch` returns."""

from __future__ import annotations

import msgspec

from queuekit.contract import Clock, Url
from queuekit.memory.driver import LIMITS, MemoryDriver, named_broker

SYNC_LIMITS = msgspec.structs.replace(LIMITS, name="sync", inline=True, delays=False, keys=False, limits=False)


class SyncDriver:
    """Builds the memory driver with the fact `inline`: the facade runs each job in the caller until it has ended."""

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> MemoryDriver:
        """Build the driver for `sync://`."""
        url.refuse_unknown(set())
        return MemoryDriver(
            broker=named_broker(url, namespace, clock), namespace=namespace, clock=clock, limits=SYNC_LIMITS
        )
