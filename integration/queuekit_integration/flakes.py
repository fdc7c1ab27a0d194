"""Repeats the timing-sensitive scenarios and prints failures with the exact one-sided 95 % bound.

    python -m queuekit_integration.flakes [ROUNDS] [--all] [--only WORD] [--driver NAME] [--seconds N]
        [--at-once N] [--calm] [--out FILE]

Every second round runs beside two processes that burn CPU, unless `--calm` says otherwise. A cell that hung, or whose process died, leaves no result: that counts
as its failure, and a round that gave none at all fails the run.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from queuekit_integration.faults import burning
from queuekit_integration.guarantees.results import read_results
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses import harness, names
from queuekit_integration.registry import Scenario, load
from queuekit_integration.servers.tree import end_tree

__all__ = ["Tally", "exact_bound"]

Cell: TypeAlias = tuple[str, str]
"""A scenario's id and a column."""
TAIL = 4000
"""Characters of a broken round's output that are shown."""


def exact_bound(clean: int) -> float:
    """Return the flake rate that so many clean runs exclude with 95 % confidence: 1 - 0.05 ** (1/n)."""
    return 1.0 - 0.05 ** (1.0 / clean) if clean > 0 else 1.0


class Tally:
    """Runs, failures and missing results by cell."""

    def __init__(self, expected: Iterable[Cell]) -> None:
        self.expected = frozenset(expected)
        self.runs: Counter[Cell] = Counter()
        self.failures: Counter[Cell] = Counter()
        self.hung: Counter[Cell] = Counter()
        """Failures that left no result."""
        self.not_run: Counter[Cell] = Counter()

    def add(self, outcomes: Iterable[tuple[Cell, str]]) -> None:
        """Count one round: what each cell came to, and which said nothing."""
        said: set[Cell] = set()
        for cell, outcome in outcomes:
            said.add(cell)
            if outcome == "not_run":
                self.not_run[cell] += 1
                continue
            self.runs[cell] += 1
            self.failures[cell] += outcome == "failed"
        for cell in self.expected - said:
            self.runs[cell] += 1
            self.failures[cell] += 1
            self.hung[cell] += 1

    def __str__(self) -> str:
        return f"{self.runs.total()} runs, {self.failed} failed, {self.hung.total()} without a result"

    @property
    def failed(self) -> int:
        """Failures in all."""
        return self.failures.total()

    def lines(self) -> list[str]:
        """Return one line a cell."""
        lines = [self._line(cell, count) for cell, count in sorted(self.runs.items())]
        return lines + [f"{id:<36} {column:<10} not run here" for id, column in sorted(self.not_run)]

    def _line(self, cell: Cell, count: int) -> str:
        failed, hung = self.failures[cell], self.hung[cell]
        bound = f"below {exact_bound(count):.1%}" if not failed else f"{failed / count:.1%}"
        without = f", {hung} of them without a result" if hung else ""
        return f"{cell[0]:<36} {cell[1]:<10} {count:>4} runs {failed:>3} failed{without}   {bound}"


def one_round(
    results: Path, chosen: list[str], columns: list[str], *, seconds: float, stressed: bool, at_once: int = 2
) -> str | None:
    """Run the chosen scenarios once; return what was wrong with the round itself, if anything."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(at_once), "-p", "queuekit_integration.plugin"]
    command += [str(Path(__file__).parent / "catalogue"), "--queuekit-results", str(results)]
    command += [word for name in columns for word in ("--queuekit-driver", name)]
    command += ["-k", " or ".join(chosen)] if chosen else []
    with burning(2) if stressed else contextlib.nullcontext(), tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            end_tree(process.pid)
            process.wait()
            code = None
        output.seek(0)
        said = output.read().decode("utf-8", "replace")[-TAIL:]
    if code in {0, 1} and results.exists():
        return None
    return f"{said}\n{'it was still running' if code is None else f'it ended with code {code}'}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    parser.add_argument("--all", action="store_true", help="every scenario, not only the timing-sensitive ones")
    parser.add_argument("--only", action="append", default=[], help="those whose function's name contains this")
    parser.add_argument("--driver", action="append", help="a column's name (default: all installed)")
    parser.add_argument("--seconds", type=float, default=1200.0, help="a round that takes longer is ended, and failed")
    parser.add_argument("--at-once", type=int, default=2, help="scenarios that run beside each other")
    parser.add_argument("--calm", action="store_true", help="no processes that burn CPU in any round")
    parser.add_argument("--out", type=Path, help="a file for the closing lines")
    return parser.parse_args()


def main() -> int:
    """Repeat, count, print; 1 when anything failed, hung or gave no result."""
    wanted = arguments()
    columns = wanted.driver or list(names())
    chosen = [s for s in load().values() if (wanted.all or s.timing) and _named(s, wanted.only)]
    kinds = [harness(name) for name in columns]
    tally = Tally((s.id, _column(kind)) for s in chosen for kind in kinds)
    broken = 0
    for number in range(wanted.rounds):
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.jsonl"
            words = [] if wanted.all and not wanted.only else [s.name for s in chosen]
            stressed = number % 2 == 1 and not wanted.calm
            wrong = one_round(
                results, words, columns, at_once=wanted.at_once, seconds=wanted.seconds, stressed=stressed
            )
            read = read_results(results) if results.exists() else []
        tally.add(((r.scenario, r.column), r.outcome) for r in read)
        print("".join(f"{r.scenario} {r.column}: {r.detail}\n" for r in read if r.outcome == "failed"), end="")
        broken += wrong is not None
        print(f"round {number + 1} of {wanted.rounds}: {tally.failed} failures so far{wrong or ''}", flush=True)
    report = "\n".join([*tally.lines(), f"{tally}, {broken} rounds broken"])
    print(report)
    if wanted.out:
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        wanted.out.write_text(f"{report}\n")
    return 1 if tally.failed or broken or not tally.runs else 0


def _named(scenario: Scenario, words: list[str]) -> bool:
    return not words or any(word in scenario.function for word in words)


def _column(kind: type[Harness]) -> str:
    return f"{kind.name}:{kind.profile}" if kind.profile else kind.name


if __name__ == "__main__":
    raise SystemExit(main())
