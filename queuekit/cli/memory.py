"""How much memory this process occupies."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["resident_mib"]

_STATM = Path("/proc/self/statm")


def resident_mib() -> float:
    """Return this process's resident memory in MiB: now on Linux, elsewhere the most that it ever was."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
