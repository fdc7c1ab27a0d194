"""Neighbours that want the processor for themselves."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from queuekit_integration.servers.guard import guard_process

__all__ = ["burning"]

BURN = "while True: sum(range(10000))"


@contextlib.contextmanager
def burning(processes: int = 2) -> Iterator[list[int]]:
    """Let so many processes burn CPU meanwhile; gives their ids."""
    burners: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(processes):
            burners.append(subprocess.Popen([sys.executable, "-c", BURN]))
            guard_process(burners[-1].pid)
        yield [burner.pid for burner in burners]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
