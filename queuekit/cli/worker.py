"""The command `worker`: works off queues in supervised child processes."""

from __future__ import annotations

from argparse import Namespace

from queuekit.cli.report import Report
from queuekit.cli.settings import WorkerSettings
from queuekit.cli.supervisor import Supervisor

__all__ = ["worker"]


def worker(asked: Namespace) -> int:
    """Work until a signal comes."""
    settings = WorkerSettings(
        app=asked.app,
        concurrency=asked.concurrency,
        queues=asked.queues,
        lease=asked.lease,
        grace=asked.grace,
        max_jobs=asked.max_jobs,
        max_memory=asked.max_memory,
        reload=asked.reload,
        processes=asked.processes,
    )
    return Supervisor(settings, Report(json=asked.json)).run()
