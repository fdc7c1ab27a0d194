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

from queuekit import Event
from queuekit.contract import Limits

__all__ = ["Function", "History", "Kind", "Record", "Recorder", "Watcher", "lease_in_time", "read_history"]

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
    """Appends this process's records to a file of its own; any thread may call it, and a forked child gets its own."""

    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
        self._role = role
        self._lock = threading.Lock()
        self._file = -1
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        path = self._folder / f"{self._role}-{self._pid}-{time.monotonic_ns()}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._seq = itertools.count()

    def write(self, f: Function, type: Kind, **fields: Any) -> None:
        """Append one record, with one write; the methods below know which fields belong to which function."""
        if os.getpid() != self._pid:
            self._lock = threading.Lock()  # another thread of the parent may have held it at the fork
            self._open()
        with self._lock:
            record = Record(time.monotonic_ns(), next(self._seq), self._pid, self._role, f, type, **fields)
            line = msgspec.json.encode(record) + b"\n"
            written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"{written} of {len(line)} bytes of a record were written: is the disk full?")

    def dispatch(
        self, type: Kind, job: str, *, key: str | None = None, delay: float | None = None, generation: int = 0
    ) -> None:
        """Record an invocation with what was asked for, or its answer."""
        self.write("dispatch", type, job=job, key=key, delay=delay or 0.0, generation=generation)

    def start(self, job: str, *, token: int, attempt: int | None, lease: float, generation: int = 0) -> None:
        """Record that a handler is about to run, under a lease that has so many seconds left."""
        self.write("start", "ok", job=job, token=token, attempt=attempt, lease=lease, generation=generation)

    def extend(self, type: Kind, job: str, *, token: int, lease: float) -> None:
        """Record that a lease was, or was not, renewed for so many seconds."""
        self.write("extend", type, job=job, token=token, lease=lease)

    def finish(self, job: str, *, token: int, attempt: int | None = None) -> None:
        """Record that a handler returned or raised."""
        self.write("finish", "ok", job=job, token=token, attempt=attempt)

    def settle(
        self, type: Kind, job: str, *, token: int, outcome: str, attempt: int | None = None, generation: int = 0
    ) -> None:
        """Record what a worker is about to settle; `ok` only once the backend accepted it, `fail` if it refused."""
        self.write("settle", type, job=job, token=token, outcome=outcome, attempt=attempt, generation=generation)

    def lease_lost(self, job: str, *, token: int, attempt: int | None = None) -> None:
        """Record that a worker was told that its lease is another's."""
        self.write("lease_lost", "ok", job=job, token=token, attempt=attempt)

    def event(self, job: str, kind: str, *, token: int | None = None) -> None:
        """Record that observers were told how an attempt ended."""
        self.write("event", "ok", job=job, outcome=kind, token=token)

    def cancel(self, type: Kind, job: str) -> None:
        """Record a request to cancel, or its answer."""
        self.write("cancel", type, job=job)

    def workflow_terminal(self, name: str, outcome: str) -> None:
        """Record that a workflow ended."""
        self.write("workflow_terminal", "ok", name=name, outcome=outcome)

    def fault(self, name: str, phase: Literal["on", "off", "fired"]) -> None:
        """Record that a fault was armed, healed, or hit something."""
        self.write("fault", "ok", name=name, outcome=phase)

    def drain(self, type: Kind) -> None:
        """Record that everything was drained."""
        self.write("drain", type)

    def oracle(self, *, ready: int, in_flight: int) -> None:
        """Record what the backend itself says is left."""
        self.write("oracle", "ok", ready=ready, in_flight=in_flight)

    def close(self) -> None:
        """Close the file; a record that comes later is refused, and never goes into a file that another opened."""
        with self._lock:
            os.close(self._file)
            self._file = -1


OUTCOMES = {
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "retrying": "again",
    "snoozed": "released",
    "released": "released",
}
"""Which outcome a worker settles after it told its observers this."""
ROUND_TRIP = 0.25
"""Seconds that a claim itself may take: its lease runs from inside of it, and its answer may wait for a sync of the disk."""


def lease_in_time(limits: Limits, lease: float) -> float:
    """Return for how many seconds nobody else may start a job: for none where a lease ends with its holder's connection."""
    return 0.0 if limits.lease_by == "connection" else lease


class Watcher:
    """An observer that records what a worker does: `queue.observe(Watcher(recorder, lease=1.0))`."""

    def __init__(self, recorder: Recorder, *, lease: float, fenced: bool = True) -> None:
        self._recorder = recorder
        self._lease = lease
        self._fenced = fenced
        self._claimed: dict[tuple[str, int], float] = {}
        self._outcomes: dict[tuple[str, int], str] = {}

    def __call__(self, event: Event) -> None:
        """Record an event; `started` comes before the handler, an outcome before it is settled."""
        job, token = event.job_id, event.token
        if job is None or not isinstance(token, int):
            return
        match event.kind:
            case "claimed":
                self._claimed[job, token] = time.monotonic()
            case "started":
                waited = time.monotonic() - self._claimed.pop((job, token)) + ROUND_TRIP
                left = max(0.0, self._lease - waited)
                self._recorder.start(job, token=token, attempt=event.attempt, lease=left)
            case "finished":
                self._recorder.finish(job, token=token, attempt=event.attempt)
            case "lease_lost":
                self._recorder.lease_lost(job, token=token, attempt=event.attempt)
            case "settled" | "settle_lost":
                outcome = self._outcomes.pop((job, token), "released")
                # Where a lease ends with its connection, or by its holder's clock alone, a lost settlement is one whose answer did not come: it may have counted.
                lost: Kind = "fail" if self._lease and self._fenced else "info"
                answer: Kind = "ok" if event.kind == "settled" else lost
                self._recorder.settle(answer, job, token=token, outcome=outcome, attempt=event.attempt)
            case kind if kind in OUTCOMES:
                self._outcomes[job, token] = OUTCOMES[kind]
                self._recorder.event(job, kind, token=token)
                self._recorder.settle("invoke", job, token=token, outcome=OUTCOMES[kind], attempt=event.attempt)
            case _:
                return


class History(msgspec.Struct, frozen=True):
    """All records in order of time, and how many lines could not be read."""

    records: tuple[Record, ...]
    torn: int = 0
    """Last lines that a kill cut short: what they would have said did not happen yet."""
    corrupt: int = 0
    """Other lines that are no record: the history cannot be trusted."""


def read_history(folder: Path) -> History:
    """Merge the files of a folder; a torn last line is counted, never guessed at."""
    decoder = msgspec.json.Decoder(Record)
    records: list[Record] = []
    torn = corrupt = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        *lines, last = path.read_bytes().split(b"\n")
        torn += bool(last)
        for line in lines:
            try:
                records.append(decoder.decode(line))
            except msgspec.MsgspecError:
                corrupt += 1
    return History(tuple(sorted(records, key=lambda r: (r.t, r.pid, r.seq))), torn, corrupt)
