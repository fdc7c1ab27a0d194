"""How commands speak: tables or JSON on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["ago", "as_json", "say", "table", "tell"]


def say(text: str) -> None:
    """Write a result."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """Write a remark or an error, which no script reads."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_json(value: Any, *, indent: int = 2) -> str:
    """Return a value as JSON; what JSON has no form for becomes text."""
    import msgspec  # noqa: PLC0415 - a supervisor that reports in words needs none of it

    encoded = msgspec.json.encode(value, enc_hook=str)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return left-aligned columns, as wide as what is in them; None is shown as a dash."""
    lines = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def ago(seconds: float | None) -> str | None:
    """Return an age in the unit that suits it."""
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
