"""`python -m queuekit_integration.guarantees generate|check --results results.jsonl --docs docs`."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from queuekit_integration.guarantees.page import data_of, page_of
from queuekit_integration.guarantees.results import read_results


def main() -> int:
    """Write the page, or compare it with what the run says."""
    parser = argparse.ArgumentParser(prog="guarantees", description=__doc__)
    parser.add_argument("verb", choices=["generate", "check"])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    wanted = parser.parse_args()
    results = read_results(wanted.results)
    made = {"guarantees.md": page_of(results), "guarantees.json": data_of(results)}
    if wanted.verb == "generate":
        for name, text in made.items():
            (wanted.docs / name).write_text(text, "utf-8")
        return 0
    return max(_differs(wanted.docs / name, text) for name, text in made.items())


def _differs(path: Path, text: str) -> int:
    committed = path.read_text("utf-8") if path.exists() else ""
    if committed == text:
        return 0
    difflib.unified_diff(committed.splitlines(), text.splitlines(), str(path), "this run", lineterm="")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
