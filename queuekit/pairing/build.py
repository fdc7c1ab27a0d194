"""Building a pair from its two drivers, or saying why they are none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from queuekit.contract import (
    Carry,
    Clock,
    ConfigurationError,
    Driver,
    Message,
    Migrate,
    Outcome,
    Receipt,
    ServerClock,
    Store,
    TransactionalSend,
    TransactionalSettle,
)
from queuekit.pairing.exchanging import Exchanging
from queuekit.pairing.paired import Engine, Paired
from queuekit.pairing.relay import INTERVAL, WITHIN

__all__ = ["pair"]


class _Transactional(Paired):
    """A pair whose store takes part in the caller's own transaction; the relay publishes after the commit."""

    def send_in(self, connection: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Accept jobs as part of the caller's transaction; see the contract."""
        return cast("TransactionalSend", self._store).send_in(connection, messages)


class _Completing(Paired):
    """A pair whose store settles in the caller's own transaction."""

    def settle_in(self, connection: Any, outcomes: Sequence[Outcome]) -> None:
        """Settle in the store as part of the caller's transaction; what that frees is published in its turn."""
        cast("TransactionalSettle", self._store).settle_in(connection, outcomes)


class _Migrating(Paired):
    """A pair whose store has a schema."""

    def migrations(self) -> list[str]:
        """Return the store's outstanding steps."""
        return cast("Migrate", self._store).migrations()

    def migrate(self) -> list[str]:
        """Apply the store's steps."""
        return cast("Migrate", self._store).migrate()


class _Timed(Paired):
    """A pair whose store has a clock of its own."""

    def server_time(self) -> float:
        """Return the store's clock, by which deadlines go."""
        return cast("ServerClock", self._store).server_time()


def pair(
    transport: Driver, store: Driver, *, clock: Clock, interval: float = INTERVAL, within: float = WITHIN
) -> Paired:
    """Return the pair as one driver; raises `ConfigurationError` when the two do not make one.

    `interval`: seconds between two looks for what became due in the store. `within`: seconds after which somebody else
    publishes a job that was accepted and not seen since.
    """
    if isinstance(transport, Store):
        message = (
            f"store= pairs a transport (amqp://, sqs://) with an engine, and {transport.limits.name} is an engine "
            "that needs none: leave store out"
        )
        raise ConfigurationError(message)
    if not isinstance(store, Store):
        message = (
            f"store={store.limits.name} cannot keep records: give an engine, such as redis://, postgresql:// or "
            "sqlite:///jobs.db"
        )
        raise ConfigurationError(message)
    return kind_for(transport, store)(transport, cast("Engine", store), clock=clock, interval=interval, within=within)


def kind_for(transport: Driver, store: Driver) -> type[Paired]:
    """Return the class that has the features of this store, and takes tickets as this transport hands them over best."""
    carried = (Exchanging,) if isinstance(transport, Carry) else ()
    return _with((*carried, *(part for feature, part in _PARTS if isinstance(store, feature))))


_PARTS: tuple[tuple[Any, type[Paired]], ...] = (
    (TransactionalSend, _Transactional),
    (TransactionalSettle, _Completing),
    (Migrate, _Migrating),
    (ServerClock, _Timed),
)
"""Features that a pair has where its store has them."""


@cache
def _with(parts: tuple[type[Paired], ...]) -> type[Paired]:
    return type("Pair", parts, {}) if parts else Paired
