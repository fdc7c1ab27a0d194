"""Harnesses of real pairs: a transport's server carries the tickets, an engine keeps the jobs; time is the transport's own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from queuekit.clock import SystemClock, VirtualClock
from queuekit.contract import Driver, DriverError
from queuekit.pairing import pair
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses.embedded import SqliteHarness
from queuekit_integration.harnesses.rabbitmq import RabbitMQHarness
from queuekit_integration.harnesses.redis import RedisHarness
from queuekit_integration.harnesses.sqs import PassingClock, SqsHarness
from queuekit_integration.servers import Server
from queuekit_integration.weaker import order_may_break, time_is_real

__all__ = ["RabbitMQSqliteHarness", "SqsRedisHarness"]


@dataclass
class TwoHarness(Harness):
    """A pair of two columns; subclass it and set `name`, `transport` and `engine`."""

    transport: ClassVar[type[Harness]]
    engine: ClassVar[type[Harness]]
    clock: VirtualClock = field(default_factory=PassingClock)
    virtual: ClassVar[bool] = False
    without: ClassVar[Mapping[str, Weaker]] = {
        "order": Weaker(
            "a job that is given back stands behind those whose tickets are on the transport", shown_by=order_may_break
        ),
        "virtual_time": Weaker(
            "the transport's clock is nobody's to move: a lease and a delay of a second are watched in real time",
            shown_by=time_is_real,
        ),
    }
    expectations: ClassVar[Mapping[str, Expectation]] = {}
    _halves: tuple[Harness, Harness] | None = None

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why one of the two cannot run here."""
        return cls.transport.unavailable() or cls.engine.unavailable()

    @property
    def halves(self) -> tuple[Harness, Harness]:
        """The two columns' own harnesses, in this cell's namespace and folder."""
        if self._halves is None:
            self._halves = (
                self.transport(namespace=self.namespace, folder=self.folder),
                self.engine(namespace=self.namespace, folder=self.folder),
            )
        return self._halves

    @property
    def server(self) -> Server | None:
        """The transport's server: what befalls it must cost no job."""
        return self.halves[0].server

    def parts(self) -> tuple[Driver, Driver]:
        """Return both halves' drivers."""
        carrier, store = (half.make_driver(virtual=False) for half in self.halves)
        return carrier, store

    def make_driver(self, *, virtual: bool) -> Driver:  # noqa: ARG002 - time is always real here
        """Pair two drivers, as `Queue(…, store=…)` does."""
        return pair(*self.parts(), clock=SystemClock())

    def url(self, *, through: Proxy | None = None) -> str | None:
        """Return the transport's address."""
        return self.halves[0].url(through=through) if through else self.halves[0].url()

    def store_url(self) -> str | None:
        """Return the store's address."""
        return self.halves[1].url()

    def database(self) -> Any:
        """Open the store's database."""
        return self.halves[1].database()

    def broken(self) -> Driver:
        """Return a pair whose store cannot be reached."""
        return pair(self.halves[0].make_driver(virtual=False), self.halves[1].broken(), clock=SystemClock())

    def write_garbage(self, body: bytes) -> None:
        """Put a foreign body onto the transport."""
        self.halves[0].write_garbage(body)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Meet the transport's."""
        yield from self.halves[0].troubles()

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Weaken the store's settings."""
        for setting, store in self.halves[1].unsafe():
            carrier = self.halves[0].make_driver(virtual=False)
            yield f"{store.limits.name}: {setting}", pair(carrier, store, clock=SystemClock())

    def close(self) -> None:
        """End what the cell started on both sides."""
        super().close()
        if self._halves is not None:
            for half in self._halves:
                half.close()


@dataclass
class RabbitMQSqliteHarness(TwoHarness):
    """RabbitMQ with SQLite."""

    name: str = "rabbitmq+sqlite"
    transport: ClassVar[type[Harness]] = RabbitMQHarness
    engine: ClassVar[type[Harness]] = SqliteHarness


@dataclass
class SqsRedisHarness(TwoHarness):
    """SQS with Redis."""

    name: str = "sqs+redis"
    profile: str = "roto"
    transport: ClassVar[type[Harness]] = SqsHarness
    engine: ClassVar[type[Harness]] = RedisHarness
