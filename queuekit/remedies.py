"""What to do where a driver lacks a feature: the end of the sentence that says so."""

from __future__ import annotations

from queuekit.contract import Driver, Records, UnsupportedError

__all__ = ["pairing", "remedy", "unsupported"]

ENGINES = "an engine (memory://, sqlite:///jobs.db, redis:// or postgresql://)"
SQL = "a SQL engine (sqlite:///jobs.db or postgresql://)"
HAVE = {
    "migrate": SQL,
    "priority": f"amqp://, or {ENGINES}",
    "server_clock": "redis:// or postgresql://",
    "transactional": SQL,
    "transactional_settle": SQL,
}
"""Which backends have a feature that not every engine has, or that more have than engines."""
STORES = dict.fromkeys(("server_clock", "transactional", "transactional_settle", "migrate"), "postgresql://…")
"""The store of a pair with a feature that not every store brings."""
NOT_OF_A_STORE = frozenset({"priority", "exchange", "store"})
"""What a pair has only where its transport has it."""
ADDRESSES = {"rabbitmq": "amqp://…", "sqs": "sqs://…"}
"""How the address of a transport begins, by the driver's name."""


def unsupported(driver: Driver, feature: str, what: str, *, without: str = "") -> UnsupportedError:
    """Return the error that says which driver lacks which feature, and what to do; `without`: how to do without it."""
    name, advice = driver.limits.name, remedy(driver, feature, without=without)
    text = f"the {name} driver cannot {what} (feature {feature!r}): {advice}"
    return UnsupportedError(text, driver=name, feature=feature, remedy=advice)


def remedy(driver: Driver, feature: str, *, without: str = "") -> str:
    """Return what brings a feature that a driver lacks: a store where that helps, other backends, or doing `without`."""
    found = [f"use {HAVE.get(feature, ENGINES)}"]
    if _is_transport(driver) and feature not in NOT_OF_A_STORE:
        found.insert(0, pairing(driver, STORES.get(feature, "redis://…")))
    if without:
        found.append(without)
    return ", or ".join(found)


def pairing(driver: Driver, store: str = "redis://…") -> str:
    """Return how a transport is given a store."""
    return f'pair it with a store, as in Queue("{ADDRESSES.get(driver.limits.name, "…")}", store="{store}")'


def _is_transport(driver: Driver) -> bool:
    """Whether it can be paired: engines and pairs keep records, and `null://` keeps nothing."""
    return not isinstance(driver, Records) and not driver.limits.discards
