"""Index every file of a folder with two worker processes.

    python examples/fileindex/fileindex.py FOLDER          index it
    python examples/fileindex/fileindex.py FOLDER --kill   and kill -9 one of the workers in the middle

Verifies afterwards that every file has one row and one completion, and that exactly the jobs which the killed worker
held were started a second time. Exits with 1 when that is not so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEASE = 2
SAMPLE = 20
DELAY = 1.0


@dataclass
class Killed:
    """What the killed worker had in hand when it was killed."""

    pid: int = 0
    held: set[str] = field(default_factory=set)
    """Jobs that it had started and whose settlement was not stored."""
    unsaid: set[str] = field(default_factory=set)
    """Jobs whose settlement was stored, and the worker killed before it could say so."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", action="store_true", help="kill -9 one of the two workers in the middle")
    parser.add_argument("--state", type=Path, help="where to leave index.db and jobs.db (default: nowhere)")
    wanted = parser.parse_args()
    if not wanted.folder.is_dir():
        parser.error(f"{wanted.folder} is not a folder")
    if not (paths := sorted(files(wanted.folder.absolute()))):
        parser.error(f"{wanted.folder} has no files")
    if wanted.state is not None:
        if wanted.state.exists():
            parser.error(f"{wanted.state} exists already: name a new folder")
        wanted.state.mkdir(parents=True)
        return run(wanted.state.absolute(), paths, killing=wanted.kill)
    with tempfile.TemporaryDirectory(prefix="fileindex-") as state:
        return run(Path(state), paths, killing=wanted.kill)


def files(folder: Path) -> Iterator[str]:
    """Yield every file: no dangling links and no devices, pipes or sockets, which have no end."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - thousands of names, and only text is wanted
            try:
                if stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                    yield path
            except FileNotFoundError:
                continue
            except OSError:
                yield path  # it exists; its job will say what is wrong with it


def run(state: Path, paths: list[str], *, killing: bool) -> int:
    """Dispatch, work, kill, verify."""
    os.environ["FILEINDEX_STATE"] = str(state)
    sys.path.insert(0, str(HERE))
    app = importlib.import_module("app")  # it reads its folder when imported
    app.make_index()
    begun = time.monotonic()
    names = [app.to_text(path) for path in paths]
    handles = dict(zip(names, app.queue.dispatch_many(app.index_file.job(name) for name in names), strict=True))
    check = app.recheck.using(delay=DELAY, priority=9).dispatch(names[:SAMPLE])
    print(f"dispatched {len(handles)} files and a delayed re-check in {time.monotonic() - begun:.2f} s", flush=True)
    with (state / "workers.log").open("wb") as log:
        command = [sys.executable, "-m", "queuekit.cli", "worker", "app:queue", "--processes", "2"]
        workers = subprocess.Popen(
            [*command, "--concurrency", "4", "--lease", str(LEASE)], cwd=HERE, stdout=log, stderr=log
        )
    try:
        killed = work(app.queue, state, workers, {handle.id for handle in handles.values()}, killing=killing)
    finally:
        workers.terminate()
        workers.wait(60)
    problems = verify(app, state, handles, check, killed)
    app.queue.close()
    print("FAILED: " + "; ".join(problems) if problems else "every file has one row and one completion")
    return 1 if problems else 0


def work(queue: Any, state: Path, workers: subprocess.Popen[bytes], jobs: set[str], *, killing: bool) -> Killed | None:
    """Watch the workers until nothing is left, and kill one of them once a tenth is done."""
    killed, total = Killed() if killing else None, len(jobs) + 1  # and the re-check
    display = Display(total)
    while left := display.show(queue):
        if workers.poll() is not None:
            log = (state / "workers.log").read_text("utf-8")
            message = f"the workers ended with {workers.returncode}:\n{log}"
            raise SystemExit(message)
        if killed is None or killed.pid:
            time.sleep(0.1)
        elif left <= total * 0.9:
            try_to_kill(queue, state, jobs, killed)
    display.show(queue, last=True)
    return killed


class Display:
    """Shows how far the work is: one line that changes on a terminal, else one every two seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = time.monotonic()
        self._shown = 0.0

    def show(self, queue: Any, *, last: bool = False) -> int:
        """Return how many jobs are left."""
        [counts] = queue.stats().queues
        left: int = counts.pending + counts.scheduled + counts.running
        now, terminal = time.monotonic(), sys.stdout.isatty()
        if last or now - self._shown >= (0.1 if terminal else 2):
            self._shown = now
            done = self._total - left
            line = f"{done / self._total:6.1%}  {done}/{self._total} done, {counts.running} running, {now - self._begun:.1f} s"
            print(f"\r{line}   " if terminal else line, end="\n" if last or not terminal else "", flush=True)
        return left


