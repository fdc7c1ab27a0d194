"""Index every file of a folder with two worker processes, one of which is killed in the middle.

    python examples/fileindex/fileindex.py FOLDER [--no-kill]

Verifies afterwards that every file has one row and one completion, and that only jobs which the killed worker held were
started again. Exits with 1 when that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEASE = 2
SAMPLE = 20


def start_worker(state: Path) -> subprocess.Popen[bytes]:
    """Start a worker process; its index is the number of workers started before."""
    command = [sys.executable, "-m", "queuekit.cli", "worker", "app:queue", "--concurrency", "4", "--lease", str(LEASE)]
    return subprocess.Popen(
        command, cwd=HERE, env={**os.environ, "FILEINDEX_STATE": str(state)}, stderr=subprocess.DEVNULL
    )


def notes(state: Path) -> list[list[Any]]:
    """Return what handlers noted: time, process, start or end, job, attempt."""
    lines = [line for path in state.glob("*.log") for line in path.read_text("utf-8").splitlines()]
    return sorted(json.loads(line) for line in lines if line.endswith("]"))


def children(pid: int) -> list[int]:
    """Return the worker processes under a supervisor."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def kill(worker: subprocess.Popen[bytes]) -> list[int]:
    """Kill -9 the worker's processes at once, the supervisor first, so that nothing restarts them."""
    held = children(worker.pid)
    worker.kill()
    for pid in held:
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    return held


def main() -> int:
    """Dispatch, kill, wait, verify."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-kill", action="store_true", help="let both workers live")
    wanted = parser.parse_args()
    paths = sorted(str(path.absolute()) for path in wanted.folder.rglob("*") if path.is_file())
    if not paths:
        parser.error(f"{wanted.folder} has no files")
    with tempfile.TemporaryDirectory(prefix="fileindex-") as folder:
        return run(Path(folder), paths, killing=not wanted.no_kill)


def run(state: Path, paths: list[str], *, killing: bool) -> int:
    """Index the files and verify the outcome."""
    os.environ["FILEINDEX_STATE"] = str(state)
    sys.path.insert(0, str(HERE))
    import app  # noqa: PLC0415 - it reads its folder when imported

    app.index().close()
    begin = time.monotonic()
    handles = app.queue.dispatch_many(app.index_file.job(path) for path in paths)
    check = app.recheck.using(delay=1).dispatch(paths[:SAMPLE])
    print(f"dispatched {len(handles)} files and a delayed re-check in {time.monotonic() - begin:.2f} s")
    workers = [start_worker(state), start_worker(state)]
    killed: list[int] = []
    try:
        while unfinished(app.queue, begin, len(paths)):
            if killing and not killed and enough_to_kill(state, workers[0], len(paths)):
                killed = kill(workers[0])
                print(f"\nkilled worker {killed} with -9")
            time.sleep(0.02 if killing and not killed else 0.2)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in workers:
            worker.wait(30)
    print()
    return verify(app, state, handles, check, killed if killing else None)


def unfinished(queue: Any, begin: float, count: int) -> int:
    """Print progress and return how many jobs are not finished."""
    [counts] = queue.stats().queues
    left = counts.pending + counts.scheduled + counts.running
    done = counts.completed + counts.failed
    if sys.stdout.isatty() or not left:
        print(
            f"\r{done}/{count + 1} done, {counts.running} running, {time.monotonic() - begin:.1f} s", end="", flush=True
        )
    return int(left)


def enough_to_kill(state: Path, worker: subprocess.Popen[bytes], count: int) -> bool:
    """Whether the worker to be killed is in the middle of it: it has started a share and is inside a handler now."""
    mine = set(children(worker.pid))
    events = Counter((pid, what) for _, pid, what, _, _ in notes(state) if pid in mine)
    started = sum(number for (_, what), number in events.items() if what == "start")
    ended = sum(number for (_, what), number in events.items() if what == "end")
    return started >= max(2, count // 20) and started > ended


def verify(app: Any, state: Path, handles: list[Any], check: Any, killed: list[int] | None) -> int:
    """Compare rows, records and starts; print the summary."""
    connection = app.index()
    rows = connection.execute("SELECT kind, count(*), coalesce(sum(words), 0) FROM files GROUP BY kind").fetchall()
    total = connection.execute("SELECT count(*), count(DISTINCT path) FROM files").fetchone()
    connection.close()
    states = Counter(handle.state for handle in handles)
    starts = [(pid, job, attempt) for _, pid, what, job, attempt in notes(state) if what == "start"]
    after_crash = {job for job, count in Counter(job for _, job, _ in starts).items() if count > 1}
    retried = {handle.id for handle in handles if handle.id in after_crash and handle.info().errors}
    twice = after_crash - retried
    held = {job for pid, job, _ in starts if killed and pid in killed}
    for kind, count, words in rows:
        print(f"  {kind:<28} {count:>6} files {words:>10} words")
    print(
        f"  re-check of {SAMPLE}: {check.result(30)} changed; states: {dict(states)}; retried after an error: {len(retried)}"
    )
    print(
        f"  started again after the kill: {len(twice)}: {', '.join(sorted(twice)[:5])}{' …' if len(twice) > 5 else ''}"
    )
    problems = []
    if total[0] != len(handles) or total[1] != len(handles):
        problems.append(f"{total[0]} rows for {len(handles)} files")
    if states["completed"] != len(handles):
        problems.append(f"{states['completed']} of {len(handles)} jobs completed")
    if twice - held:
        problems.append(f"{len(twice - held)} jobs were started again that the killed worker did not hold")
    if killed is not None and not twice:
        problems.append("no job was started again: the kill hit nothing")
    print("FAILED: " + "; ".join(problems) if problems else "every file has one row and one completion")
    app.queue.close()
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
