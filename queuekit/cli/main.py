"""Runs a command, and turns errors that people can do something about into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from queuekit.cli.exits import INTERRUPTED, OK, UNAVAILABLE, USAGE
from queuekit.cli.output import tell
from queuekit.cli.parser import parser
from queuekit.errors import DriverError, QueuekitError

__all__ = ["run"]


def run(arguments: Sequence[str] | None) -> int:
    """Parse and run; argparse itself leaves with 2 for a wrong command line."""
    asked = parser().parse_args(arguments)
    try:
        code: int = asked.run(asked)
        sys.stdout.flush()
    except DriverError as error:
        return _refused(error, UNAVAILABLE)
    except QueuekitError as error:
        return _refused(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`queuekit jobs … | head`). What is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _refused(error: QueuekitError, code: int) -> int:
    tell(f"queuekit: {error}")
    return code
