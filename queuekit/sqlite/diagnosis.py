"""What the file, its settings and its file system say about the promises."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from queuekit.contract import Finding
from queuekit.sqlite.errors import sqlite_errors

__all__ = ["diagnose"]

NAMES = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
"""What `PRAGMA synchronous` answers."""
NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "9p",
    "ceph",
    "lustre",
    "glusterfs",
    "fuse.sshfs",
    "fuse.glusterfs",
}
"""File systems on which SQLite's own documentation says that locks and shared memory do not work."""
PASSING = {"tmpfs", "ramfs"}
MOUNTS = Path("/proc/self/mountinfo")
LITTLE = 200 << 20
"""Bytes: a busy file's log and its next checkpoint take some tens of MiB."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the driver's own connection works with."""

    journal_mode: str
    synchronous: str


def settings_of(connection: sqlite3.Connection) -> Settings:
    """Ask the connection."""
    journal_mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    return Settings(journal_mode, NAMES[int(connection.execute("PRAGMA synchronous").fetchone()[0])])


def diagnose(settings: Settings, path: str) -> list[Finding]:
    """Return all findings; the integrity check reads the whole file, through a connection that blocks nobody."""
    return [
        Finding(level="ok", setting="sqlite", value=sqlite3.sqlite_version, promise=""),
        _journal(settings.journal_mode),
        _synchronous(settings.synchronous),
        file_system(path),
        _space(path),
        _integrity(path),
    ]


def _journal(mode: str) -> Finding:
    if mode == "wal":
        promise = "Readers and the writer do not wait for each other."
        return Finding(level="ok", setting="journal_mode", value=mode, promise=promise)
    return Finding(
        level="error",
        setting="journal_mode",
        value=mode,
        promise="Without a write-ahead log `synchronous=NORMAL` may corrupt the file, and looking at jobs blocks workers.",
        remedy="PRAGMA journal_mode = WAL (refused by the file system? then the file must live elsewhere)",
    )


def _synchronous(name: str) -> Finding:
    remedy = "sqlite:///…?synchronous=FULL"
    if name == "OFF":
        promise = (
            "A power failure or a crash of the system may corrupt the file; only the death of a process is survived."
        )
        return Finding(level="error", setting="synchronous", value=name, promise=promise, remedy=remedy)
    if name == "NORMAL":
        promise = "Dispatched jobs survive the death of any process; a power failure may lose the last commits."
        return Finding(level="note", setting="synchronous", value=name, promise=promise, remedy=remedy)
    promise = "Dispatched jobs survive a power failure, as far as the disk keeps its word."
    return Finding(level="ok", setting="synchronous", value=name, promise=promise)


def file_system(path: str) -> Finding:
    """Say what kind of place the file is in."""
    kind = _kind_of_file_system(Path(path).resolve())
    if kind in NETWORK:
        return Finding(
            level="error",
            setting="file system",
            value=kind,
            promise="Locks and shared memory do not work over a network: several processes corrupt the file.",
            remedy="put the file on a local disk, or use a server for jobs of several machines",
        )
    if kind in PASSING:
        return Finding(
            level="warning",
            setting="file system",
            value=kind,
            promise="The file is in memory: no job survives a restart of the machine.",
            remedy="put the file on a disk",
        )
    return Finding(level="ok", setting="file system", value=kind, promise="")


def _kind_of_file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`; "unknown" where Linux's list of mounts does not exist.

    Fields of a line (proc(5)): the mount point is the fifth, the type the first after the lone dash.
    """
    try:
        lines = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "unknown"
    found, kind = -1, "unknown"
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= found:
            found, kind = len(point.parts), right.split()[0]
    return kind


def _space(path: str) -> Finding:
    free = shutil.disk_usage(Path(path).resolve().parent).free
    value = f"{free >> 20:,} MiB free"
    if free >= LITTLE:
        return Finding(level="ok", setting="disk", value=value, promise="")
    return Finding(
        level="warning",
        setting="disk",
        value=value,
        promise="When nothing is left, dispatching raises BackendFull and workers cannot settle what they ran.",
        remedy=f"free {LITTLE >> 20} MiB or more",
    )


def _integrity(path: str) -> Finding:
    with sqlite_errors(path, doing="checking the file"), closing(sqlite3.connect(path, timeout=5.0)) as reader:
        reader.execute("PRAGMA query_only = 1")
        answer = str(reader.execute("PRAGMA quick_check(1)").fetchone()[0])
    if answer == "ok":
        return Finding(level="ok", setting="quick_check", value=answer, promise="")
    return Finding(
        level="error",
        setting="quick_check",
        value=answer,
        promise="The file is damaged: jobs may be lost or run twice.",
        remedy=f'stop all workers, then: sqlite3 "{path}" ".recover" | sqlite3 recovered.db',
    )