def try_to_kill(queue: Any, state: Path, jobs: set[str], killed: Killed) -> None:
    """Freeze a worker, look which of the jobs it holds, and kill -9 it unless that is nothing."""
    journal = max(state.glob("*.journal"), key=lambda file: file.stat().st_mtime)
    pid = int(journal.stem)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.01)  # all of its threads stand still
    unsettled = in_hand(events(journal)) & jobs
    states = {job: queue.get(job).state for job in unsettled}
    held = {job for job, state in states.items() if state == "running"}
    os.kill(pid, signal.SIGKILL if held else signal.SIGCONT)
    if held:
        killed.pid, killed.held, killed.unsaid = pid, held, unsettled - held
        print(f"\nkilled worker {pid} with -9 while it held {len(held)} jobs", flush=True)


Try = tuple[str, int]
"""A job's id and the number of its attempt."""


def events(journal: Path) -> list[tuple[str, Try, float]]:
    """Return what a worker process said: kind, job and attempt, instant; without a line that a kill cut off."""
    lines = journal.read_text("utf-8").splitlines(keepends=True)
    return [(kind, (job, attempt), at) for kind, job, attempt, at in map(json.loads, lines)]


def in_hand(said: list[tuple[str, Try, float]]) -> set[str]:
    """Return the jobs that were started and not settled since; what is given back unstarted may be claimed again later."""
    held = set()
    for kind, (job, _), _ in said:
        if kind == "started":
            held.add(job)
        elif kind == "settled":
            held.discard(job)
    return held


def stored(said: list[tuple[str, Try, float]]) -> Counter[tuple[str, str]]:
    """Count per outcome and job the outcomes whose settlement followed them: those that the queue has stored."""
    outcomes: dict[Try, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for kind, which, _ in said:
        if kind in {"completed", "retrying"}:
            outcomes[which] = kind
        elif kind == "settled" and which in outcomes:
            counts[outcomes.pop(which), which[0]] += 1
    return counts


def verify(app: Any, state: Path, handles: dict[str, Any], check: Any, killed: Killed | None) -> list[str]:
    """Print the summary and return what is wrong."""
    said = sorted(
        (event for journal in state.glob("*.journal") for event in events(journal)), key=lambda event: event[2]
    )
    changed = check.result(30)
    early = [at for kind, (job, _), at in said if (kind, job) == ("started", check.id)]
    with closing(app.open_index()) as index:
        rows = [path for (path,) in index.execute("SELECT path FROM files")]
        checked = index.execute("SELECT count(*) FROM files WHERE checked").fetchone()[0]
        kinds = index.execute(
            "SELECT kind, count(*), coalesce(sum(size), 0), coalesce(sum(words), 0) FROM files GROUP BY kind ORDER BY 2 DESC"
        ).fetchall()
    accepted = check.info().accepted_at.timestamp()
    again, retried = second_starts(said, {handle.id for handle in handles.values()})
    for kind, count, size, words in kinds:
        print(f"  {kind:<32} {count:>7} files {size:>14} bytes {words:>12} words")
    print(f"  re-checked {checked} files {min(early) - accepted:.1f} s after dispatch: {changed} changed")
    print(f"  attempts repeated after an error: {retried}")
    if killed is not None:
        print(f"  started a second time after the kill: {len(again)}", *sorted(again), sep="\n    ")
    problems = [f"{len(rows)} rows for {len(handles)} files"] if sorted(rows) != sorted(handles) else []
    problems += completions(said, handles, killed.unsaid if killed else set())
    if min(early) < accepted + DELAY:
        problems.append("the delayed re-check ran early")
    if checked != min(SAMPLE, len(handles)):
        problems.append(f"{checked} files were re-checked")
    held = killed.held if killed else set()
    if beyond := again - held:
        problems.append(f"{len(beyond)} jobs were started a second time that no killed worker held")
    if missing := held - again:
        problems.append(
            f"{len(missing)} jobs that the killed worker held were not started a second time, such as {min(missing)}"
        )
    if killed is not None and not again:
        problems.append("the kill hit nothing: no job was started a second time")
    return problems


def second_starts(said: list[tuple[str, Try, float]], jobs: set[str]) -> tuple[set[str], int]:
    """Return the jobs with a start that no retry explains, and how many starts a settled retry does explain."""
    starts = Counter(job for kind, (job, _), _ in said if kind == "started")
    counts = stored(said)
    again = {job for job in jobs if starts[job] > 1 + counts["retrying", job]}
    return again, sum(counts["retrying", job] for job in jobs)


def completions(said: list[tuple[str, Try, float]], handles: dict[str, Any], unsaid: set[str]) -> list[str]:
    """Return what is wrong with the jobs' ends, as the queue keeps them and as the workers saw them."""
    states = Counter(handle.state for handle in handles.values())
    counts = stored(said)
    odd = [h.id for h in handles.values() if counts["completed", h.id] != (0 if h.id in unsaid else 1)]
    problems = [] if states == {"completed": len(handles)} else [f"the jobs' states are {dict(states)}"]
    return problems + ([f"{len(odd)} jobs without exactly one completion, such as {odd[0]}"] if odd else [])


if __name__ == "__main__":
    raise SystemExit(main())
