"""What every test run of this repository shares: the race mode."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
RACE = "QUEUEKIT_SWITCH_INTERVAL"
"""Seconds between two switches of threads, e.g. 1e-6: a bug that needs an unlucky switch then needs little luck."""


def pytest_configure() -> None:
    """Switch the race mode on, in this process and in every Python program that a test starts."""
    interval = os.environ.get(RACE)
    if not interval:
        return
    sys.setswitchinterval(float(interval))
    hook = str(ROOT / "scripts" / "race")
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if hook not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join([hook, *filter(None, path)])


def pytest_report_header() -> str:
    """Say at the top of the run how often threads are switched."""
    return f"switch interval: {sys.getswitchinterval():g} s"


@pytest.fixture
def repository() -> Path:
    """Return the root of this repository."""
    return ROOT
