"""FS: what may happen to the file of a driver that keeps everything in one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from queuekit import DriverRejected, Job, Queue
from queuekit_integration.harness import Harness
from queuekit_integration.registry import scenario

MIB = 1 << 20


def file_of(h: Harness) -> Path:
    """Return the cell's file: the scenario needs it."""
    assert h.file is not None
    return h.file


@scenario("FS-04", needs=("file", "count"))
def scenario_fs_04_sqlite_wal_growth(h: Harness) -> None:
    """Pin a reader under load: the log grows meanwhile, and is used again from its beginning once the reader has gone."""
    queue = h.queue(virtual=True)
    queue.open()
    native = h.native(queue.driver)
    [page] = native.execute("PRAGMA page_size").fetchone()
    [pages] = native.execute("PRAGMA wal_autocheckpoint").fetchone()
    bound = page * pages
    log = file_of(h).with_name(file_of(h).name + "-wal")
    load = bound // MIB + 8

    def write() -> int:
        for _ in range(load):
            queue.dispatch(Job("t", "x" * (MIB - 1000), retain=0))
        queue.purge("default")
        return log.stat().st_size

    assert write() <= bound + 16 * MIB, "without a reader the log outgrew its checkpoint"
    reader = sqlite3.connect(file_of(h), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute(f'SELECT count(*) FROM "{h.namespace}.jobs"').fetchone()
    pinned = write()
    assert pinned > bound + 16 * MIB, "the reader pinned nothing"
    reader.execute("COMMIT")
    reader.close()
    assert write() <= pinned + 4 * MIB, "the log went on growing after the reader had gone"


@scenario("FS-05", needs=("file", "count"))
def scenario_fs_05_sqlite_file_replaced_deleted_or_read_only(h: Harness) -> None:
    """Delete, replace or write-protect the file under an open queue: a clear error, never a job that nobody will see."""
    for harm in (_delete, _replace):
        queue = h.queue(virtual=True)
        queue.dispatch(Job("t"))
        harm(file_of(h))
        with pytest.raises(DriverRejected, match="deleted or replaced"):
            queue.dispatch(Job("t"))
        with pytest.raises(DriverRejected, match="deleted or replaced"):
            queue.stats()
        assert not queue.health().healthy
        queue.close()
        _delete(file_of(h))
        again = h.queue(virtual=True)
        again.dispatch(Job("t"))
        assert again.stats().pending == 1
        again.close()
    _protected(h, h.queue(virtual=True))


def _delete(file: Path) -> None:
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()


def _replace(file: Path) -> None:
    other = file.with_name("other.db")
    sqlite3.connect(other).close()
    other.touch()
    other.replace(file)


def _protected(h: Harness, queue: Queue) -> None:
    """Let SQLite refuse every write, as it does for a file without the permission (which root does not need)."""
    before = queue.stats().pending
    native = h.native(queue.driver)
    native.execute("PRAGMA query_only = ON")
    with pytest.raises(DriverRejected, match="cannot be written"):
        queue.dispatch(Job("t"))
    native.execute("PRAGMA query_only = OFF")
    queue.dispatch(Job("t"))
    assert queue.stats().pending == before + 1
