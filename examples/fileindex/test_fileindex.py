"""The file index survives the kill of a worker, and notices when something is wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).with_name("fileindex.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with every kind of file, readable or not."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}.txt").write_text(f"file {number} has six words\n" * 2000, "utf-8")
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "empty").touch()
    (folder / "link").symlink_to(folder / "0.txt")
    (folder / "nowhere").symlink_to(folder / "no such file")
    (folder / os.fsdecode(b"not \xff text")).write_text("one " * 500_000, "utf-8")
    (folder / "unreadable").symlink_to("/proc/self/mem")  # reading it fails, for root too
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_every_file_is_indexed_although_a_worker_is_killed(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--kill", "--state", tmp_path / "state")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every file has one row and one completion" in done.stdout
    assert "repeated after an error: 2" in done.stdout
    assert "with -9" in done.stdout
    with closing(sqlite3.connect(tmp_path / "state" / "index.db")) as index:
        rows = {
            Path(path).name: row for path, *row in index.execute("SELECT path, kind, size, sha256, words FROM files")
        }
    text = (folder / "7.txt").read_bytes()
    assert len(rows) == 405
    assert rows["7.txt"] == ["text", len(text), hashlib.sha256(text).hexdigest(), 10_000]
    assert rows["binary.bin"][::3] == ["binary", None]
    assert rows["empty"][:2] == ["text", 0]
    assert rows["not%20%FF%20text"][3] == 500_000
    assert rows["unreadable"] == ["unreadable (OSError)", None, None, None]


def test_without_a_kill_nothing_starts_twice(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "second time" not in done.stdout


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path / "none").returncode == 2
    assert run(tmp_path).returncode == 2


# The verification itself: what goes wrong must be noticed.


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fileindex_under_test", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Handle:
    """A finished job, as the summary sees it."""

    def __init__(self, id: str) -> None:
        self.id, self.state = id, "completed"


def said(*words: str) -> list[tuple[str, tuple[str, int], float]]:
    """Return events from words such as `started:a:1`."""
    split = [word.split(":") for word in words]
    return [(kind, (job, int(attempt)), 0.0) for kind, job, attempt in split]


def test_a_second_start_without_a_settled_retry_is_noticed(program: ModuleType) -> None:
    retry = said("started:a:1", "retrying:a:1", "settled:a:1", "started:a:2")
    assert program.second_starts(retry, {"a"}) == (set(), 1)
    crash = said("started:a:1", "retrying:a:1", "started:a:2")
    assert program.second_starts(crash, {"a"}) == ({"a"}, 0)
    finished = said("started:a:1", "completed:a:1", "settled:a:1", "started:a:2")
    assert program.second_starts(finished, {"a"}) == ({"a"}, 0)


def test_a_second_completion_and_a_missing_one_are_noticed(program: ModuleType) -> None:
    once = said("completed:a:1", "settled:a:1")
    twice = [*once, *said("completed:a:2", "settled:a:2")]
    handles = {"path": Handle("a")}
    assert program.completions(once, handles, set()) == []
    assert program.completions(twice, handles, set()) == ["1 jobs without exactly one completion, such as a"]
    given_back = said("settled:a:1", "started:a:1", "completed:a:1")  # the first line is a release, not this end
    assert program.completions(given_back, handles, set()) == ["1 jobs without exactly one completion, such as a"]
    assert program.completions([], handles, set()) == ["1 jobs without exactly one completion, such as a"]
    assert program.completions([], handles, {"a"}) == []
