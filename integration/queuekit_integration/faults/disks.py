"""A disk that is full: a file system of a few megabytes in memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from queuekit_integration.servers import ServerError
from queuekit_integration.servers.guard import guard_folder, guard_mount

__all__ = ["SmallDisk"]


class SmallDisk:
    """A tmpfs of so many bytes, as a folder; `fill` takes what is free and `free` gives it back. Needs root."""

    def __init__(self, size: int) -> None:
        if reason := self.unavailable():
            raise ServerError(reason)
        self.path = Path(tempfile.mkdtemp(prefix="queuekit-disk-"))
        guard_folder(self.path)
        guard_mount(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(self.path)], check=True)

    @staticmethod
    def unavailable() -> str | None:
        """Return why no disk can be made here; None where one can."""
        return None if os.geteuid() == 0 else "a small disk is a mount, and only root can mount"

    def fill(self) -> int:
        """Take all free space, and return how many bytes that were."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:  # full: that is the aim
            while file.write(b"\0" * 4096):
                pass
        return self._ballast.stat().st_size

    def free(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it; whoever still writes to it writes to nowhere."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)
        self.path.rmdir()

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
