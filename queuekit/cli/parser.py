"""The command line's grammar."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from queuekit import __version__
from queuekit.cli.exits import MEANINGS
from queuekit.durations import checked_name, seconds, whole
from queuekit.errors import ConfigurationError

__all__ = ["parser"]

T = TypeVar("T")
Run = Callable[[Namespace], int]
STATES = ("pending", "scheduled", "running", "completed", "failed", "cancelled")


def parser() -> ArgumentParser:
    """Return the parser of `queuekit`; what it parses has `run`, the command's function."""
    top = ArgumentParser(
        prog="queuekit",
        description="Background jobs for Python with guarantees that can be checked.",
        epilog="exit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in MEANINGS.items()),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"queuekit {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _worker(_command(commands, "worker", "worker", "work off queues in supervised processes"))
    _jobs(_command(commands, "jobs", "show", "list jobs"))
    _command(commands, "queues", "show", "show each queue's depth by state")
    _command(commands, "stats", "show", "show how much work there is and which workers are alive")
    _command(commands, "drivers", "show", "show which backends can be used here", app=False)
    _doctor(_command(commands, "doctor", "doctor", "say what the backend's settings promise", app=False))
    _migrate(_command(commands, "migrate", "migrate", "make or update the backend's tables", app=False))
    _wait(_command(commands, "wait", "wait", "block until jobs have ended, and say how"))
    _move(_command(commands, "move", "move", "move waiting and delayed jobs to another backend", app=False))
    return top


def _command(commands: Any, name: str, home: str, text: str, *, app: bool = True) -> ArgumentParser:
    made: ArgumentParser = commands.add_parser(name, help=text, description=f"{text}.".capitalize(), allow_abbrev=False)
    made.set_defaults(run=_loaded_late(home, name))
    if app:
        made.add_argument("app", metavar="app:queue", help="the module, and the Queue object in it")
    made.add_argument("--json", action="store_true", help="write JSON to stdout, for scripts")
    return made


def _loaded_late(home: str, name: str) -> Run:
    """Return a command that imports its module when it runs: a supervisor holds no code that only looks at jobs."""

    def run(asked: Namespace) -> int:
        code: int = getattr(import_module(f"queuekit.cli.{home}"), name)(asked)
        return code

    return run


def _worker(made: ArgumentParser) -> None:
    add = made.add_argument
    add("--concurrency", type=_whole, default=10, metavar="N", help="jobs at once in each process (10)")
    add("--processes", type=_whole, default=1, metavar="N", help="processes (1)")
    add(
        "--queues", type=_weights, metavar="high:3,default:1", help="queues with their weights (all that the app knows)"
    )
    add("--lease", type=_positive, default=30.0, metavar="SECONDS", help="silence after which jobs go to others (30)")
    add("--grace", type=_seconds, default=30.0, metavar="SECONDS", help="time for running jobs when stopped (30)")
    add("--max-jobs", type=_whole, metavar="N", help="replace a process after about so many jobs")
    add("--max-memory", type=_whole, metavar="MIB", help="replace a process that takes more memory")
    add("--reload", action="store_true", help="restart when a file of the app changes (for development)")


def _doctor(made: ArgumentParser) -> None:
    add = made.add_argument
    add("target", nargs="?", metavar="app:queue|URL", help="what to look at (the installation alone)")
    add("--namespace", type=_name, metavar="NAME", help="the namespace to look at, with a URL (queuekit)")
    add("--concurrency", type=_whole, default=10, metavar="N", help="jobs at once in one process (10)")
    add(
        "--fail-on",
        choices=("warning", "error"),
        default="warning",
        help="the mildest level that makes the exit code 1 (warning)",
    )


def _migrate(made: ArgumentParser) -> None:
    made.add_argument("target", metavar="app:queue|URL", help="whose tables")
    made.add_argument(
        "--namespace", type=_name, metavar="NAME", help="the namespace of the tables, with a URL (queuekit)"
    )
    made.add_argument("--check", action="store_true", help="only name the steps that are missing")


def _jobs(made: ArgumentParser) -> None:
    made.add_argument("--state", action="append", choices=STATES, help="only these; may be given several times")
    _filters(made)
    made.add_argument("--search", metavar="TEXT", help="only jobs that contain this text")
    made.add_argument("--limit", type=_whole, default=50, metavar="N", help="jobs on one page (50)")
    made.add_argument("--after", metavar="CURSOR", help="the next page: what the last one named")


def _wait(made: ArgumentParser) -> None:
    _filters(made)
    made.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="give up after so long (never)")


def _move(made: ArgumentParser) -> None:
    add = made.add_argument
    add("source", metavar="FROM", help="the URL, or app:queue, of the backend that the jobs are in")
    add("target", metavar="TO", help="the URL, or app:queue, of the one that they go to")
    add(
        "--queue", action="append", type=_name, metavar="NAME", help="only this queue; may be given several times (all)"
    )
    add("--namespace", type=_name, metavar="NAME", help="the namespace of those that are URLs (queuekit)")
    add("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="wait so long for running jobs (60)")


def _filters(made: ArgumentParser) -> None:
    made.add_argument("--queue", type=_name, metavar="NAME", help="only jobs of this queue")
    made.add_argument("--type", metavar="NAME", help="only jobs of this type")
    made.add_argument("--tag", metavar="TAG", help="only jobs with this tag")


# ------------------------------------------------------------------------------------------------ values of options


def _checked(call: Callable[[], T]) -> T:
    try:
        return call()
    except (ConfigurationError, ValueError) as error:
        raise ArgumentTypeError(str(error)) from error


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        message = f"{text!r} is refused: give a whole number from 1 up"
        raise ArgumentTypeError(message)
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        message = f"{text!r} is refused: give seconds as a number"
        raise ArgumentTypeError(message) from None


def _seconds(text: str) -> float:
    return _checked(lambda: seconds("time", _number(text)))


def _positive(text: str) -> float:
    return _checked(lambda: seconds("time", _number(text), zero=False))


def _name(text: str) -> str:
    return _checked(lambda: checked_name("name", text))


def _weights(text: str) -> dict[str, int]:
    """Read `high:3,default:1`; a name alone weighs 1."""
    weights: dict[str, int] = {}
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        if colon and not weight.isdecimal():
            message = f"{part!r} is refused: write a queue's name and its weight, such as high:3,default:1"
            raise ArgumentTypeError(message)
        if _name(name) in weights:
            message = f"{name!r} is named twice"
            raise ArgumentTypeError(message)
        weights[name] = _weight(name, int(weight) if colon else 1)
    return weights


def _weight(name: str, weight: int) -> int:
    return _checked(lambda: whole(f"the weight of {name}", weight, least=1, most=1000))
