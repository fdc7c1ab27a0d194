"""What a supervisor tells about its children: sentences on stderr, or lines of JSON on stdout."""

from __future__ import annotations

import signal
import sys
from typing import Any

from queuekit.cli.exits import MEANINGS, OK
from queuekit.cli.output import as_json, say, tell

__all__ = ["Report"]


class Report:
    """Speaks for one supervisor."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def started(self, number: int, pid: int) -> None:
        """Tell that a child was started."""
        self._say(f"child {number} is process {pid}", event="started", child=number, pid=pid)

    def left(self, number: int, pid: int, code: int, *, pause: float | None) -> None:
        """Tell that a child has ended, and is replaced after `pause` seconds, or not at all."""
        then = "" if pause is None else "; replaced at once" if pause == 0 else f"; replaced in {pause:.1f} s"
        text = f"child {number} (process {pid}) {_how(code)}{then}"
        self._say(text, event="left", child=number, pid=pid, code=code, pause=pause)

    def stopping(self, name: str, grace: float) -> None:
        """Tell that the first signal to stop has come."""
        text = f"{name}: running jobs have {grace:g} s to end; a second signal kills them"
        self._say(text, event="stopping", signal=name, grace=grace)

    def forced(self, name: str) -> None:
        """Tell that the second signal has come."""
        self._say(f"{name} again: killed", event="forced", signal=name)

    def _say(self, text: str, **facts: Any) -> None:
        if self._json:
            say(as_json(facts, indent=0))
            sys.stdout.flush()
        else:
            tell(f"queuekit worker: {text}")


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    if code == OK:
        return "ended"
    return f"ended with exit code {code}" + (f" ({MEANINGS[code]})" if code in MEANINGS else "")
