"""Counting flakes: silence is a failure, and a bound says no more than its runs."""

from __future__ import annotations

import pytest

from queuekit_integration.flakes import Tally, exact_bound, one_round

A, B = ("A-1", "memory"), ("B-1", "memory")


@pytest.mark.parametrize(("clean", "bound"), [(59, 0.05), (299, 0.01), (2995, 0.001)])
def test_the_bound_is_the_exact_one(clean, bound):
    assert exact_bound(clean) == pytest.approx(bound, rel=0.01)
    assert exact_bound(0) == 1.0


def test_a_cell_without_a_result_has_failed():
    tally = Tally([A, B])
    tally.add([(A, "holds"), (B, "holds")])
    tally.add([(A, "holds")])
    assert (tally.failed, tally.hung[B], tally.runs[B]) == (1, 1, 2)
    assert any("1 failed, 1 of them without a result   50.0%" in line for line in tally.lines())


def test_a_round_that_says_nothing_fails_every_cell():
    tally = Tally([A, B])
    tally.add([])
    assert tally.failed == 2


def test_what_cannot_run_here_is_neither_clean_nor_failed():
    tally = Tally([A])
    tally.add([(A, "not_run")])
    assert (tally.failed, tally.runs[A]) == (0, 0)
    assert "not run here" in tally.lines()[0]


def test_a_round_leaves_a_result_for_each_cell(tmp_path):
    results = tmp_path / "results"
    assert one_round(results, ["del_01", "lse_01"], ["memory"], seconds=60, stressed=False) is None
    assert results.read_bytes().count(b"\n") == 2


def test_a_round_that_cannot_start_is_broken(tmp_path):
    wrong = one_round(tmp_path / "results", [], ["nosuch"], seconds=60, stressed=False)
    assert wrong is not None
    assert "nosuch" in wrong


def test_a_round_that_hangs_is_ended_and_broken(tmp_path):
    wrong = one_round(tmp_path / "results", [], ["memory"], seconds=0.2, stressed=False)
    assert wrong is not None
    assert "still running" in wrong
