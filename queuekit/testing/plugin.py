"""The pytest plugin of queuekit: the fixtures `queue` and `two_phase`, and the marks `preparation` and `validation`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from queuekit.testing import FakeQueue, TwoPhase


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("queuekit")
    group.addoption("--two-phase", choices=["preparation", "validation"], help="run only the tests with this mark")
    group.addoption("--two-phase-file", default="two-phase.json", help="where handles are kept between the runs")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marks."""
    config.addinivalue_line("markers", "preparation: dispatches jobs and records their handles")
    config.addinivalue_line("markers", "validation: looks at jobs that an earlier run dispatched")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the phase asked for."""
    phase = config.getoption("--two-phase")
    if phase is None:
        return
    kept = [item for item in items if item.get_closest_marker(phase) is not None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture
def queue() -> Iterator[FakeQueue]:
    """Give a queue in memory on a virtual clock, with `advance`, `run_due` and asserts."""
    from queuekit.testing import FakeQueue  # noqa: PLC0415 - loaded by the tests that use it

    with FakeQueue() as fake_queue:
        yield fake_queue


@pytest.fixture
def two_phase(request: pytest.FixtureRequest) -> TwoPhase:
    """Give the handles that are kept between the two runs."""
    from queuekit.testing import TwoPhase  # noqa: PLC0415 - loaded by the tests that use it

    return TwoPhase(Path(request.config.getoption("--two-phase-file")))
