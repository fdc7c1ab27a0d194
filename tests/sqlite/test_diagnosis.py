"""What doctor sees of a SQLite file."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from queuekit.contract import Finding
from queuekit.sqlite import SqliteDriver, diagnosis

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /tmp rw - tmpfs tmpfs rw
31 22 0:27 / /mnt/share rw - nfs4 server:/share rw
32 31 0:28 / /mnt/share/my\\040disk rw - xfs /dev/sdb1 rw
"""


def levels(driver: SqliteDriver) -> dict[str, str]:
    return {finding.setting: finding.level for finding in driver.diagnose()}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


@pytest.mark.parametrize(
    ("synchronous", "level"), [("OFF", "error"), ("NORMAL", "note"), ("FULL", "ok"), ("EXTRA", "ok")]
)
def test_each_way_to_sync_has_its_level(file: str, synchronous: str, level: str):
    driver = SqliteDriver(file, synchronous=synchronous)
    driver.open()
    assert levels(driver)["synchronous"] == level
    driver.close()


def test_a_file_without_write_ahead_log_is_an_error(file: str):
    driver = SqliteDriver(file)
    driver.open()
    assert levels(driver)["journal_mode"] == "ok"
    driver.native().execute("PRAGMA journal_mode = DELETE")
    assert levels(driver)["journal_mode"] == "error"
    driver.close()


def test_a_damaged_file_is_an_error(file: str):
    driver = SqliteDriver(file)
    driver.open()
    assert levels(driver)["quick_check"] == "ok"
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA writable_schema = 1")
        other.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name LIKE '%jobs' AND type = 'table'")
    other.close()
    [damage] = [finding for finding in driver.diagnose() if finding.setting == "quick_check"]
    assert damage.level == "error"
    assert damage.remedy
    driver.close()


@pytest.mark.parametrize(
    ("path", "kind", "level"),
    [
        ("/data/jobs.db", "ext4", "ok"),
        ("/tmp/jobs.db", "tmpfs", "warning"),
        ("/mnt/share/jobs.db", "nfs4", "error"),
        ("/mnt/share/my disk/jobs.db", "xfs", "ok"),
    ],
)
def test_the_file_system_is_the_one_mounted_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, level: str
):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    monkeypatch.setattr(diagnosis, "MOUNTS", mounts)
    finding: Finding = diagnosis.file_system(path)
    assert (finding.value, finding.level) == (kind, level)


def test_where_no_list_of_mounts_exists_the_kind_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(diagnosis, "MOUNTS", tmp_path / "none")
    assert diagnosis.file_system("/data/jobs.db").value == "unknown"


def test_little_room_is_a_warning(file: str, monkeypatch: pytest.MonkeyPatch):
    class Usage(NamedTuple):
        free: int

    driver = SqliteDriver(file)
    driver.open()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free=1 << 20))
    assert levels(driver)["disk"] == "warning"
    driver.close()
