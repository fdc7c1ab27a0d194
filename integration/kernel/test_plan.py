"""Every line of the plan is a scenario, or has its reason; and no reason outlives what it excuses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from queuekit.drivers import known_features
from queuekit_integration.guarantees.plan import Reason, read_plan, unanswered
from queuekit_integration.registry import load

PLAN, SCENARIOS = read_plan(), load()
FUNCTIONS = {scenario.function for scenario in SCENARIOS.values()}


def test_every_line_of_the_plan_is_a_scenario_or_has_its_reason() -> None:
    silent = [id for id in PLAN.ids if id not in SCENARIOS and PLAN.reason_of(id) is None]
    assert silent == []


def test_every_fixed_name_is_a_function_or_has_its_reason() -> None:
    silent = [name for name in PLAN.functions if name not in FUNCTIONS and PLAN.reason_of(name) is None]
    assert silent == []


def test_every_reason_speaks_of_lines_that_the_plan_has() -> None:
    names = (*PLAN.ids, *PLAN.functions)
    for reason in PLAN.reasons:
        for pattern in (*reason.ids, *reason.functions):
            part = Reason(ids=(pattern,), reason="", functions=())
            assert any(part.covers(name) for name in names), f"{pattern} is no line of the plan"


def test_no_line_has_two_reasons() -> None:
    for name in (*PLAN.ids, *PLAN.functions):
        assert sum(reason.covers(name) for reason in PLAN.reasons) <= 1, f"{name} has two reasons"


@pytest.mark.parametrize("reason", PLAN.reasons, ids=lambda reason: reason.ids[0])
def test_no_reason_outlives_what_it_excuses(reason: Reason) -> None:
    names = [name for name in (*PLAN.ids, *PLAN.functions) if reason.covers(name)]
    left = [name for name in names if name not in SCENARIOS and name not in FUNCTIONS]
    assert left, f"all of {names} have scenarios: remove the reason from catalogue.toml"
    if reason.kind == "never":
        assert left == names, "a scenario proves what the plan says is never to be"


def test_what_proves_a_line_elsewhere_exists(repository: Path) -> None:
    for reason in PLAN.reasons:
        assert bool(reason.tests) == (reason.kind == "elsewhere"), reason.reason
        for test in reason.tests:
            path, _, function = test.partition("::")
            tree = ast.parse((repository / path).read_text("utf-8"))
            assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, test


def test_the_page_names_every_line_without_a_scenario() -> None:
    shown = " ".join(what for kind in ("elsewhere", "later", "never") for what in unanswered(kind))
    assert "ORD-12" in shown
    assert "WFL-01 to WFL-17" in shown
    assert "DEL-01" not in shown


UNPROVEN = {"native", "server_clock"}
"""Whoever uses the client underneath does so at their own risk; what a server's clock gives is SCH-17's."""


def test_every_feature_of_the_contract_is_needed_by_a_scenario() -> None:
    needs = {need for scenario in SCENARIOS.values() for need in scenario.needs}
    assert set(known_features()) - needs <= UNPROVEN
