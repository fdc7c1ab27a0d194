"""Runs queuekit beside its peers, in one call and on the same servers, and writes a table with ratios.

    python scripts/bench/compare.py --harness FOLDER [--backends sqlite,redis,postgres,sqs,rabbitmq] [--tests main,procs2,io,latency]
                                    [--reps 3] [--n 20000] [--out table.md]

FOLDER (or $QUEUEKIT_BENCH_HARNESS) holds the benchmark of the peers: `bench.py`, `servers.py`, `peers/`, `requirements/`. It is copied into a
temporary folder ($BENCH_TMP, default <tempdir>/queue-bench) together with `scripts/bench/peers`, so that nothing is written into it. Repetitions are the
outer loop: everybody meets the same spells of noise, and ratios are of one call. Servers that this started it stops.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queuekit_integration.servers import ProcessServer, Roto

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path(__file__).resolve().parent / "peers"
TMP = Path(os.environ.get("BENCH_TMP", str(Path(tempfile.gettempdir()) / "queue-bench")))


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Who is compared on one backend; the first peer is the one that ratios are taken of."""

    own: tuple[str, ...]
    peers: tuple[str, ...]
    servers: tuple[str, ...] = ()
    emulated: bool = False
    """Whether it is Amazon's service: an emulator, which is queuekit's own test server, takes its place."""


BACKENDS = {
    "sqlite": Backend(own=("queuekit:sqlite",), peers=("huey:sqlite-thread",)),
    "redis": Backend(
        own=("queuekit:redis", "queuekit:redis-forget"),
        peers=("taskiq:stream", "dramatiq:redis", "saq", "huey:redis-thread"),
        servers=("redis",),
    ),
    "postgres": Backend(
        own=("queuekit:postgres",), peers=("pgqueuer:batch100", "procrastinate"), servers=("postgres",)
    ),
    "sqs": Backend(own=("queuekit:sqs",), peers=("celery:sqs-threads-late",), emulated=True),
    "rabbitmq": Backend(
        own=("queuekit:rabbitmq", "queuekit:rabbitmq-classic"),
        peers=("dramatiq:amqp-confirm", "dramatiq:amqp", "taskiq:amqp", "celery:amqp-threads-late-confirm"),
        servers=("rabbitmq",),
    ),
}

COLUMNS: dict[str, list[tuple[str, str, int]]] = {
    "main": [
        ("run and settled/s", "acked_per_s", 0),
        ("one by one/s", "enq_one_per_s", 0),
        ("bulk/s", "enq_bulk_per_s", 0),
        ("worker CPU µs/job", "worker_us", 1),
        ("server CPU µs/job", "broker_us", 1),
        ("cores of both", "cores", 2),
        ("worker RSS MiB", "rss_mb", 0),
    ],
    "latency": [("p50 ms", "lat_p50_ms", 2), ("p95 ms", "lat_p95_ms", 2), ("p99 ms", "lat_p99_ms", 2)],
}
OTHERS = [
    ("jobs/s", "per_s", 0),
    ("worker CPU µs/job", "worker_us", 1),
    ("server CPU µs/job", "broker_us", 1),
    ("cores of both", "cores", 2),
    ("RSS MiB", "rss_mb", 0),
]
TITLES = {
    "main": "one process, 10 at once, no-op jobs",
    "procs2": "two processes of 10, no-op jobs",
    "io": "one process, 100 at once, 10 ms jobs",
    "latency": "20 jobs/s to an idle worker, from the call of dispatch to the handler",
    "big": "one process, 10 at once, no-op jobs, loaded in bulk",
}


