"""What every process did, as it happened: one file a process, one unbuffered write a record.

A process may be killed at any instant and loses nothing that it wrote; a line torn by the kill is noticed when reading.
`time.monotonic_ns` is one clock for all processes of a host, so records of several files can be put in order.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

__all__ = ["Function", "History", "Kind", "Record", "Recorder", "read_history"]

Function = Literal[
    "dispatch",
    "start",
    "extend",
    "finish",
    "settle",
    "cancel",
    "workflow_terminal",
    "lease_lost",
    "drain",
    "fault",
    "oracle",
    "event",
]
Kind = Literal["invoke", "ok", "fail", "info"]
"""`fail` only when provably not applied; a timeout or a reset is `info`."""
SUFFIX = ".history"


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    t: int
    seq: int
    pid: int
    role: str
    f: Function
    type: Kind
    job: str | None = None
    key: str | None = None
    attempt: int | None = None
    token: int | None = None
    generation: int = 0
    delay: float = 0.0
    """dispatch: seconds that it must not start before."""
    outcome: str | None = None
    """settle, finish: done, again, released, failed, cancelled. fault: on, off, fired. event: the event's kind."""
    name: str | None = None
    """fault: which. workflow_terminal: which workflow."""
    lease: float = 0.0
    """start: seconds for which the lease was given."""
    ready: int = 0
    in_flight: int = 0


class Recorder:
    """Appends this process's records to a file of its own; any thread may call it."""

    def __init__(self, folder: Path, role: str) -> None:
        self._role = role
        self._pid = os.getpid()
        path = folder / f"{role}-{self._pid}-{time.monotonic_ns()}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._seq = itertools.count()
        self._lock = threading.Lock()

    def write(self, f: Function, type: Kind, **fields: Any) -> None:
        """Append one record, with one write."""
        with self._lock:
            record = Record(time.monotonic_ns(), next(self._seq), self._pid, self._role, f, type, **fields)
            os.write(self._file, msgspec.json.encode(record) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class History(msgspec.Struct, frozen=True):
    """All records in order of time, and how many lines were torn."""

    records: tuple[Record, ...]
    torn: int = 0


def read_history(folder: Path) -> History:
    """Merge the files of a folder; a torn line is counted, never guessed at."""
    decoder = msgspec.json.Decoder(Record)
    records: list[Record] = []
    torn = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        for line in path.read_bytes().split(b"\n"):
            if line:
                try:
                    records.append(decoder.decode(line))
                except msgspec.MsgspecError:
                    torn += 1
    return History(tuple(sorted(records, key=lambda r: (r.t, r.pid, r.seq))), torn)
