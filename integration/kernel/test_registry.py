"""The guard around the catalogue: nothing is dropped, doubled, overridden or misspelt."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import queuekit_integration
from queuekit_integration import plugin
from queuekit_integration.cells import REFUSALS, Cell, run
from queuekit_integration.harnesses import HARNESSES, MemoryHarness
from queuekit_integration.registry import SCENARIOS, load, scenario

load()
CATALOGUE = Path(queuekit_integration.__file__).parent / "catalogue"


def test_every_scenario_function_is_registered() -> None:
    written = set()
    for path in CATALOGUE.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        written |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("scenario_")}
    assert written == {s.function for s in SCENARIOS.values()}


def test_every_scenario_asserts_something() -> None:
    for path in CATALOGUE.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("scenario_"):
                source = ast.unparse(node)
                assert "assert " in source or "pytest.raises" in source or "wait_until" in source, node.name


def test_a_misspelt_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="no need 'brows'"):
        scenario("X-1", needs=("brows",))


def test_an_id_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="two scenarios"):
        scenario("DEL-01")(lambda h: None)


def test_a_driver_that_overrides_a_scenario_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cheating(MemoryHarness):
        def scenario_del_01(self) -> None: ...

    monkeypatch.setitem(HARNESSES, "cheating", Cheating)
    with pytest.raises(pytest.UsageError, match="overrides scenario_del_01"):
        plugin._harness("cheating")


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="nosuch"):
        plugin._harness("nosuch")


def test_own_drivers_have_every_feature_of_the_contract() -> None:
    """memory and SQLite refuse nothing but what no embedded driver can do."""
    from queuekit_integration.harness import cell  # noqa: PLC0415 - only here

    every = tuple({need for s in SCENARIOS.values() for need in s.needs} | set(REFUSALS))
    with cell(HARNESSES["memory"]) as harness:
        assert set(harness.lacks(every)) == {"processes", "transactional"}
    with cell(HARNESSES["sqlite"]) as harness:
        assert harness.lacks(every) == []


def test_an_unmet_need_runs_its_refusal() -> None:
    assert run(Cell(HARNESSES["memory"], SCENARIOS["DEL-16"])) == "refused"
