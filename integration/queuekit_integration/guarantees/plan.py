"""The plan that the catalogue answers: which of its lines have a scenario, and the reason of every other."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from queuekit_integration.registry import load

__all__ = ["Kind", "Plan", "Reason", "read_plan", "unanswered"]

Kind: TypeAlias = Literal["elsewhere", "later", "never"]
"""`elsewhere`: proven by ordinary tests. `later`: not built yet. `never`: the product does not have it."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why some lines of the plan have no scenario."""

    ids: tuple[str, ...]
    """Ids, or patterns of them."""
    reason: str
    functions: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """elsewhere: `path::function` of what proves it."""
    kind: Kind = "later"

    def covers(self, name: str) -> bool:
        """Whether it speaks of this id or function."""
        return name in self.functions or any(fnmatchcase(name, pattern) for pattern in self.ids)


class Plan(msgspec.Struct, frozen=True):
    """All lines, and the reasons of those without a scenario."""

    ids: dict[str, str]
    """Each id and the name that the plan gives it."""
    functions: tuple[str, ...]
    """Function names that the plan fixes."""
    reasons: tuple[Reason, ...]

    def reason_of(self, name: str) -> Reason | None:
        """Return the reason of an id or a function; None without one."""
        return next((reason for reason in self.reasons if reason.covers(name)), None)


@cache
def read_plan() -> Plan:
    """Read the plan from beside this file; a misspelt field is an error."""
    read = tomllib.loads((Path(__file__).parent / "catalogue.toml").read_text("utf-8"))
    reasons = [reason for kind in get_args(Kind) for reason in _reasons(kind, read.pop(kind, []))]
    functions = read.pop("functions")["names"]
    return Plan(read.pop("ids"), tuple(functions), tuple(reasons))


def _reasons(kind: Kind, tables: Iterable[dict[str, Any]]) -> Iterable[Reason]:
    for table in tables:
        if unknown := set(table) - set(Reason.__struct_fields__):
            message = f"a reason has no field {', '.join(sorted(unknown))}"
            raise ValueError(message)
        yield msgspec.convert({**table, "kind": kind}, Reason)


def unanswered(kind: Kind) -> dict[str, str]:
    """Return the lines of the plan that have no scenario but a reason of this kind: what they are, and the reason."""
    plan, scenarios = read_plan(), load()
    found: dict[str, str] = {}
    for reason in plan.reasons:
        mine = [id for id in plan.ids if plan.reason_of(id) is reason and id not in scenarios]
        if mine and reason.kind == kind:
            found[", ".join(_runs(mine))] = reason.reason
    return found


def _runs(ids: list[str]) -> Iterable[str]:
    """Shorten neighbours: WFL-01, WFL-02, WFL-03 becomes WFL-01 to WFL-03."""
    runs: list[list[str]] = []
    for id in ids:
        if runs and _next_to(runs[-1][-1], id):
            runs[-1].append(id)
        else:
            runs.append([id])
    for run in runs:
        yield from run if len(run) < 3 else [f"{run[0]} to {run[-1]}"]


def _next_to(one: str, other: str) -> bool:
    (group, number), (other_group, other_number) = one.split("-"), other.split("-")
    return group == other_group and int(other_number) == int(number) + 1
