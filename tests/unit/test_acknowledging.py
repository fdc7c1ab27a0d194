"""Tickets that a pair lets go of in the background."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

from queuekit.pairing.acknowledging import Acknowledging


def test_a_forked_child_waits_for_no_ticket_of_its_parent() -> None:
    """Its parent's thread is not there, so they would be under way for ever: each claim of the child would take 50 ms longer."""
    under_way, go_on = threading.Event(), threading.Event()

    def settle(_: Any) -> None:
        under_way.set()
        go_on.wait(10)

    acknowledging = Acknowledging(SimpleNamespace(settle=settle, limits=SimpleNamespace(batch=10)))  # type: ignore[arg-type]
    acknowledging.soon([object()])  # type: ignore[list-item]
    under_way.wait(5)
    child = os.fork()
    if not child:
        begin = time.monotonic()
        acknowledging.catch_up()
        os._exit(int(time.monotonic() - begin > 0.04))
    go_on.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
