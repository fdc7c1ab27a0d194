"""Runs the checks one after the other; says at the end what ran, for how long, and what could not run and why."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(PYTHON).parent
RESULTS = "results/results.jsonl"
"""What every catalogue stage of a run wrote."""
PART = "results/catalogue.jsonl"
PYTEST = [PYTHON, "-m", "pytest", "-n", "2"]
WAITING = [PYTHON, "-m", "pytest", "-n", "4"]
"""For tests that wait for servers more than they compute: more of them at once than there are cores."""
CATALOGUE = ["-p", "queuekit_integration.plugin", "integration/queuekit_integration/catalogue"]
CORE = ["tests", "--ignore=tests/test_docs.py"]
UNIT = [*CORE, *map(str, sorted(ROOT.glob("drivers/*/tests")))]
EMBEDDED = ["--queuekit-driver", "memory", "--queuekit-driver", "sqlite"]
SERVED = sorted(path.parent.name for path in ROOT.glob("drivers/*/pyproject.toml"))
"""Drivers that speak to a server: each has a column, and a stage that needs the server."""
PROGRAMS = ["pgbouncer"]
"""What single tests of a driver need besides its server."""
GUARANTEES = [PYTHON, "-m", "queuekit_integration.guarantees"]
COLUMNS = [PYTHON, "-m", "queuekit_integration.columns"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One check: a command that succeeds or fails."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    makes: str | None = None
    """A file that this stage writes anew, so an old one is removed first."""
    column: str | None = None
    """A column of the matrix that needs a server."""
    wants: tuple[str, ...] = ()
    """Servers and programs without which a part of it cannot run."""


def served(name: str) -> Stage:
    """Return the stage of the column of a driver with a server."""
    part = f"results/catalogue-{name}.jsonl"
    command = [*WAITING, *CATALOGUE, "--queuekit-driver", name, "--queuekit-results", part]
    wants = tuple(PROGRAMS) if name == "postgres" else ()
    return Stage(name=f"catalogue-{name}", command=command, makes=part, column=name, wants=wants)


# Quick ones first: whoever broke something learns it soon.
STAGES = [
    Stage(name="format", command=[str(BIN / "ruff"), "format", "--check", "."]),
    Stage(name="lint", command=[str(BIN / "ruff"), "check", "."]),
    Stage(name="imports", command=[str(BIN / "lint-imports")]),
    Stage(name="types", command=[PYTHON, "-m", "mypy"]),
    Stage(name="unit", command=[*WAITING, *UNIT], wants=(*SERVED, *PROGRAMS)),
    Stage(name="docs", command=[*PYTEST, "tests/test_docs.py"]),
    Stage(name="kernel", command=[*PYTEST, "integration/kernel"]),
    Stage(name="examples", command=[*PYTEST, "examples"], wants=("postgres",)),
    Stage(name="catalogue", command=[*PYTEST, *CATALOGUE, *EMBEDDED, "--queuekit-results", PART], makes=PART),
    *(served(name) for name in SERVED),
    # Its transport is one for tests, so it is no column of the page.
    Stage(name="pairing", command=[*PYTEST, *CATALOGUE, "--queuekit-driver", "carrier+sqlite"]),
    Stage(name="guarantees", command=[*GUARANTEES, "check", "--results", RESULTS, "--docs", "docs"]),
    Stage(
        name="race",
        command=[*PYTEST, *CATALOGUE, *EMBEDDED[:2], *CORE],
        environment={"QUEUEKIT_SWITCH_INTERVAL": "1e-6"},
    ),
    Stage(name="build", command=[PYTHON, "scripts/check_build.py"]),
]

NOT_RUN = {
    "catalogue on LocalStack's SQS": "it takes an environment of its own, and waits for late timers; nox -s localstack",
    "catalogue on SQS FIFO and on pairs of real backends": "nox -s catalogue has them, and CI's integration workflow runs them",
    "race on SQLite and on the drivers' own tests": "nox -s race has them",
    "catalogue behind PgBouncer": "FP-11 stands for it; nox -s catalogue has the column, of which FP-07 and ack_boundary_interrupted are open",
    "catalogue in containers": "it takes an engine and many images; nox -s containers",
    "unit tests on the other Pythons": f"this is {sys.version_info[0]}.{sys.version_info[1]}; nox -s tests has them all",
    "flake, soak, bench": "hours of repetition and figures are no gate; nox -s flake, nox -s soak, nox -s bench",
}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a stage."""

    stage: Stage
    code: int
    seconds: float
    missing: str = ""
    """Why it could not run."""

    @property
    def line(self) -> str:
        """Return the summary's line."""
        verdict = "ok" if self.code == 0 else f"FAILED ({self.code})"
        return f"  {self.stage.name:<18} {self.seconds:7.1f} s   {self.missing or verdict}"


