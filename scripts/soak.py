"""Runs mixed load under faults for a long time, on every column that can run here: `python scripts/soak.py --minutes 60`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from queuekit_integration.columns import describe
from queuekit_integration.harnesses import names

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "soak.jsonl"
SPAN = 600.0
"""Seconds of one cell at most: its history is judged at its end, and must fit into memory."""


def soak(column: str, seconds: float) -> int:
    """Run the scenario for so long on one column; return pytest's code."""
    command = [sys.executable, "-m", "pytest", "-p", "queuekit_integration.plugin", "--timeout", str(seconds * 5 + 300)]
    command += ["integration/queuekit_integration/catalogue", "-k", "soak_mixed_load", "--queuekit-driver", column]
    command += ["--queuekit-results", str(RESULTS)]
    environment = {**os.environ, "QUEUEKIT_SOAK_SECONDS": str(seconds)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main() -> int:
    """Soak each column in turn until the time is over; 1 when any round failed or none ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="in all")
    parser.add_argument("--driver", action="append", help="a column's name (default: all that can run here)")
    wanted = parser.parse_args()
    columns = wanted.driver or [name for name in names() if describe(name)[0]]
    RESULTS.parent.mkdir(exist_ok=True)
    span = min(SPAN, wanted.minutes * 60 / len(columns))
    end = time.monotonic() + wanted.minutes * 60
    rounds = failed = 0
    while rounds < len(columns) or time.monotonic() + span / 2 < end:
        column = columns[rounds % len(columns)]
        failed += soak(column, span) != 0
        rounds += 1
        print(f"{rounds} rounds of {span:.0f} s, {failed} failed; the last on {column}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
