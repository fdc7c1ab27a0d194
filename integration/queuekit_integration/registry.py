"""The catalogue's register: every scenario by its id, what it needs, and what a driver without that must refuse."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from queuekit_integration.servers.base import Fault

if TYPE_CHECKING:
    from queuekit_integration.harness import Harness

__all__ = ["SCENARIOS", "Scenario", "load", "scenario"]

Body: TypeAlias = "Callable[[Harness], None]"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One named promise and how it is checked."""

    id: str
    name: str
    body: Body
    suite: Literal["contract", "behaviour"]
    """`contract` speaks to the driver's verbs, `behaviour` to the public API."""
    needs: tuple[str, ...]
    """Features and facts; where one is missing, the refusal of that need is asserted instead."""
    faults: tuple[Fault, ...]
    """What it does to the server; where the server's provider cannot cause one, the run says so."""
    timing: bool
    """Whether its outcome rests on real time: repeated before it counts."""

    @property
    def function(self) -> str:
        """The name of the scenario's function."""
        return self.body.__name__


SCENARIOS: dict[str, Scenario] = {}
NEEDS = frozenset(
    {
        "browse",
        "concurrency",
        "connections",
        "control",
        "count",
        "delay",
        "diagnose",
        "exchange",
        "fenced",
        "file",
        "key",
        "keyspace",
        "lasting",
        "lease",
        "migrate",
        "order",
        "pair",
        "pause",
        "priority",
        "processes",
        "purge",
        "rate_limit",
        "records",
        "registry",
        "outlives",
        "server",
        "server_clock",
        "sessions",
        "store",
        "transactional",
        "transactional_settle",
        "unique",
        "unique_ids",
        "virtual_time",
        "window",
    }
)


def scenario(
    id: str,
    *,
    suite: Literal["contract", "behaviour"] = "behaviour",
    needs: tuple[str, ...] = (),
    faults: tuple[Fault, ...] = (),
    timing: bool = False,
) -> Callable[[Body], Body]:
    """Register a function as the scenario of this id; unknown needs and double ids are errors at import."""
    for need in needs:
        if need not in NEEDS:
            message = f"scenario {id}: there is no need {need!r}; needs are: {', '.join(sorted(NEEDS))}"
            raise ValueError(message)
    if faults and "server" not in needs:
        message = f"scenario {id}: only a server can be hit by {', '.join(faults)}; add the need 'server'"
        raise ValueError(message)

    def register(body: Body) -> Body:
        name = body.__name__.removeprefix("scenario_")
        if id in SCENARIOS:
            message = f"two scenarios have the id {id}: {SCENARIOS[id].function} and {body.__name__}"
            raise ValueError(message)
        SCENARIOS[id] = Scenario(id, name, body, suite, needs, faults, timing)
        return body

    return register


def load() -> dict[str, Scenario]:
    """Import the whole catalogue and return it."""
    package = importlib.import_module("queuekit_integration.catalogue")
    for module in _modules(package.__path__):
        importlib.import_module(f"queuekit_integration.catalogue.{module}")
    return SCENARIOS


def _modules(path: Iterable[str]) -> Iterator[str]:
    for info in pkgutil.iter_modules(path):
        if not info.name.startswith("test_"):
            yield info.name