def run(stage: Stage, extra: list[str]) -> Ran:
    """Run one stage with its output shown; nothing it starts can ask a question."""
    command = [*stage.command, *extra]
    shown = " ".join(command).replace(f"{BIN}{os.sep}", "")
    print(f"\n=== {stage.name}: {shown}", flush=True)
    if stage.makes:
        made = ROOT / stage.makes
        made.parent.mkdir(parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
    begun = time.monotonic()
    if stage.column and (reason := cannot_run(stage.column)):
        print(reason, flush=True)
        # Where nobody reads the reason, what is missing is a failure.
        code = 1 if os.environ.get("CI") else 0
        return Ran(stage=stage, code=code, seconds=time.monotonic() - begun, missing=f"COULD NOT RUN: {reason}")
    missing = [f"{name}: {why}" for name in stage.wants if (why := cannot_run(name))]
    environment = {**os.environ, **stage.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False)
    code = done.returncode or (1 if missing and os.environ.get("CI") else 0)
    said = f"{'ok' if done.returncode == 0 else f'FAILED ({done.returncode})'}, but COULD NOT RUN: {'; '.join(missing)}"
    return Ran(stage=stage, code=code, seconds=time.monotonic() - begun, missing=said if missing else "")


def cannot_run(column: str) -> str | None:
    """Return why a column's server cannot be had, after trying to install it where that is allowed; None where it can."""
    ok, package, reason = ask(column)
    if not ok and package != "-" and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {package} with apt", flush=True)
        # RUNLEVEL=1: the package must not start a server of its own, on the default port.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", *words], env=environment, stdin=subprocess.DEVNULL, check=False, stdout=subprocess.DEVNULL
            )
        ok, _, reason = ask(column)
    return None if ok else reason


def ask(column: str) -> tuple[bool, str, str]:
    """Return whether a column can run here, Debian's package that would help, and the reason."""
    done = subprocess.run([*COLUMNS, column], cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        return False, "-", done.stderr.strip()
    _, said, package, reason = done.stdout.strip().split(" ", 3)
    return said == "ok", package, reason


def collect(results: list[Ran]) -> None:
    """Put what the catalogue stages of this run wrote into one file."""
    parts = [ROOT / ran.stage.makes for ran in results if ran.stage.makes]
    if parts:
        (ROOT / RESULTS).write_bytes(b"".join(part.read_bytes() for part in parts if part.exists()))


def summary(results: list[Ran]) -> str:
    """Return the closing lines: what ran, what was left out by request, what cannot run here."""
    ran = {result.stage.name for result in results}
    left_out = [stage.name for stage in STAGES if stage.name not in ran]
    failed = [result.stage.name for result in results if result.code]
    lines = ["", "=== summary", *(result.line for result in results), "  not run:"]
    lines += [f"    not asked for: {', '.join(left_out)}"] if left_out else []
    lines += [f"    {name}: {reason}" for name, reason in NOT_RUN.items()]
    total = sum(result.seconds for result in results)
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    return "\n".join([*lines, f"  in {total:.0f} s {verdict}"])


def arguments() -> tuple[list[Stage], list[str]]:
    """Return the stages asked for, in the table's order, and what goes to their own command."""
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        prog="scripts/test", description=__doc__, epilog="What follows -- goes to the stages."
    )
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"one of {', '.join(names)}; all without any")
    wanted = parser.parse_args(given[:cut]).stages
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(names)}")
    extra = given[cut + 1 :]
    if extra and not wanted:
        parser.error("arguments after -- need the stages that they are meant for")
    return [stage for stage in STAGES if not wanted or stage.name in wanted], extra


def main() -> int:
    """Run what was asked for; 0 only if everything passed."""
    stages, extra = arguments()
    results: list[Ran] = []
    for stage in stages:
        results.append(run(stage, extra))
        collect(results)
    print(summary(results), flush=True)
    return 1 if any(result.code for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
