"""Handlers for `executor="process"`: another process finds them by module and name."""

from __future__ import annotations

import os

__all__ = ["leave_at_once", "never_end", "which_process"]


def which_process() -> int:
    """Return the id of the process that runs this."""
    return os.getpid()


def never_end() -> None:
    """Burn CPU for ever, whatever anybody asks."""
    while True:
        sum(range(1000))


def leave_at_once() -> None:
    """End the process without a word."""
    os._exit(3)
