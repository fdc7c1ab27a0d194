"""`python -m queuekit_integration.guarantees generate|check --results FILE… --docs docs [--keep|--complete]`.

`generate` writes what these results say, and nothing else: a column without any is not on the page, unless `--keep` lets those stay as they were committed.
`check` compares the committed page with the results: what they have nothing of stays as committed, and that is said; with `--complete` it fails for it.
"""

from __future__ import annotations

import argparse
import difflib
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
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--keep", action="store_true")
    wanted = parser.parse_args()
    found = verdicts(read_results(*wanted.results))
    committed = committed_verdicts(wanted.docs / "guarantees.json")
    kept = {cell: said for cell, said in committed.items() if cell not in found}
    if wanted.verb == "generate" and not wanted.keep:
        kept = {}
    for column in columns_of(kept):
        count = sum(cell[1] == column for cell in kept)
        what = f"{count} scenarios have" if column in columns_of(found) else "it has"
        say(f"column {column}: {what} no result in this run, and stay as committed")
    if wanted.verb == "generate":
        for name, text in pages(found | kept).items():
            (wanted.docs / name).write_text(text, "utf-8")
        return 0
    different = [differs(wanted.docs / name, text) for name, text in pages(found | kept).items()]
    return max(bool(kept and wanted.complete), *different)


def pages(found: Verdicts) -> dict[str, str]:
    """Return the page and its data, by file."""
    return {"guarantees.md": page_of(found), "guarantees.json": data_of(found)}


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
