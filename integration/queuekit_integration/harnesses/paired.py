"""The harness of a pair: one column's transport carries the tickets, another one's engine keeps the jobs.

Time is the store's: it keeps delays, leases and retries, so its clock is the one that scenarios move. The transport has its own,
which is nobody's to move, and nothing waits for it: every ticket is due when it is published.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from queuekit import Queue
from queuekit.clock import SystemClock
from queuekit.contract import Driver, DriverError
from queuekit.pairing import pair
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.keyspace import Keyspace
from queuekit_integration.servers import Server
from queuekit_integration.sessions import Sessions
from queuekit_integration.weaker import order_may_break

__all__ = ["PairedHarness"]


@dataclass
class PairedHarness(Harness):
    """A pair of two columns; subclass it and set `name`, `transport` and `engine`."""

    transport: ClassVar[type[Harness]]
    engine: ClassVar[type[Harness]]
    hits_store: ClassVar[bool] = True
    """Which half's server the faults of servers befall: that of the store, or that of the transport."""
    without: ClassVar[Mapping[str, Weaker]] = {
        "order": Weaker(
            "a job that is given back stands behind those whose tickets are on the transport", shown_by=order_may_break
        ),
    }
    expectations: ClassVar[Mapping[str, Expectation]] = {}
    _halves: dict[str, tuple[Harness, Harness]] = field(default_factory=dict)

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why one of the two cannot run here."""
        return cls.transport.unavailable() or cls.engine.unavailable()

    @property
    def halves(self) -> tuple[Harness, Harness]:
        """The two columns' own harnesses: in this cell's namespace and folder, the store on its clock."""
        if self.namespace not in self._halves:
            carrier = self.transport(namespace=self.namespace, folder=self.folder)
            store = self.engine(namespace=self.namespace, folder=self.folder, clock=self.clock)
            self._halves[self.namespace] = carrier, store
        return self._halves[self.namespace]

    @property
    def struck(self) -> Harness:
        """The half whose server faults befall."""
        return self.halves[self.hits_store]

    # ------------------------------------------------------------------------------------------------------ drivers

    def parts(self) -> tuple[Driver, Driver]:
        """Return both halves' drivers, on real time."""
        carrier, store = (half.make_driver(virtual=False) for half in self.halves)
        return carrier, store

    def make_driver(self, *, virtual: bool) -> Driver:
        """Pair two drivers, as `Queue(…, store=…)` does."""
        carrier, store = self.halves
        return self._pair(carrier.make_driver(virtual=False), store.make_driver(virtual=virtual), virtual=virtual)

    def _pair(self, carrier: Driver, store: Driver, *, virtual: bool) -> Driver:
        if virtual:  # where time stands still, every claim looks into the outbox
            return pair(carrier, store, clock=self.clock, interval=0.0)
        return pair(carrier, store, clock=SystemClock())

    def build(self, *, virtual: bool, through: Proxy | None = None) -> Driver:
        """Build a pair, not opened; a proxy stands before the half whose server faults befall."""
        if through is None:
            return self.make_driver(virtual=virtual)
        carrier, store = (
            half.build(virtual=virtual and half is self.halves[1], through=through if half is self.struck else None)
            for half in self.halves
        )
        return self._pair(carrier, store, virtual=virtual)

    def broken(self) -> Driver:
        """Return a pair whose store cannot be reached."""
        carrier, store = self.halves
        return self._pair(carrier.make_driver(virtual=False), store.broken(), virtual=False)

    def url(self, *, through: Proxy | None = None) -> str | None:
        """Return the transport's address."""
        return self._url_of(self.halves[0], through)

    def store_url(self, *, through: Proxy | None = None) -> str | None:
        """Return the store's address."""
        return self._url_of(self.halves[1], through)

    def _url_of(self, half: Harness, through: Proxy | None) -> str | None:
        return half.url(through=through) if through and half is self.struck else half.url()

    # --------------------------------------------------------------------------------------- past the driver, and faults

    @property
    def server(self) -> Server | None:
        """The server that faults befall."""
        return self.struck.server

    @property
    def file(self) -> Path | None:
        """The store's."""
        return self.halves[1].file

    @property
    def keyspace(self) -> Keyspace | None:
        """The store's."""
        return self.halves[1].keyspace

    @property
    def sessions(self) -> Sessions | None:
        """The store's."""
        return self.halves[1].sessions

    def native(self, driver: Any) -> Any:
        """Return the store's."""
        return driver.native()[1].native()

    @property
    def database_at(self) -> tuple[str, str]:
        """The store's database."""
        return self.halves[1].database_at

    def private_server(self, *, folder: Path) -> Server:
        """Start another server of the kind that faults befall."""
        return self.struck.private_server(folder=folder)

    @contextlib.contextmanager
    def outage(self, queue: Queue) -> Iterator[None]:
        """Let the store not answer meanwhile."""
        server = self.halves[1].server
        if server is None:
            with super().outage(queue):
                yield
            return
        server.kill()
        self.fired("outage")
        yield
        server.start()

    def write_garbage(self, body: bytes) -> None:
        """Put a foreign body onto the transport."""
        self.halves[0].write_garbage(body)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Meet those of both halves: what either raises is the pair's to raise."""
        for half in self.halves:
            yield from half.troubles()

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Weaken the settings of either half."""
        carrier, store = self.halves
        for setting, weak in carrier.unsafe():
            yield f"{weak.limits.name}: {setting}", self._pair(weak, store.make_driver(virtual=False), virtual=False)
        for setting, weak in store.unsafe():
            yield f"{weak.limits.name}: {setting}", self._pair(carrier.make_driver(virtual=False), weak, virtual=False)

    def footprint(self) -> dict[str, int]:
        """Count what both halves keep."""
        return {f"{half.name} {name}": count for half in self.halves for name, count in half.footprint().items()}

    def leaks(self) -> list[str]:
        """Return what is left over on either side."""
        return [f"{half.name}: {left}" for half in self.halves for left in half.leaks()]

    def heal(self) -> None:
        """Undo what was done to the servers."""
        for half in self._all_halves():
            half.heal()

    def close(self) -> None:
        """End what the cell started on both sides, though one of them fails."""
        with contextlib.ExitStack() as stack:
            for half in reversed(self._all_halves()):
                stack.callback(half.close)
            super().close()

    def _all_halves(self) -> list[Harness]:
        return [half for both in self._halves.values() for half in both]
