"""The commands that look: `jobs`, `queues`, `stats` and `drivers`."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from queuekit.cli.app import open_shared
from queuekit.cli.exits import OK
from queuekit.cli.output import ago, as_json, say, table, tell
from queuekit.contract import WorkerInfo
from queuekit.drivers import EXTRAS, FEATURES, available
from queuekit.info import JobInfo

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["drivers", "jobs", "queues", "stats"]

STATES = ("pending", "scheduled", "running", "completed", "failed", "cancelled")


def jobs(asked: Namespace) -> int:
    """List one page of jobs, in order of acceptance."""
    with open_shared(asked.app) as queue:
        page = queue.jobs(
            state=asked.state,
            queue=asked.queue,
            type=asked.type,
            tag=asked.tag,
            search=asked.search,
            limit=asked.limit,
            after=asked.after,
        )
    if asked.json:
        say(as_json({"jobs": list(page), "next": page.next}))
        return OK
    heads = ("ID", "STATE", "TYPE", "QUEUE", "ATTEMPT", "ACCEPTED", "TAGS", "NOTE")
    say(table(heads, map(_job_row, page)) if page else "no jobs match")
    if page.next is not None:
        tell(f"there are more: --after {page.next}")
    return OK


def _job_row(job: JobInfo) -> tuple[Any, ...]:
    accepted = job.accepted_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return job.id, job.state, job.type, job.queue, job.attempt, accepted, ",".join(job.tags), _note(job)


def _note(job: JobInfo) -> str | None:
    """Say the one thing about a job that matters most now."""
    error = job.errors[-1] if job.errors else None
    if job.state == "running" and job.progress is not None:
        return f"{job.progress:.0f} %" + (f" {job.step}" if job.step else "")
    if error is None:
        return job.reason
    text = f"{error.kind}: {error.message}".strip(": ").partition("\n")[0]
    return f"{job.reason or error.reason}: {text[:80]}".strip(": ")


def queues(asked: Namespace) -> int:
    """Show every queue's depth by state, and how long its oldest ready job has been waiting."""
    with open_shared(asked.app) as queue:
        counts = queue.stats().queues
    if asked.json:
        say(as_json({"queues": counts}))
        return OK
    rows = (
        (c.queue, *(getattr(c, state) for state in STATES), ago(c.oldest_ready_age), "paused" if c.paused else None)
        for c in counts
    )
    say(table(("QUEUE", *map(str.upper, STATES), "OLDEST READY", ""), rows) if counts else "no queue has jobs")
    return OK


def stats(asked: Namespace) -> int:
    """Show how much work there is in all, and who does it."""
    with open_shared(asked.app) as queue:
        found = queue.stats()
        now = queue.clock.time()
    totals = {state: sum(getattr(count, state) for count in found.queues) for state in STATES}
    oldest = max((c.oldest_ready_age for c in found.queues if c.oldest_ready_age is not None), default=None)
    if asked.json:
        say(as_json({"totals": totals, "oldest_ready_age": oldest, "queues": found.queues, "workers": found.workers}))
        return OK
    say(table(("JOBS", *map(str.upper, STATES), "OLDEST READY"), [("", *totals.values(), ago(oldest))]))
    rows = (
        (
            w.id,
            w.host,
            w.pid,
            f"{len(w.running)}/{w.concurrency}",
            _pace(w),
            ",".join(w.queues),
            ago(now - w.started_at),
        )
        for w in found.workers
    )
    heads = ("WORKER", "HOST", "PID", "RUNNING", "DONE/S", "QUEUES", "UP")
    say("\n" + (table(heads, rows) if found.workers else "no worker is alive"))
    return OK


def _pace(worker: WorkerInfo) -> str:
    failed = worker.failed_per_second
    return f"{worker.completed_per_second:,.1f}" + (f" ({failed:,.1f} failed)" if failed else "")


def drivers(asked: Namespace) -> int:
    """Show which backends can be used here, what each can do, and which extra brings the others."""
    installed = [_driver(scheme, point) for scheme, point in sorted(available().items())]
    missing = {scheme: f"pip install 'queuekit[{extra}]'" for scheme, extra in EXTRAS.items()}
    missing = {scheme: how for scheme, how in missing.items() if scheme not in available()}
    if asked.json:
        say(as_json({"installed": installed, "missing": missing}))
        return OK
    rows = [(f"{d['scheme']}://", d["package"], d["error"] or " ".join(d["features"])) for d in installed]
    rows += [(f"{scheme}://", None, f"not installed: {how}") for scheme, how in missing.items()]
    say(table(("SCHEME", "PACKAGE", "FEATURES"), rows))
    return OK


def _driver(scheme: str, point: EntryPoint) -> dict[str, Any]:
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else None
    facts: dict[str, Any] = {"scheme": scheme, "package": package, "features": [], "error": None}
    try:
        driver = point.load()
    except Exception as error:  # one broken driver must not hide the others
        return facts | {"error": f"broken: {type(error).__name__}: {error}"}
    return facts | {"features": [name for name, protocol in FEATURES.items() if isinstance(driver, protocol)]}
