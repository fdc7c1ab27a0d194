"""Notices that a program's own files have changed, by looking at their modification times now and then."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Changes"]


class Changes:
    """Watches the files of every imported module below a directory; installed packages below it do not count."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._seen: dict[Path, int | None] = {}

    def look(self) -> Path | None:
        """Return a file that changed, appeared or vanished since it was first seen; None when none did."""
        self.watch(self._imported())
        return next((path for path, before in self._seen.items() if _stamp(path) != before), None)

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these files too, whether they exist yet or not."""
        for path in paths:
            if path not in self._seen and self._is_own(path):
                self._seen[path] = _stamp(path)

    def watch_failed(self, module: str, error: BaseException | None) -> None:
        """Watch what must change before a failed import can succeed: the module's file and those in the traceback."""
        base = self._root.joinpath(*module.split("."))
        self.watch([base.with_suffix(".py"), base / "__init__.py"])
        while error is not None:
            self.watch(Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
            if isinstance(error, SyntaxError) and error.filename:
                self.watch([Path(error.filename)])
            error = error.__cause__

    def _imported(self) -> Iterable[Path]:
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        return (Path(file) for file in files if file is not None)

    def _is_own(self, path: Path) -> bool:
        return path.is_relative_to(self._root) and "site-packages" not in path.parts


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
