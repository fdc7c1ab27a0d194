"""The SQL statements, each a file named for its transition, made out for one schema and one kind of clock."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
NAMES = tuple(path.stem for path in sorted((_FOLDER / "sql").glob("*.sql")))
SERVER_NOW = "(SELECT clock_timestamp())"
"""The server's clock; as a subquery, so that the planner takes it for a constant and may use an index."""
GIVEN_NOW = "(SELECT to_timestamp(%(now)s::double precision))"
"""The caller's clock, for tests that move time."""
NEXT_IN_TIME = """(SELECT (extract(epoch FROM {now}) * 1000)::bigint << 22 | (nextval('{schema}.tokens') & 4194303))"""
"""A number never used before, also by claims of the same millisecond, and after the database was restored from a backup."""


class Statements:
    """`statements["lend"]` is the text of `sql/lend.sql` for one schema."""

    def __init__(self, schema: str, *, given_now: bool) -> None:
        now = GIVEN_NOW if given_now else SERVER_NOW
        self._texts = {name: _read(_FOLDER / "sql" / f"{name}.sql", schema).replace("{now}", now) for name in NAMES}
        records = self._texts["records"]
        self._texts["records"] = records.replace("{which}", "true")
        self._texts["records_by_id"] = records.replace("{which}", "id = ANY(%(ids)s::uuid[])")

    def __getitem__(self, name: str) -> str:
        return self._texts[name]


def migrations(schema: str) -> list[tuple[int, str, str]]:
    """Return number, name and text of every migration, in order."""
    return [
        (int(path.stem.split("_")[0]), path.stem, _read(path, schema))
        for path in sorted((_FOLDER / "migrations").glob("*.sql"))
    ]


def _read(path: Path, schema: str) -> str:
    text = "\n".join(line for line in path.read_text("utf-8").splitlines() if not line.startswith("--"))
    return text.replace("{token}", NEXT_IN_TIME).replace("{schema}", f'"{schema}"') + "\n"
