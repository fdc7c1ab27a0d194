"""Jobs of the file index: what worker processes import."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path

from queuekit import Backoff, Fail, JobContext, Queue

FOLDER = Path(os.environ.get("FILEINDEX_STATE", "."))
queue = Queue(f"sqlite:///{FOLDER / 'jobs.db'}")


def note(ctx: JobContext, what: str) -> None:
    """Append one line in one write, so that a kill loses nothing that was written."""
    line = json.dumps([time.monotonic_ns(), os.getpid(), what, ctx.id, ctx.attempt])
    descriptor = os.open(FOLDER / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


def index() -> sqlite3.Connection:
    """Open the application's own database."""
    connection = sqlite3.connect(FOLDER / "index.db", timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, kind TEXT, size INTEGER, sha256 TEXT, words INTEGER, "
        "checked INTEGER DEFAULT 0)"
    )
    return connection


@queue.job(name="index", retries=2, backoff=Backoff.constant(0.2))
def index_file(ctx: JobContext, path: str) -> None:
    """Write one row for one file; running twice writes the same row again."""
    note(ctx, "start")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise Fail("the file is gone") from None  # no retry brings it back
    except OSError as error:
        if ctx.attempt < ctx.max_attempts:
            raise  # may be readable again soon
        _write(path, f"unreadable ({type(error).__name__})", None, None, None)
        note(ctx, "end")
        return
    binary = b"\0" in data[:8192]
    words = None if binary else len(data.split())
    _write(path, "binary" if binary else "text", len(data), hashlib.sha256(data).hexdigest(), words)
    note(ctx, "end")


def _write(path: str, *values: object) -> None:
    connection = index()
    connection.execute(
        "INSERT OR REPLACE INTO files (path, kind, size, sha256, words) VALUES (?, ?, ?, ?, ?)", (path, *values)
    )
    connection.close()


@queue.job(name="recheck", retries=5, backoff=Backoff.constant(0.5))
def recheck(paths: list[str]) -> int:
    """Look a little later whether the files are still as they were indexed; return how many changed."""
    connection = index()
    changed = 0
    for path in paths:
        row = connection.execute("SELECT size FROM files WHERE path = ?", (path,)).fetchone()
        try:
            size = Path(path).stat().st_size
        except OSError:
            size = None
        changed += row is not None and row[0] is not None and row[0] != size
        connection.execute("UPDATE files SET checked = 1 WHERE path = ?", (path,))
    connection.close()
    return changed
