"""What starts over in a forked child: locks that another thread may have held, and work of threads that are not there."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["restart_in_children"]


class _Restarts(Protocol):
    def start_over(self) -> None:
        """Forget the threads of the parent, and what they are about to do."""
        ...


_living: WeakSet[_Restarts] = WeakSet()


def restart_in_children(part: _Restarts) -> None:
    """Call `start_over` in each child of this process that is forked as long as `part` lives."""
    _living.add(part)


def _start_over() -> None:
    for part in list(_living):
        part.start_over()


os.register_at_fork(after_in_child=_start_over)
