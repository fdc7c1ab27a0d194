"""How a driver is found: by its URL's scheme, among the entry points of the group `queuekit.drivers`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from queuekit.clock import Clock
from queuekit.contract import (
    Browse,
    Control,
    Count,
    Diagnose,
    Driver,
    Exchange,
    Migrate,
    Native,
    Pause,
    Purge,
    Records,
    Registry,
    ServerClock,
    Store,
    TransactionalSend,
    TransactionalSettle,
    UniqueSend,
)
from queuekit.errors import ConfigurationError
from queuekit.url import Url

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["FEATURES", "GROUP", "available", "connect", "features_of"]

GROUP = "queuekit.drivers"

FEATURES: dict[str, type] = {
    "count": Count,
    "browse": Browse,
    "control": Control,
    "pause": Pause,
    "purge": Purge,
    "unique": UniqueSend,
    "transactional": TransactionalSend,
    "transactional_settle": TransactionalSettle,
    "exchange": Exchange,
    "records": Records,
    "registry": Registry,
    "migrate": Migrate,
    "diagnose": Diagnose,
    "server_clock": ServerClock,
    "native": Native,
    "store": Store,
}
"""Features that show in a driver's methods, by the name that `supports` takes."""

FACTS = {"delay": "delays", "priority": "priorities", "key": "keys", "concurrency": "limits", "rate_limit": "limits"}
"""Features that are facts of `Limits`: the name that `supports` takes, and the field."""

EXTRAS = {
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "postgresql": "postgres",
    "postgres": "postgres",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "sqs": "sqs",
}
"""Which extra brings a scheme's driver: only for the sentence that says what to install."""


class Factory(Protocol):
    """What an entry point of the group names."""

    def from_url(self, url: Url, *, namespace: str, clock: Clock | None = None) -> Driver:
        """Build the driver; must not touch the backend yet."""
        ...


def available() -> dict[str, EntryPoint]:
    """Return the installed drivers by URL scheme."""
    return {point.name: point for point in _entry_points()}


def _entry_points(name: str | None = None) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - 15 ms that an import alone need not pay

    return tuple(entry_points(group=GROUP) if name is None else entry_points(group=GROUP, name=name))


def connect(address: str, *, namespace: str, clock: Clock | None) -> Driver:
    """Build the driver for a URL; raises `ConfigurationError` naming the extra to install when there is none."""
    url = Url.parse(address)
    points = _entry_points(name=url.scheme)
    if not points:
        raise _unknown_scheme(url.scheme)
    factory: Factory = points[0].load()
    return factory.from_url(url, namespace=namespace, clock=clock)


def _unknown_scheme(scheme: str) -> ConfigurationError:
    if scheme in EXTRAS:
        return ConfigurationError(
            f"the driver for {scheme}:// is not installed: pip install 'queuekit[{EXTRAS[scheme]}]'"
        )
    known = ", ".join(f"{name}://" for name in sorted({*available(), *EXTRAS}))
    return ConfigurationError(f"no driver for {scheme}://; known schemes: {known}")


def features_of(driver: Driver) -> frozenset[str]:
    """Return the names of what a driver can do."""
    by_method = (name for name, protocol in FEATURES.items() if isinstance(driver, protocol))
    by_fact = (name for name, field in FACTS.items() if getattr(driver.limits, field))
    return frozenset([*by_method, *by_fact])


def known_features() -> Iterable[str]:
    """Return every name that `supports` and `requires` take."""
    return sorted({*FEATURES, *FACTS})
