"""A disk that is full: a file system of a few megabytes in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from queuekit_integration.servers import CannotCauseError
from queuekit_integration.servers.guard import guard_folder, guard_mount

__all__ = ["SmallDisk"]

SUDO = ["sudo", "--non-interactive"]


class SmallDisk:
    """A tmpfs of so many bytes, as a folder; `fill` takes what is free and `free` gives it back. Needs root, or sudo."""

    def __init__(self, size: int) -> None:
        if reason := self.unavailable():
            raise CannotCauseError(reason)
        self.path = Path(tempfile.mkdtemp(prefix="queuekit-disk-"))
        guard_folder(self.path)
        guard_mount(self.path)
        self._as_root("mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(self.path))

    @staticmethod
    def unavailable() -> str | None:
        """Return why no disk can be made here; None where one can."""
        if os.geteuid() == 0:
            return None
        allowed = (
            shutil.which("sudo") and subprocess.run([*SUDO, "true"], check=False, capture_output=True).returncode == 0
        )
        return None if allowed else "a small disk is a mount, and only root, or whom sudo asks no password, can mount"

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
        self._as_root("umount", "-l", str(self.path))
        self.path.rmdir()

    def _as_root(self, *command: str) -> None:
        subprocess.run([*([] if os.geteuid() == 0 else SUDO), *command], check=True)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
