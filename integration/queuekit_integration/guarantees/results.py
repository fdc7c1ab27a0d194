"""What a run of the catalogue said, one line a cell."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of one run."""

    scenario: str
    name: str
    driver: str
    profile: str
    outcome: str
    """holds, refused, no_server, no_file, no_keyspace, no_sessions, no_clock, not_run, failed; or, with its sentence, `weaker: …`, `stronger: …` or `gap: …`."""
    duration: float
    detail: str = ""
    """Why it failed."""

    @property
    def column(self) -> str:
        """The matrix column."""
        return f"{self.driver}:{self.profile}" if self.profile else self.driver


def read_results(*paths: Path) -> list[Result]:
    """Read the results of one or several runs."""
    decoder = msgspec.json.Decoder(Result)
    lines = [line for path in paths for line in path.read_bytes().splitlines()]
    return [decoder.decode(line) for line in lines if line.strip()]