def overlay(harness: Path) -> Path:
    """Copy the harness and queuekit's own module to where both can be imported; return the folder."""
    folder = TMP / "harness"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(harness, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for module in MODULES.glob("*.py"):
        shutil.copy(module, folder / "peers" / module.name)
    (folder / "requirements" / "queuekit.txt").write_text("\n".join(requirements()) + "\n", "utf-8")
    return folder


def requirements() -> list[str]:
    """Name this checkout and the drivers in it, editable: a change is measured without a new installation."""
    drivers = sorted(path.parent for path in ROOT.glob("drivers/*/pyproject.toml"))
    return [*(f"-e {path}" for path in [ROOT, *drivers]), "hiredis", "psycopg[binary]"]


def make_environments(folder: Path, peers: Iterable[str]) -> None:
    """Make the virtual environments that do not exist yet; queuekit's again when the list of its drivers changed."""
    wanted = (folder / "requirements" / "queuekit.txt").read_text("utf-8")
    stamp = TMP / "venvs" / "queuekit" / "made-from"
    old = stamp.read_text("utf-8") if stamp.exists() else ""
    names = sorted({"celery_sqs" if p.startswith("celery:sqs") else p.partition(":")[0] for p in peers})
    missing = [
        n for n in names if not (TMP / "venvs" / n / "bin" / "python").exists() or (n == "queuekit" and old != wanted)
    ]
    if missing:
        bench(folder, "venv", *missing)
    if "queuekit" in missing:
        stamp.write_text(wanted, "utf-8")


def bench(folder: Path, *arguments: str) -> None:
    """Run the harness's own command line."""
    subprocess.run(
        [sys.executable, "bench.py", *arguments], cwd=folder, check=True, env={**os.environ, "BENCH_TMP": str(TMP)}
    )


def servers(folder: Path, *arguments: str) -> None:
    """Start or stop the harness's own servers."""
    subprocess.run(
        [sys.executable, "servers.py", *arguments], cwd=folder, check=True, env={**os.environ, "BENCH_TMP": str(TMP)}
    )


@contextmanager
def emulator(wanted: bool) -> Iterator[None]:
    """Run an emulator of SQS meanwhile, and tell the harness its port and whose CPU is to be counted."""
    if not wanted:
        yield
        return
    server = ProcessServer(Roto())
    server.start()
    pid = TMP / "sqs.pid"
    pid.write_text(str(server.pid), "utf-8")
    anything = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(anything, BENCH_SQS_PORT=str(server.port))
    try:
        yield
    finally:
        pid.unlink()
        server.close()


def runs(server: str) -> bool:
    """Whether a server of the harness runs already, from an earlier call with --keep-servers."""
    file = TMP / f"{server}.pid"
    return file.exists() and Path(f"/proc/{file.read_text('utf-8').strip()}").exists()


def results(tag: str) -> list[dict[str, Any]]:
    """Read what the harness has measured; `cores` is how many cores workers and server kept busy together."""
    found = [json.loads(line) for line in (TMP / f"results-{tag}.jsonl").read_text("utf-8").splitlines()]
    for run in found:
        if all(run.get(field) is not None for field in ("per_s", "worker_us", "broker_us")):
            run["cores"] = run["per_s"] * (run["worker_us"] + run["broker_us"]) / 1e6
    return found


def median(runs: list[dict[str, Any]], field: str) -> float | None:
    """Return the median over the runs that have the field."""
    values = [run[field] for run in runs if run.get(field) is not None]
    return statistics.median(values) if values else None


def settled(runs: list[dict[str, Any]], field: str) -> float | None:
    """Return the median; for a peer that cannot be asked what is settled, that of the jobs that ran: no less than it."""
    found = median(runs, field)
    return median(runs, "per_s") if found is None and field == "acked_per_s" else found


def table(test: str, names: list[str], first: str, found: list[dict[str, Any]]) -> str:
    """Return one test's table: medians, and in brackets the ratio to the first peer."""
    columns = COLUMNS.get(test, OTHERS)
    runs = {name: [r for r in found if r["peer"] == name and r["test"] == test] for name in names}
    lines = [f"**{TITLES.get(test, test)}**", "", "| | " + " | ".join(title for title, _, _ in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for name in names:
        cells = [_cell(settled(runs[name], field), settled(runs[first], field), digits) for _, field, digits in columns]
        lines.append(f"| {name}{_trouble(runs[name])} | " + " | ".join(cells) + " |")
    blind = [name for name in names if test == "main" and median(runs[name], "acked_per_s") is None]
    if blind:
        lines += ["", f"{', '.join(blind)} cannot be asked what is settled: the figure is of jobs that ran."]
    noise = [r["others_cores"] for r in found if r["test"] == test and r.get("others_cores") is not None]
    if noise:
        lines += ["", f"What else ran on the machine took {min(noise):.2f} to {max(noise):.2f} cores meanwhile."]
    return "\n".join(lines)


def _cell(value: float | None, base: float | None, digits: int) -> str:
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    return f"{text} ({value / base:.2f} ×)" if base else text


def _trouble(runs: list[dict[str, Any]]) -> str:
    failed = [run for run in runs if run.get("error") or run.get("incomplete")]
    twice = sum(run.get("duplicates", 0) for run in runs)
    return "".join([f" [{len(failed)} failed]" if failed else "", f" [{twice} run twice]" if twice else ""])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", type=Path, default=os.environ.get("QUEUEKIT_BENCH_HARNESS"))
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--tests", default="main,procs2,io,latency")
    parser.add_argument("--peers", help="compare with these alone, such as taskiq:stream,saq")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="write the tables there as well")
    parser.add_argument("--keep-servers", action="store_true", help="leave the servers running for the next call")
    wanted = parser.parse_args()
    if wanted.harness is None or not (Path(wanted.harness) / "bench.py").is_file():
        parser.error("give the folder of the peers' benchmark: --harness FOLDER, or QUEUEKIT_BENCH_HARNESS")
    return wanted


def main() -> None:
    """Copy, install, start, run, print, stop."""
    wanted = arguments()
    TMP.mkdir(parents=True, exist_ok=True)
    folder = overlay(Path(wanted.harness))
    tables = [
        f"`{' '.join(['python', 'scripts/bench/compare.py', *shown()])}`, {time.strftime('%Y-%m-%d', time.gmtime())}"
    ]
    chosen = [BACKENDS[name] for name in wanted.backends.split(",")]
    names = [name for backend in chosen for name in (*backend.own, *_peers(backend, wanted))]
    make_environments(folder, names)
    needed = [name for name in sorted({s for backend in chosen for s in backend.servers}) if not runs(name)]
    if needed:
        servers(folder, "start", *needed)
    try:
        for backend in chosen:
            with emulator(backend.emulated):
                tables += compare(folder, backend, wanted)
    finally:
        if needed and not wanted.keep_servers:
            servers(folder, "stop")
    text = "\n\n".join(tables) + "\n"
    print(text)
    if wanted.out is not None:
        wanted.out.write_text(text, "utf-8")


def shown() -> list[str]:
    """Return the command line without what belongs to this machine."""
    words, kept = sys.argv[1:], []
    while words:
        word = words.pop(0)
        if word in {"--harness", "--out"}:
            words.pop(0)
        else:
            kept.append(word)
    return kept


def _peers(backend: Backend, wanted: argparse.Namespace) -> tuple[str, ...]:
    if wanted.peers is None:
        return backend.peers
    return tuple(name for name in backend.peers if name in wanted.peers.split(","))


def compare(folder: Path, backend: Backend, wanted: argparse.Namespace) -> list[str]:
    """Run one backend's rows and return their tables."""
    peers = _peers(backend, wanted)
    names = [*backend.own, *peers]
    tag = f"compare-{os.getpid()}-{backend.own[0].partition(':')[2]}"
    bench(
        folder, "run", *names, "--tests", wanted.tests, "--reps", str(wanted.reps), "--n", str(wanted.n), "--tag", tag
    )
    found = results(tag)
    first = peers[0] if peers else names[0]
    return [table(test, names, first, found) for test in wanted.tests.split(",")]


if __name__ == "__main__":
    main()
