"""Jobs of the file index: what worker processes import."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from queuekit import Backoff, Event, JobContext, Queue, Snooze

STATE = Path(os.environ.get("FILEINDEX_STATE", "."))
KINDS = frozenset({"started", "completed", "retrying", "failed", "settled", "settle_lost"})
CHUNK = 1 << 20


def journal(event: Event) -> None:
    """Append an event to this process's file, in one write: a kill loses nothing that was written."""
    if event.kind not in KINDS:
        return
    line = json.dumps([event.kind, event.job_id, event.attempt, event.at])
    descriptor = os.open(STATE / f"{os.getpid()}.journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


queue = Queue(f"sqlite:///{STATE / 'jobs.db'}", observers=[journal])


def to_text(path: str) -> str:
    """Quote a path as in a URL: a file's name is bytes, and need not be text that JSON or a table could hold."""
    return quote(os.fsencode(path))


def from_text(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))


def make_index() -> None:
    """Make the application's own table, in a file of its own."""
    with closing(open_index()) as index:
        index.execute("PRAGMA journal_mode = WAL")
        index.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, kind TEXT, size INTEGER, sha256 TEXT, "
            "words INTEGER, fence INTEGER, checked INTEGER DEFAULT 0)"
        )


def open_index() -> sqlite3.Connection:
    return sqlite3.connect(STATE / "index.db", timeout=30, isolation_level=None)


@queue.job(name="index", retries=2, backoff=Backoff.constant(0.2))
def index_file(ctx: JobContext, path: str) -> None:
    """Write one row for one file; running twice writes the same row again."""
    try:
        row = read(from_text(path))
    except FileNotFoundError:
        row = ("gone", None, None, None)  # no retry brings it back
    except OSError as error:
        if ctx.attempt < ctx.max_attempts:
            raise  # it may be readable again soon
        row = (f"unreadable ({type(error).__name__})", None, None, None)
    with closing(open_index()) as index:
        index.execute(
            "INSERT INTO files (path, kind, size, sha256, words, fence) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET kind = excluded.kind, size = excluded.size, sha256 = excluded.sha256, "
            "words = excluded.words, fence = excluded.fence WHERE excluded.fence > files.fence",  # newer attempts only
            (path, *row, ctx.fence),
        )


def read(path: str) -> tuple[str, int, str, int | None]:
    """Return kind, size, SHA-256 and number of words (none for binary files), a piece at a time."""
    digest, size, words, binary, inside = hashlib.sha256(), 0, 0, False, False
    with Path(path).open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            size += len(piece)
            binary = binary or b"\0" in piece
            words += len(piece.split()) - (inside and not piece[:1].isspace())  # a word may go on from piece to piece
            inside = not piece[-1:].isspace()
    return "binary" if binary else "text", size, digest.hexdigest(), None if binary else words


@queue.job(name="recheck", retries=5, backoff=Backoff.constant(0.5))
def recheck(paths: list[str]) -> int:
    """Look a little later whether files are still as they were indexed; return how many changed."""
    with closing(open_index()) as index:
        sizes = {path: index.execute("SELECT size FROM files WHERE path = ?", (path,)).fetchone() for path in paths}
        if None in sizes.values():
            raise Snooze(0.2)  # some are not indexed yet
        for path in paths:
            index.execute("UPDATE files SET checked = 1 WHERE path = ?", (path,))
    return sum(size is not None and size != size_now(path) for path, (size,) in sizes.items())


def size_now(path: str) -> int | None:
    try:
        return Path(from_text(path)).stat().st_size
    except OSError:
        return None
