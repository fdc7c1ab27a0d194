"""When a child is started again, and what counts as a change."""

from __future__ import annotations

import os
from pathlib import Path

from queuekit.cli.changes import Changes
from queuekit.cli.exits import CRASHED, RECYCLED, RELOADED, STUCK
from queuekit.cli.memory import resident_mib
from queuekit.cli.restarts import FIRST, MOST, SOUND, Restarts
from queuekit.cli.settings import WorkerSettings


def test_pauses_after_crashes_double_up_to_a_bound() -> None:
    restarts = Restarts()
    pauses = [restarts.pause(CRASHED, 0.1) for _ in range(40)]
    assert pauses[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert pauses[-1] == MOST


def test_a_child_that_lived_long_begins_anew() -> None:
    restarts = Restarts()
    for _ in range(10):
        restarts.pause(-9, 0.1)
    assert restarts.pause(-9, SOUND) == FIRST


def test_planned_ends_are_followed_at_once() -> None:
    restarts = Restarts()
    assert [restarts.pause(code, 2.0) for code in (RECYCLED, STUCK, RELOADED)] == [0.0, 0.0, 0.0]


def test_a_child_that_is_recycled_as_soon_as_it_starts_does_not_spin() -> None:
    restarts = Restarts()
    assert [restarts.pause(RECYCLED, 0.2) for _ in range(3)] == [FIRST, 2 * FIRST, 4 * FIRST]


def test_a_file_that_changes_or_appears_is_noticed_once_it_is_watched(tmp_path: Path) -> None:
    there, missing = tmp_path / "there.py", tmp_path / "missing.py"
    there.touch()
    changes = Changes(tmp_path)
    changes.watch([there, missing])
    assert changes.look() is None
    missing.touch()
    assert changes.look() == missing
    os.utime(there, (1, 1))
    assert changes.look() == there


def test_installed_packages_and_files_elsewhere_are_not_watched(tmp_path: Path) -> None:
    installed = tmp_path / ".venv" / "site-packages" / "a.py"
    elsewhere = tmp_path.parent / "b.py"
    changes = Changes(tmp_path)
    changes.watch([installed, elsewhere])
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert changes.look() is None


def test_settings_survive_the_way_to_a_child() -> None:
    settings = WorkerSettings(app="app:queue", queues={"high": 3}, max_jobs=5, reload=True)
    assert WorkerSettings.decode(settings.encode()) == settings


def test_a_process_knows_how_much_memory_it_takes() -> None:
    assert 5 < resident_mib() < 10_000
