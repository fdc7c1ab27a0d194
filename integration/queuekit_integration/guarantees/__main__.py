"""`python -m queuekit_integration.guarantees generate|check --results results.jsonl --docs docs`.

A column of which these results have nothing stays as it is committed, and that is said; where `CI` is set, `check` fails for it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path

from queuekit_integration.guarantees.page import (
    Verdicts,
    columns_of,
    committed_verdicts,
    data_of,
    page_of,
    verdicts,
)
from queuekit_integration.guarantees.results import read_results


def main() -> int:
    """Write the page, or compare it with what the run says."""
    parser = argparse.ArgumentParser(prog="guarantees", description=__doc__)
    parser.add_argument("verb", choices=["generate", "check"])
    parser.add_argument("--results", type=Path, required=True, nargs="+")
    parser.add_argument("--docs", type=Path, required=True)
    wanted = parser.parse_args()
    found, kept = with_kept_columns(verdicts(read_results(*wanted.results)), wanted.docs / "guarantees.json")
    for column in kept:
        say(f"column {column}: no result in this run; it stays as committed")
    made = {"guarantees.md": page_of(found), "guarantees.json": data_of(found)}
    if wanted.verb == "generate":
        for name, text in made.items():
            (wanted.docs / name).write_text(text, "utf-8")
        return 0
    missing = bool(kept and os.environ.get("CI"))
    return max(missing, *(differs(wanted.docs / name, text) for name, text in made.items()))


def with_kept_columns(found: Verdicts, committed: Path) -> tuple[Verdicts, list[str]]:
    """Return the verdicts, those of columns that this run did not touch included, and which those are."""
    before = committed_verdicts(committed)
    kept = [column for column in columns_of(before) if column not in columns_of(found)]
    return found | {cell: said for cell, said in before.items() if cell[1] in kept}, kept


def differs(path: Path, text: str) -> int:
    """Compare a committed file with what it should say; print the difference."""
    committed = path.read_text("utf-8") if path.exists() else ""
    if committed == text:
        return 0
    lines = difflib.unified_diff(committed.splitlines(), text.splitlines(), str(path), "this run", lineterm="", n=0)
    say("\n".join(lines))
    return 1


def say(text: str) -> None:
    """Print."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
