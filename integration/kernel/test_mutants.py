"""Every mutant is killed by the scenario that names it, and passes the two that any working queue passes."""

from __future__ import annotations

import pytest

from queuekit import JobFailed
from queuekit_integration.cells import Cell, run
from queuekit_integration.mutants import MUTANTS, Mutant, harness_of
from queuekit_integration.registry import load

SCENARIOS = load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_dies(mutant: Mutant) -> None:
    with pytest.raises((AssertionError, ValueError, JobFailed, pytest.fail.Exception)) as caught:
        run(Cell(harness_of(mutant), SCENARIOS[mutant.killed_by]))
    assert "not within" not in str(caught.value), "killed by a deadline, not by what it broke"


@pytest.mark.parametrize("scenario", ["DEL-01", "RTY-01"])
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_looks_healthy(mutant: Mutant, scenario: str) -> None:
    assert run(Cell(harness_of(mutant), SCENARIOS[scenario])) == "holds"


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 54
    assert len({mutant.broker for mutant in MUTANTS}) == len(MUTANTS)
