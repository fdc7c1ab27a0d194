"""What a run of the catalogue said, one line a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of one run."""

    scenario: str
    name: str
    driver: str
    profile: str
    outcome: Literal["holds", "refused", "no_server", "no_file", "not_run", "failed"]
    duration: float


def read_results(path: Path) -> list[Result]:
    """Read a results file."""
    decoder = msgspec.json.Decoder(Result)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
