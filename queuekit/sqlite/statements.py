"""The SQL statements, each a file named for its transition, made out for one namespace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).parent
NAMES = tuple(path.stem for path in sorted((_FOLDER / "sql").glob("*.sql")))


class Statements:
    """`statements["lend"]` is the text of `sql/lend.sql` for one namespace."""

    def __init__(self, namespace: str) -> None:
        self._texts = {name: _read(_FOLDER / "sql" / f"{name}.sql", namespace) for name in NAMES}

    def __getitem__(self, name: str) -> str:
        return self._texts[name]


def migrations(namespace: str) -> list[tuple[int, str, list[str]]]:
    """Return number, name and statements of every migration, in order."""
    found = []
    for path in sorted((_FOLDER / "migrations").glob("*.sql")):
        statements = [part.strip() for part in _read(path, namespace).split(";\n") if part.strip()]
        found.append((int(path.stem.split("_")[0]), path.stem, statements))
    return found


def listed(values: Iterable[int] | Iterable[str]) -> str:
    """Return numbers or texts as a JSON array, for `json_each`."""
    return msgspec.json.encode(list(values)).decode()


def _read(path: Path, namespace: str) -> str:
    text = "\n".join(line for line in path.read_text("utf-8").splitlines() if not line.startswith("--"))
    return text.replace("{ns}", namespace) + "\n"
