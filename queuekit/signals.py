"""What a handler may raise or return to say what becomes of its job."""

from __future__ import annotations

from queuekit.durations import Duration, seconds

__all__ = ["Cancel", "Fail", "Retry", "Signal", "Snooze"]


class Signal(Exception):  # noqa: N818 - not an error: a handler's decision
    """A handler's decision; raise it or return it."""


class Retry(Signal):
    """Try again: this attempt counts as failed. `after` overrides the job's backoff."""

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else seconds("after", after)


class Snooze(Signal):
    """Come back later; no attempt is used, however often."""

    def __init__(self, after: Duration) -> None:
        super().__init__(f"snoozed for {after}")
        self.after = seconds("after", after)


class Fail(Signal):
    """End the job as failed now, retries or not."""

    def __init__(self, reason: str = "failed by its handler") -> None:
        super().__init__(reason)


class Cancel(Signal):
    """End the job as cancelled."""

    def __init__(self, reason: str = "cancelled by its handler") -> None:
        super().__init__(reason)
