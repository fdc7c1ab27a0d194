"""An app in a directory of its own, and the command line started in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit import Queue
from tests.cli.program import APP, Program


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the app's directory, which is the working directory too."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def queue(here: Path) -> Iterator[Queue]:
    """Return a queue on the app's database, which knows none of its handlers."""
    with Queue(f"sqlite:///{here / 'jobs.db'}") as queue:
        yield queue


@pytest.fixture
def queuekit(here: Path) -> Iterator[Callable[..., Program]]:
    """Return a function that starts `queuekit` with arguments."""
    programs: list[Program] = []

    def start(*arguments: str) -> Program:
        programs.append(Program(here, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.clear()
