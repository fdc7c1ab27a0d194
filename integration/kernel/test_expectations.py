"""Weaker promises and gaps are run: each fails as soon as it is not exactly what its column says."""

from __future__ import annotations

import pytest

from queuekit_integration.cells import Cell, run
from queuekit_integration.checker import Plan
from queuekit_integration.expectations import GRAVE, Expectation, Gap, Weaker
from queuekit_integration.guarantees.page import page_of, statements
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses import OWN, harness, names
from queuekit_integration.harnesses.embedded import MemoryHarness
from queuekit_integration.mutants import MUTANTS, harness_of
from queuekit_integration.plugin import refuse_unknown_expectations
from queuekit_integration.registry import Scenario, load

SCENARIOS = load()
MOST_GAPS = 0
"""How many gaps queuekit's own columns have: this number only goes down."""
GRAVE_ALLOWED: frozenset[tuple[str, str]] = frozenset()
"""Columns and scenarios for which a decision record allows a grave anomaly."""
[EARLY] = [mutant for mutant in MUTANTS if mutant.name == "RunsDelayedJobsEarly"]


def early(expectation: Expectation) -> Cell:
    """Return SCH-01 on a broker that runs delayed jobs early, in a column that says so."""
    kind = type("Early", (harness_of(EARLY),), {"expectations": {"SCH-01": expectation}})
    return Cell(kind, SCENARIOS["SCH-01"])


def whole(expectation: Expectation) -> Cell:
    """Return SCH-01 on a sound broker, in a column that promises less."""
    kind = type("Whole", (MemoryHarness,), {"expectations": {"SCH-01": expectation}})
    return Cell(kind, SCENARIOS["SCH-01"])


def runs_a_tenth_early(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message(delay=5)])
    h.advance(4.4)
    assert driver.claim(["default"], limit=1, lease=10) == []
    h.advance(0.2)
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


def runs_at_once(h: Harness) -> None:
    driver = h.driver()
    driver.send([h.message(delay=5)])
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


def test_a_weaker_promise_that_is_shown_is_the_verdict() -> None:
    weaker = Weaker("a tenth early", shown_by=runs_a_tenth_early)
    assert run(early(weaker)) == "weaker: a tenth early"


def test_a_weaker_promise_must_be_exactly_as_weak() -> None:
    with pytest.raises(AssertionError):
        run(early(Weaker("at once", shown_by=runs_at_once)))


def test_a_weaker_promise_is_refused_where_the_stronger_one_holds() -> None:
    with pytest.raises(AssertionError, match="the promise itself holds"):
        run(whole(Weaker("a tenth early", shown_by=runs_a_tenth_early)))


def history(*, late: bool) -> Scenario:
    """Return a scenario whose history holds a run before its time, or none."""

    def body(h: Harness) -> None:
        h.recorder.dispatch("invoke", "j", delay=0.0 if late else 60.0)
        h.recorder.dispatch("ok", "j")
        h.recorder.start("j", token=1, attempt=1, lease=10.0)
        h.recorder.settle("invoke", "j", token=1, outcome="done")
        h.recorder.settle("ok", "j", token=1, outcome="done")
        h.recorder.drain("ok")
        h.judge_history(Plan(dispatches=1))

    return Scenario("X-1", "x", body, "contract", (), (), timing=False)


def allowing(*anomalies: str) -> type[MemoryHarness]:
    return type("Allowing", (MemoryHarness,), {"expectations": {"X-1": Weaker("less", anomalies=anomalies)}})


def test_an_anomaly_that_is_allowed_and_seen_is_the_verdict() -> None:
    assert run(Cell(allowing("early_run"), history(late=False))) == "weaker: less"


def test_an_anomaly_that_is_not_allowed_fails() -> None:
    with pytest.raises(AssertionError, match="early_run"):
        run(Cell(allowing("lost"), history(late=False)))


def test_an_anomaly_that_is_allowed_and_never_seen_fails() -> None:
    with pytest.raises(AssertionError, match="never seen, so not to be allowed: early_run"):
        run(Cell(allowing("early_run"), history(late=True)))


def test_a_gap_is_run_and_fails_once_it_is_closed() -> None:
    gap = Gap("delays are not kept", since="2026-11-21")
    assert run(early(gap)) == "gap: delays are not kept (since 2026-11-21)"
    with pytest.raises(AssertionError, match="is closed"):
        run(whole(gap))


def test_a_column_cannot_promise_less_of_what_it_refuses() -> None:
    kind = type("Both", (MemoryHarness,), {"expectations": {"DEL-16": Weaker("less", anomalies=("lost",))}})
    with pytest.raises(AssertionError, match="nothing to promise: refused"):
        run(Cell(kind, SCENARIOS["DEL-16"]))


def test_an_expectation_of_no_scenario_is_refused() -> None:
    kind = type("Misspelt", (MemoryHarness,), {"expectations": {"SCH-1": Gap("nothing", since="2026-11-21")}})
    with pytest.raises(pytest.UsageError, match="Misspelt expects something of SCH-1"):
        refuse_unknown_expectations(kind)


@pytest.mark.parametrize("parts", [{}, {"anomalies": ("lost",), "shown_by": runs_at_once}], ids=["neither", "both"])
def test_a_weaker_promise_needs_one_way_to_be_seen(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either anomalies"):
        Weaker("less", **parts)  # type: ignore[arg-type]


def test_a_gap_has_a_day() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        Gap("unknown since when", since="lately")


def test_the_page_has_the_exact_sentence_below_its_table() -> None:
    found = {(id, "memory"): "holds" for group in statements()["group"] for id in group["statements"]}
    found["SCH-01", "memory"] = "weaker: a tenth early"
    page = page_of(found)
    assert "| weaker | [SCH-01]" in page
    assert "- SCH-01 on memory is weaker: a tenth early" in page


@pytest.mark.parametrize("name", [name for name in OWN if name in names()])
def test_what_own_columns_promise_less_is_named_and_permitted(name: str) -> None:
    kind = harness(name)
    assert set(kind.expectations) <= set(SCENARIOS)
    for id, expectation in kind.expectations.items():
        grave = GRAVE & set(getattr(expectation, "anomalies", ()))
        assert not grave or (name, id) in GRAVE_ALLOWED, f"{name} allows {grave} in {id} without a decision"


def test_gaps_only_become_fewer() -> None:
    gaps = [e for name in OWN if name in names() for e in harness(name).expectations.values() if isinstance(e, Gap)]
    assert len(gaps) <= MOST_GAPS
