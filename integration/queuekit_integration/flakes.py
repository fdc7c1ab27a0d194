"""Repeats the timing-sensitive scenarios and prints failures with the exact one-sided 95 % bound.

    python -m queuekit_integration.flakes [ROUNDS] [--all] [--driver NAME]

Every second round runs beside two processes that burn CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from queuekit_integration.guarantees.results import read_results
from queuekit_integration.registry import load

__all__ = ["exact_bound"]

BURN = "while True: sum(range(10000))"


def exact_bound(clean: int) -> float:
    """Return the flake rate that so many clean runs exclude with 95 % confidence: 1 - 0.05 ** (1/n)."""
    return 1.0 - 0.05 ** (1.0 / clean) if clean > 0 else 1.0


def one_round(results: Path, chosen: list[str], driver: list[str], *, stressed: bool) -> None:
    """Run the chosen scenarios once."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(2 if stressed else 0)]
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "queuekit_integration.plugin"]
        command += [str(Path(__file__).parent / "catalogue"), "--queuekit-results", str(results)]
        command += [word for name in driver for word in ("--queuekit-driver", name)]
        command += ["-k", " or ".join(chosen)] if chosen else []
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main() -> int:
    """Repeat, count, print; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    parser.add_argument("--all", action="store_true", help="every scenario, not only the timing-sensitive ones")
    parser.add_argument("--driver", action="append", default=[])
    wanted = parser.parse_args()
    chosen = [] if wanted.all else [s.name for s in load().values() if s.timing]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        for number in range(wanted.rounds):
            one_round(results, chosen, wanted.driver, stressed=number % 2 == 1)
            print(f"round {number + 1} of {wanted.rounds}", flush=True)
        read = read_results(results)
    runs, failures = (
        Counter((r.scenario, r.driver) for r in read),
        Counter((r.scenario, r.driver) for r in read if r.outcome == "failed"),
    )
    for cell, count in sorted(runs.items()):
        failed = failures[cell]
        bound = f"below {exact_bound(count):.1%}" if not failed else f"{failed / count:.1%}"
        print(f"{cell[0]:<36} {cell[1]:<8} {count:>4} runs {failed:>3} failed   {bound}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
