"""The command line: `queuekit worker app:queue` and the commands that look at jobs.

Exit codes are in `queuekit.cli.exits`. Nothing else of queuekit imports this package.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default this process's own; return the exit code."""
    from queuekit.cli.main import run  # noqa: PLC0415 - a worker's child imports this package, and needs no parser

    return run(arguments)
