"""Ctrl-C, or the timeout of a handler, at each step of some code at which CPython lets an exception of another's come."""

from __future__ import annotations

import contextlib
import ctypes
import dis
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

__all__ = ["interrupted_at_every_step"]


class Step:
    """Raises `KeyboardInterrupt` at one step of the code in some files, counted from 1.

    CPython looks for such exceptions when a function begins, behind each call, and where a loop turns back; nowhere else.
    """

    def __init__(self, number: int, files: Sequence[str]) -> None:
        self._number = number
        self._files = tuple(files)
        self._steps = 0
        self._before: dict[FrameType, str] = {}
        """The last operation of each frame."""

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """Watch functions of these files, operation by operation."""
        if not frame.f_code.co_filename.endswith(self._files):
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if (
                dis.opname[frame.f_code.co_code[max(0, frame.f_lasti)]] != "YIELD_VALUE"
            ):  # a generator that is only to end
                self._count()
        elif event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(("CALL", "JUMP_BACKWARD")):
                self._count()
        elif event == "return":
            self._before.pop(frame, None)
        return self.trace

    def _count(self) -> None:
        self._steps += 1
        if self._steps == self._number:
            self._before.clear()  # a frame that is kept here would keep what it has
            raise KeyboardInterrupt


def interrupted_at_every_step(call: Callable[[], object], files: Sequence[str]) -> Iterator[int]:
    """Call it again and again on this thread, each time interrupted one step later, until it ends by itself; yield after each.

    `files` are the ends of the paths of the code that is interrupted.
    """
    number, whole = 0, False
    while not whole:
        number += 1
        whole = _ends(call, Step(number, files))
        yield number


def _ends(call: Callable[[], object], step: Step) -> bool:
    """Whether the call ended before it came to that step."""
    usual = sys.gettrace()
    _forget_what_waits()
    sys.settrace(step.trace)
    try:
        call()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(usual)
    return True


def _forget_what_waits() -> None:
    """Let no exception that was sent to another thread wait for it any more, as one does that blocks for good.

    CPython 3.11 looks for it before each function that is traced, and again before the same one as long as it waits: it stands still, deaf to
    signals. One that arrives here ends the waiting of all.
    """
    with contextlib.suppress(KeyboardInterrupt):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(threading.get_ident()), ctypes.py_object(KeyboardInterrupt)
        )
        while True:
            pass
