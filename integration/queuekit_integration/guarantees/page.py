"""The page and its data: verdicts, statements and links; no counts, dates or commits, which belong to a run."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from queuekit_integration.guarantees.plan import unanswered
from queuekit_integration.guarantees.results import Result
from queuekit_integration.harnesses import OWN
from queuekit_integration.mutants import MUTANTS
from queuekit_integration.registry import SCENARIOS, load

BROKEN = "Each breaks one promise, passes what any queue passes, and fails the scenario that stands beside it."
Verdicts: TypeAlias = dict[tuple[str, str], str]
"""What is said of a scenario in a column."""
SIGNS = {
    "holds": "✔",
    "refused": "refused",
    "no_server": "–",
    "no_file": "–",
    "no_keyspace": "–",
    "no_sessions": "–",
    "no_clock": "–",
    "weaker": "weaker",
    "stronger": "stronger",
    "gap": "gap",
    "failed": "✘",
    "not_run": "?",
    "missing": "?",
}
HEAD = """# Guarantees

Made from the results of a run of the catalogue, never written by hand; CI fails when this page differs from what its run
says. **✔** holds: the scenario passed in the run that made this page. **refused**: the driver cannot do it, and the scenario's
twin passed, which asserts that it says so before anything is stored. **weaker**, **gap**: less than
the statement, or not yet; **stronger**: more than it, as the fault that it speaks of is not felt; the sentence below its table says what instead, and the run showed just that. **–**: a fault of a server, of a file, of a key-value server, of a SQL server's sessions or of a backend's clock, and this driver was
seen to use none. **?**: no result. Every statement links to the scenario that
proves it.

`python -m pytest -p queuekit_integration.plugin --queuekit-driver memory` runs them here;
`--queuekit-driver your_package:YourHarness` on a driver of your own.
"""


def statements() -> dict[str, Any]:
    """Return the groups of statements; a statement without scenario, or the other way round, is an error."""
    load()
    read = tomllib.loads((Path(__file__).parent / "statements.toml").read_text("utf-8"))
    stated = {id for group in read["group"] for id in group["statements"]}
    if strange := stated - set(SCENARIOS):
        message = f"statements without a scenario: {', '.join(sorted(strange))}"
        raise ValueError(message)
    if silent := set(SCENARIOS) - stated:
        message = f"scenarios without a statement: {', '.join(sorted(silent))}"
        raise ValueError(message)
    return read


def verdicts(results: list[Result]) -> Verdicts:
    """Return the verdict of each cell; any failure outweighs a pass."""
    found: Verdicts = {}
    for result in results:
        cell = (result.scenario, result.column)
        if found.get(cell) != "failed":
            found[cell] = result.outcome
    return found


def committed_verdicts(path: Path) -> Verdicts:
    """Return what a committed guarantees.json says; nothing where there is none."""
    if not path.exists():
        return {}
    rows = msgspec.json.decode(path.read_bytes())["guarantees"]
    return {(row["scenario"], column): said for row in rows for column, said in row["verdicts"].items()}


def columns_of(found: Verdicts) -> list[str]:
    """Return the columns in their order: queuekit's own drivers first."""
    own = list(OWN)
    names = {column for _, column in found}
    return sorted(
        names, key=lambda name: (own.index(driver) if (driver := name.split(":")[0]) in own else len(own), name)
    )


def page_of(found: Verdicts) -> str:
    """Return the page."""
    read, columns = statements(), columns_of(found)
    lines = [HEAD]
    for group in read["group"]:
        lines += [f"## {group['title']}", "", f"| Statement | {' | '.join(columns)} | Scenario |"]
        lines += [f"|---|{'---|' * len(columns)}---|"]
        lines += [_row(id, text, found, columns) for id, text in group["statements"].items()]
        lines += ["", *_sentences(group["statements"], found, columns)]
    lines += ["## Broken on purpose", "", BROKEN, "", "| A driver that | is noticed by |", "|---|---|"]
    lines += [f"| {mutant.does} | [{mutant.killed_by}]({_link(mutant.killed_by)}) |" for mutant in MUTANTS]
    lines += [""]
    for title, rows in _others(read).items():
        lines += [f"## {title}", "", "| What | Why |", "|---|---|"]
        lines += [f"| {what} | {why} |" for what, why in rows.items()]
        lines += [""]
    return "\n".join(lines)


def _sentences(ids: Iterable[str], found: Verdicts, columns: list[str]) -> list[str]:
    """Return what stands below a group: the exact sentence of each column that promises less, or not yet."""
    said = [(id, column, found.get((id, column), "")) for id in ids for column in columns]
    lines = [f"- {id} on {column} is {text}" for id, column, text in said if ":" in text]
    return [*lines, ""] if lines else []


def _others(read: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return what has no scenario, with the reasons."""
    return {
        "What emulators cannot prove about Amazon SQS": read["emulated"],
        "Proven by other tests": unanswered("elsewhere"),
        "Not built yet, or not tested": {**read["later"], **unanswered("later")},
        "Not part of queuekit": unanswered("never"),
    }


def _row(id: str, text: str, found: Verdicts, columns: list[str]) -> str:
    signs = [SIGNS[found.get((id, column), "missing").split(":")[0]] for column in columns]
    return f"| {text} | {' | '.join(signs)} | [{id}]({_link(id)}) |"


def _link(id: str) -> str:
    file = Path(inspect.getfile(SCENARIOS[id].body)).name
    return f"../integration/queuekit_integration/catalogue/{file}"


def data_of(found: Verdicts) -> str:
    """Return the same as JSON, for programs."""
    read, columns = statements(), columns_of(found)
    rows = [
        {
            "scenario": id,
            "function": SCENARIOS[id].function,
            "group": group["title"],
            "statement": text,
            "verdicts": {column: found.get((id, column), "missing") for column in columns},
        }
        for group in read["group"]
        for id, text in group["statements"].items()
    ]
    return msgspec.json.format(msgspec.json.encode({"guarantees": rows, "others": _others(read)})).decode() + "\n"
