"""The pytest plugin: runs every scenario on every driver asked for, and writes one result a cell.

`pytest -p queuekit_integration.plugin --queuekit-driver my_package:MyHarness` runs the whole catalogue on your driver.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

import queuekit_integration.programs  # noqa: F401 - it registers the nightly profile before Hypothesis looks for it
from queuekit_integration.cells import Cell, NotRunError, run
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses import harness, names
from queuekit_integration.registry import SCENARIOS, load
from queuekit_integration.servers import close_servers

CATALOGUE = Path(__file__).parent / "catalogue"
if "queuekit_integration.catalogue" not in sys.modules:
    pytest.register_assert_rewrite("queuekit_integration.catalogue")  # a failed scenario shows the values it compared


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("queuekit")
    group.addoption(
        "--queuekit-driver", action="append", help="a column's name, or package:HarnessClass (default: all installed)"
    )
    group.addoption("--queuekit-results", help="append one JSON line a cell to this file")
    group.addoption(
        "--queuekit-profile",
        help="what runs behind the driver, such as the server's version: the column is then called driver:profile",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Run the catalogue when no other test was named."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(CATALOGUE)]


def harnesses_of(config: pytest.Config) -> list[type[Harness]]:
    """Return the harness classes asked for; an unknown name is an error."""
    profile = config.getoption("--queuekit-profile")
    try:
        kinds = [harness(name) for name in config.getoption("--queuekit-driver") or names()]
    except LookupError as error:
        raise pytest.UsageError(f"--queuekit-driver {error}") from None
    return [in_profile(kind, profile) for kind in kinds] if profile else kinds


def in_profile(kind: type[Harness], profile: str) -> type[Harness]:
    """Return a harness like this one whose column is another: the same driver, on something else."""
    fields = {"profile": profile, "__annotations__": {"profile": str}, "__module__": kind.__module__}
    return dataclasses.dataclass(type(kind.__name__, (kind,), fields))


def pytest_unconfigure() -> None:
    """End the servers that this process's cells shared."""
    close_servers()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test a cell."""
    if "queuekit_cell" not in metafunc.fixturenames:
        return
    load()
    kinds = harnesses_of(metafunc.config)
    for kind in kinds:
        refuse_unknown_expectations(kind)
    cells = [Cell(kind, scenario) for kind in kinds for scenario in SCENARIOS.values()]
    metafunc.parametrize("queuekit_cell", cells, ids=[str(cell) for cell in cells])


def refuse_unknown_expectations(kind: type[Harness]) -> None:
    """Raise for a column that expects something of a scenario that does not exist: it would be said and never run."""
    if unknown := set(kind.expectations) - set(SCENARIOS):
        raise pytest.UsageError(f"{kind.__name__} expects something of {', '.join(sorted(unknown))}: no such scenario")


@pytest.fixture
def queuekit_results(request: pytest.FixtureRequest) -> Path | None:
    """Where results go; its folder is made."""
    path = request.config.getoption("--queuekit-results")
    if path is None:
        return None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


def run_cell(cell: Cell, results: Path | None) -> None:
    """Run one cell within its time limit and record what came of it."""
    start = time.monotonic()
    outcome, detail = "failed", ""
    try:
        outcome = run(cell)
    except NotRunError as error:
        outcome, detail = "not_run", str(error)
        if os.environ.get("CI"):  # there, what cannot run is missing, and nobody reads the reason
            raise
        pytest.skip(str(error))
    except BaseException as error:
        detail = f"{type(error).__name__}: {error}"
        raise
    finally:
        seconds = time.monotonic() - start
        if results is not None:
            cell.record(results, outcome, detail, seconds)
    limit = time_limit(cell)
    if limit is not None and seconds > limit:
        raise AssertionError(f"{cell} took {seconds:.1f} s, and its limit is {limit:.1f} s")


def time_limit(cell: Cell) -> float | None:
    """Return the guardrail from the environment, the most specific one."""
    base = "QUEUEKIT_SCENARIO_LIMIT_SECONDS"
    backend = cell.harness.name.upper()
    scenario = cell.scenario.function.upper()
    for name in (f"{base}_{scenario}_{backend}", f"{base}_{scenario}", f"{base}_{backend}", base):
        if name in os.environ:
            return float(os.environ[name])
    return None
