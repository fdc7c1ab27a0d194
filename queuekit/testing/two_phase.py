"""Tests in two runs: the first dispatches and remembers, `queuekit wait` blocks in between, the second looks at the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from queuekit.handle import JobHandle
from queuekit.queue import Queue

__all__ = ["TwoPhase"]


class TwoPhase:
    """Handles by name, kept in a file between the runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, name: str, handle: JobHandle[Any]) -> None:
        """Remember a handle for the second run."""
        kept = self._read()
        kept[name] = handle.id
        self._path.write_text(json.dumps(kept, indent=1, sort_keys=True), "utf-8")

    def handle(self, name: str, queue: Queue) -> JobHandle[Any]:
        """Return the handle that the first run remembered; raises `LookupError` when it did not."""
        kept = self._read()
        if name not in kept:
            message = f"no handle named {name!r} in {self._path}: run the tests marked `preparation` first"
            raise LookupError(message)
        return JobHandle(queue, kept[name])

    def _read(self) -> dict[str, str]:
        kept: dict[str, str] = json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
        return kept
