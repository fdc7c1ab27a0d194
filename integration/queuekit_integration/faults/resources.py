"""Limits of the kernel on a running process, set from outside and lifted again. Linux alone."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["few_files", "little_memory"]


@contextlib.contextmanager
def few_files(pid: int, *, more: int = 0) -> Iterator[None]:
    """Let a process open only so many files more than it has now."""
    have = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    with _limited(pid, resource.RLIMIT_NOFILE, have + more):
        yield


@contextlib.contextmanager
def little_memory(pid: int, *, more: int) -> Iterator[None]:
    """Let a process take only so many bytes of address space more than it has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[0])
    with _limited(pid, resource.RLIMIT_AS, pages * resource.getpagesize() + more):
        yield


@contextlib.contextmanager
def _limited(pid: int, what: int, most: int) -> Iterator[None]:
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it died of the limit
            resource.prlimit(pid, what, (soft, hard))
