"""The core broken on purpose: each defect is noticed by the scenario that stands beside it, and by what it broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from queuekit import Backoff, BadPayload, Fail, JobFailed, Snooze, url
from queuekit.contract import Again, Dead, Unique
from queuekit.dispatcher import Plan
from queuekit.events import Events
from queuekit.options import Options
from queuekit.worker import verdict
from queuekit.worker.demand import Demand
from queuekit.worker.leases import LeaseKeeper
from queuekit.worker.runtime import Runtime
from queuekit.worker.shares import Shares
from queuekit_integration.cells import Cell, run
from queuekit_integration.harnesses.embedded import MemoryHarness
from queuekit_integration.registry import load

SCENARIOS = load()
Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class CoreMutant:
    """A defect, and who notices."""

    name: str
    break_: Break
    killed_by: str


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Break:
    """Return what puts `make(the real one)` in place of an attribute."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


def judged(kind: type[BaseException], outcome: Callable[[Any, Any], Any]) -> Break:
    """Return what judges one kind of error otherwise."""

    def make(real: Any) -> Any:
        return lambda attempt, error: outcome(attempt, error) if isinstance(error, kind) else real(attempt, error)

    return replaced(verdict, "of_error", make)


def again(attempt: Any, error: Any) -> Again:
    return Again(attempt.delivery, getattr(error, "after", 1.0), verdict.failure(attempt, error, "error"))


def told_twice(real: Any) -> Any:
    def emit(self: Events, kind: Any, **fields: Any) -> None:
        for _ in range(2 if kind in {"completed", "failed"} else 1):
            real(self, kind, **fields)

    return emit


def let_through(self: Events, event: Any) -> None:
    for observer in self._observers:
        observer(event)


def dead_at_once(attempt: Any, why: str) -> Dead:
    return Dead(attempt.delivery, "unknown_type")


def scope_as_written(self: Plan, encoded: bytes) -> Unique:
    return Unique(f"{self.queue}:{self.type}:{encoded.hex()}", on_conflict=self.options.on_conflict or "return")


CORE_MUTANTS = [
    CoreMutant("retries at once", replaced(verdict, "wait_for", lambda _: lambda attempt, error: 0.0), "RTY-04"),
    CoreMutant("charges a snooze", judged(Snooze, again), "RTY-08"),
    CoreMutant("retries what gave up", judged(Fail, again), "RTY-09"),
    CoreMutant("retries what does not fit", judged(BadPayload, again), "PSN-07"),
    CoreMutant("fails unknown types at once", replaced(verdict, "strange", lambda _: dead_at_once), "WRK-12"),
    CoreMutant(
        "ignores deadlines", replaced(Runtime, "_may_not_start", lambda _: lambda self, attempt: None), "CTX-08"
    ),
    CoreMutant("lets jitter subtract", replaced(Backoff, "wait", lambda real: lambda *a: real(*a) * 0.8), "RTY-05"),
    CoreMutant("renews no lease", replaced(LeaseKeeper, "renew", lambda _: lambda self: None), "LSE-04"),
    CoreMutant("hoards", replaced(Demand, "limit", lambda _: lambda self, *_a, **_k: 50), "backpressure_saturation"),
    CoreMutant("serves one queue first", replaced(Shares, "order", lambda _: lambda self: self.names), "DEL-19"),
    CoreMutant("tells an end twice", replaced(Events, "emit", told_twice), "OBS-01"),
    CoreMutant("lets observers harm jobs", replaced(Events, "_hand_out", lambda _: let_through), "OBS-04"),
    CoreMutant("shows passwords", replaced(url, "shown", lambda _: str), "ERR-06"),
    CoreMutant("sends what is too large", replaced(Plan, "_refuse_large", lambda _: lambda self, *_: None), "LIM-02"),
    CoreMutant("compares payloads as written", replaced(Plan, "_unique", lambda _: scope_as_written), "UNQ-01"),
    CoreMutant(
        "accepts contradictions", replaced(Options, "refuse_contradictions", lambda _: lambda self: None), "CFG-03"
    ),
]


@pytest.mark.parametrize("mutant", CORE_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_core_mutant_dies(mutant: CoreMutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.break_(monkeypatch)
    with pytest.raises((AssertionError, JobFailed, RuntimeError, pytest.fail.Exception)) as caught:
        run(Cell(MemoryHarness, SCENARIOS[mutant.killed_by]))
    assert "not within" not in str(caught.value), "killed by a deadline, not by what it broke"
