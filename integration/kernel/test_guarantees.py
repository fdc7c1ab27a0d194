"""The page of guarantees: it says what the run says, of every column, and a difference is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from queuekit_integration.guarantees import __main__ as program
from queuekit_integration.guarantees.page import columns_of, verdicts
from queuekit_integration.guarantees.results import Result, read_results
from queuekit_integration.harnesses import harness
from queuekit_integration.plugin import in_profile
from queuekit_integration.registry import load

SCENARIOS = load()


def result(scenario: str, driver: str, outcome: str = "holds", profile: str = "") -> Result:
    return Result(scenario=scenario, name="", driver=driver, profile=profile, outcome=outcome, duration=0.1)


def write(path: Path, *results: Result) -> Path:
    path.write_bytes(b"\n".join(msgspec.json.encode(each) for each in results))
    return path


def all_of(driver: str, outcome: str = "holds") -> list[Result]:
    return [result(id, driver, outcome) for id in SCENARIOS]


@pytest.fixture
def run(tmp_path, monkeypatch):
    def call(verb: str, *results: Path, complete: bool = False, keep: bool = False) -> int:
        flags = [*(["--complete"] if complete else []), *(["--keep"] if keep else [])]
        words = [*flags, "--results", *(str(path) for path in results)]
        monkeypatch.setattr(sys, "argv", ["guarantees", verb, "--docs", str(tmp_path), *words])
        return program.main()

    return call


def test_one_failure_outweighs_any_pass():
    found = verdicts([result("DEL-01", "memory", said) for said in ("holds", "failed", "holds")])
    assert found == {("DEL-01", "memory"): "failed"}


def test_own_drivers_stand_first_and_a_profile_beside_its_driver():
    cells = [("DEL-01", name) for name in ("zebra", "redis:always", "redis", "sqlite", "memory", "apple")]
    assert columns_of(dict.fromkeys(cells, "holds")) == ["memory", "sqlite", "redis", "redis:always", "apple", "zebra"]


def test_another_version_of_a_server_has_a_column_of_its_own():
    kind = in_profile(harness("memory"), "4.0")
    assert (kind().column, kind.name, kind.profile) == ("memory:4.0", "memory", "4.0")
    assert harness("memory")().column == "memory"


def test_results_of_several_runs_make_one_page(tmp_path, run):
    paths = [write(tmp_path / f"{name}.jsonl", *all_of(name)) for name in ("memory", "redis")]
    assert [r.driver for r in read_results(*paths)][:: len(SCENARIOS)] == ["memory", "redis"]
    assert run("generate", *paths) == 0
    assert "| Statement | memory | redis | Scenario |" in (tmp_path / "guarantees.md").read_text("utf-8")
    assert run("check", *paths) == 0


def test_a_difference_fails_and_is_shown(tmp_path, run, capsys):
    assert run("generate", write(tmp_path / "a", *all_of("memory"))) == 0
    worse = write(tmp_path / "b", *all_of("memory")[1:], result("DEL-01", "memory", "failed"))
    assert run("check", worse) == 1
    shown = capsys.readouterr().out
    assert "+| A dispatched job runs once" in shown
    assert "✘" in shown


def test_what_did_not_run_stays_as_committed_and_is_named(tmp_path, run, capsys):
    both = [*all_of("memory"), *all_of("redis", "refused"), *all_of("sqlite")]
    assert run("generate", write(tmp_path / "both", *both)) == 0
    only = write(tmp_path / "only", *all_of("memory"), *all_of("sqlite")[3:])
    assert run("check", only) == 0
    said = capsys.readouterr().out
    assert "column redis: it has no result" in said
    assert "column sqlite: 3 scenarios have no result" in said
    assert run("check", only, complete=True) == 1
    assert run("check", tmp_path / "both", complete=True) == 0


def test_a_page_says_nothing_that_its_results_do_not_say(tmp_path, run):
    assert run("generate", write(tmp_path / "both", *all_of("memory"), *all_of("redis"))) == 0
    assert run("generate", write(tmp_path / "only", *all_of("memory"))) == 0
    assert "redis" not in (tmp_path / "guarantees.json").read_text("utf-8").partition("others")[0]


def test_a_page_keeps_what_did_not_run_where_it_is_told_to(tmp_path, run, capsys):
    both = write(tmp_path / "both", *all_of("memory"), *all_of("redis"))
    assert run("generate", both) == 0
    assert run("generate", write(tmp_path / "only", *all_of("memory")), keep=True) == 0
    assert "column redis: it has no result in this run" in capsys.readouterr().out
    assert run("check", both, complete=True) == 0


def test_a_scenario_without_a_result_in_a_column_that_ran_is_shown_as_such(tmp_path, run):
    assert run("generate", write(tmp_path / "a", *all_of("memory")[1:])) == 0
    assert '"memory": "missing"' in (tmp_path / "guarantees.json").read_text("utf-8")
