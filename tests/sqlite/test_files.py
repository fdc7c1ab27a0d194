"""A file that cannot be used is refused with a sentence to act on, and nothing else is touched."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from queuekit import (
    ConfigurationError,
    DispatchCancelled,
    DispatchTimeout,
    DriverRejected,
    DriverUnavailable,
    Job,
    Queue,
)
from queuekit.contract import Done, Message
from queuekit.ids import new_id
from queuekit.sqlite import SqliteDriver


def open_(path: Path | str, **options: object) -> SqliteDriver:
    driver = SqliteDriver(path, **options)  # type: ignore[arg-type]
    driver.open()
    return driver


def look_into(driver: SqliteDriver) -> None:
    driver.open()
    driver.count()


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    queue = Queue(f"sqlite:///{tmp_path}/jobs.db")
    assert not list(tmp_path.iterdir())
    queue.close()
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriverRejected, match="does not exist"):
        open_(tmp_path / "no" / "jobs.db")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DriverRejected, match="is a folder"):
        open_(tmp_path)


@pytest.mark.parametrize("content", [b"this is not a database, however long it is" * 100, b"\0" * 8192])
def test_a_foreign_file_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(content)
    with pytest.raises(DriverRejected, match=r"not an SQLite database|corrupt"):
        open_(file)
    assert file.read_bytes() == content


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    driver = open_(file)
    driver.send([Message(new_id(), "default", "t", "x" * 500) for _ in range(200)])
    driver.close()
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xab" * (len(data) - 4096)
    file.write_bytes(data)
    damaged = SqliteDriver(file)
    with pytest.raises(DriverRejected, match=r"corrupt|not an SQLite"):
        look_into(damaged)
    damaged.close()


def test_a_place_that_cannot_be_written_is_refused() -> None:
    """Nobody can make a file in /proc, not even root."""
    with pytest.raises(DriverRejected, match="writable"):
        open_("/proc/jobs.db")


def test_a_schema_from_the_future_is_refused(tmp_path: Path) -> None:
    driver = open_(tmp_path / "jobs.db")
    driver.native().execute("UPDATE \"queuekit.meta\" SET value = '99' WHERE name = 'schema'")
    driver.close()
    with pytest.raises(DriverRejected, match="update queuekit"):
        open_(tmp_path / "jobs.db")


def test_a_locked_file_is_passing_trouble(tmp_path: Path) -> None:
    driver = open_(tmp_path / "jobs.db", busy_timeout=0.1)
    blocker = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(DriverUnavailable, match="lock"):
        driver.send([Message(new_id(), "default", "t", "{}")])
    blocker.execute("ROLLBACK")
    blocker.close()
    driver.send([Message(new_id(), "default", "t", "{}")])
    driver.close()


def test_migrations_are_applied_once(tmp_path: Path) -> None:
    driver = open_(tmp_path / "jobs.db")
    assert driver.migrations() == []
    assert driver.migrate() == []
    other = open_(tmp_path / "jobs.db", namespace="other")
    other.send([Message(new_id(), "default", "t", "{}")])
    assert driver.claim(["default"], limit=1, lease=1) == []
    other.close()
    driver.close()


def test_leases_of_an_earlier_boot_have_ended(tmp_path: Path) -> None:
    driver = open_(tmp_path / "jobs.db")
    driver.send([Message(new_id(), "default", "t", "{}")])
    [first] = driver.claim(["default"], limit=1, lease=3600)
    driver.native().execute("UPDATE \"queuekit.meta\" SET value = 'another boot' WHERE name = 'boot'")
    driver.close()
    after = open_(tmp_path / "jobs.db")
    [second] = after.claim(["default"], limit=1, lease=3600)
    assert (second.attempt, second.recovered) == (2, True)
    assert after.settle([Done(first), Done(second)]) == ["lost", "applied"]
    after.close()


@pytest.mark.parametrize(
    "option", [{"synchronous": "MAYBE"}, {"busy_timeout": -1}, {"busy_timeout": 3e6}, {"poll_interval": 0}]
)
def test_bad_options_are_named(option: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        SqliteDriver("jobs.db", **option)  # type: ignore[arg-type]


def test_a_foreign_connection_is_refused(tmp_path: Path) -> None:
    queue = Queue(f"sqlite:///{tmp_path}/jobs.db")
    queue.open()
    foreign = sqlite3.connect(tmp_path / "other.db")
    for connection in (foreign, "not a connection"):
        with pytest.raises(ConfigurationError, match="connection"):
            queue.dispatch(Job("t"), connection=connection)
    assert queue.stats().pending == 0
    foreign.close()
    queue.close()


def test_a_transaction_that_read_before_another_wrote_is_told_to_begin_otherwise(tmp_path: Path):
    queue = Queue(f"sqlite:///{tmp_path}/jobs.db")
    queue.dispatch(Job("first"))
    connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    queue.dispatch(Job("between"))
    with pytest.raises(DriverUnavailable, match="BEGIN IMMEDIATE"):
        queue.dispatch(Job("late"), connection=connection)
    connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    queue.dispatch(Job("late"), connection=connection)
    connection.execute("COMMIT")
    connection.close()
    assert queue.stats().pending == 3
    queue.close()


def test_a_dispatch_in_the_callers_transaction_may_be_withdrawn_or_too_late(tmp_path: Path) -> None:
    queue = Queue(f"sqlite:///{tmp_path}/jobs.db")
    queue.open()
    withdrawn = threading.Event()
    withdrawn.set()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        for send in (lambda **o: queue.dispatch(Job("t"), **o), lambda **o: queue.dispatch_many([Job("t")] * 2, **o)):
            with pytest.raises(DispatchCancelled):
                send(connection=connection, cancel=withdrawn)
            with pytest.raises(DispatchTimeout):
                send(connection=connection, timeout=0)
        connection.commit()
    assert queue.stats().pending == 0
    queue.close()
