"""The harnesses, by name: queuekit's own whose driver is installed, and those that other distributions register.

A distribution registers one with an entry point of the group `queuekit.harnesses`, its name the column's.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from queuekit.drivers import available
from queuekit_integration.harness import Harness

__all__ = ["GROUP", "OWN", "harness", "names", "schemes"]

GROUP = "queuekit.harnesses"
OWN = {
    "memory": "queuekit_integration.harnesses.embedded:MemoryHarness",
    "sqlite": "queuekit_integration.harnesses.embedded:SqliteHarness",
    "redis": "queuekit_integration.harnesses.redis:RedisHarness",
    "postgres": "queuekit_integration.harnesses.postgres:PostgresHarness",
    "postgres-pgbouncer": "queuekit_integration.harnesses.postgres_pooled:PooledPostgresHarness",
    "rabbitmq": "queuekit_integration.harnesses.rabbitmq:RabbitMQHarness",
    "sqs": "queuekit_integration.harnesses.sqs:SqsHarness",
    "sqs-fifo": "queuekit_integration.harnesses.sqs:SqsFifoHarness",
    "carrier+sqlite": "queuekit_integration.harnesses.pairing:CarrierSqliteHarness",
    "rabbitmq+sqlite": "queuekit_integration.harnesses.pairs:RabbitMQSqliteHarness",
    "rabbitmq+postgres": "queuekit_integration.harnesses.pairs:RabbitMQPostgresHarness",
    "sqs+redis": "queuekit_integration.harnesses.pairs:SqsRedisHarness",
}
"""Harnesses of queuekit's own drivers, by column; there is a column once the driver's distribution is installed."""
SCHEMES = {"rabbitmq": "amqp", "sqs-fifo": "sqs", "postgres-pgbouncer": "postgres"}
"""The URL scheme that shows a driver to be installed, where it is not the column's name, or that of a pair's half."""


def names() -> tuple[str, ...]:
    """Return the columns that this environment has, queuekit's own first."""
    installed = set(available())
    return (
        *(name for name in OWN if schemes(name) <= installed),
        *sorted(point.name for point in entry_points(group=GROUP)),
    )


def schemes(name: str) -> set[str]:
    """Return the URL schemes that a column needs: two where it is a pair."""
    return {SCHEMES.get(half, half) for half in name.split("+")}


def harness(name: str) -> type[Harness]:
    """Return a harness by its column's name or as `package:Class`; raises `LookupError` for what is neither."""
    if ":" in name:
        return _checked(name, _load(name))
    if name not in names():
        raise LookupError(f"{name}: none of {', '.join(names())}, nor package:HarnessClass")
    for point in entry_points(group=GROUP, name=name):
        return _checked(name, point.load())
    return _checked(name, _load(OWN[name]))


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _checked(name: str, found: Any) -> type[Harness]:
    if not (isinstance(found, type) and issubclass(found, Harness)):
        raise LookupError(f"{name} is no Harness class")  # noqa: TRY004 - a name that leads nowhere, whatever stands there
    for attribute in vars(found):
        if attribute.startswith("scenario_"):
            raise LookupError(f"{name} overrides {attribute}: a driver takes the catalogue as it is")
    return found
