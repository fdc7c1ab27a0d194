"""The command `migrate`: make or update a backend's tables, as the role that may."""

from __future__ import annotations

from argparse import Namespace

from queuekit.cli.app import queue_at
from queuekit.cli.exits import OK
from queuekit.cli.output import as_json, say

__all__ = ["migrate"]


def migrate(asked: Namespace) -> int:
    """Apply what is missing, or with --check only name it, and say which steps those are."""
    with queue_at(asked.target, asked.namespace) as queue:  # not opened: a backend without its tables refuses that
        names = queue.migrations() if asked.check else queue.migrate()
    if asked.json:
        say(as_json({"missing" if asked.check else "applied": names}))
    else:
        say("\n".join(f"{'missing' if asked.check else 'applied'}: {name}" for name in names) or "nothing to do")
    return OK
