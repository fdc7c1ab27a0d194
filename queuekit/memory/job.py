"""One job as the memory broker keeps it."""

from __future__ import annotations

from typing import Literal

from queuekit.contract import Failure, Message, Record, State

TERMINAL = frozenset({"completed", "failed", "cancelled"})


class Job:
    """A stored message and all that happened to it. Instants named `*_at` are wall time, the rest monotonic."""

    __slots__ = (
        "accepted_at",
        "attempt",
        "cancel",
        "due",
        "errors",
        "finished_at",
        "forget",
        "generation",
        "held",
        "lease_end",
        "message",
        "percent",
        "ready",
        "reason",
        "recovered",
        "result",
        "result_error",
        "seq",
        "settled",
        "started_at",
        "state",
        "step",
        "token",
    )

    def __init__(self, message: Message, seq: int, accepted_at: float, due: float) -> None:
        self.message = message
        self.seq = seq
        self.accepted_at = accepted_at
        self.due = due
        """When it may be lent, in monotonic seconds; meaningful while it waits."""
        self.state: State = "pending"
        self.held: Literal["key", "limit", "rate", "published"] | None = None
        """What keeps a pending job from being lent."""
        self.ready = False
        """Whether it stands in its queue's line."""
        self.attempt = 0
        self.generation = 0
        self.recovered = False
        self.cancel = False
        self.token = 0
        """The newest lease's token: valid while the job runs, remembered afterwards to tell a repeated settlement."""
        self.settled = False
        """Whether the newest lease was settled (and not merely lost)."""
        self.lease_end = 0.0
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.forget = 0.0
        self.reason: str | None = None
        self.errors: tuple[Failure, ...] = ()
        self.percent: float | None = None
        self.step: str | None = None
        self.result: str | None = None
        self.result_error: str | None = None

    def record(self, wall_minus_monotonic: float) -> Record:
        """Return the public view of this job."""
        message = self.message
        return Record(
            id=message.id,
            queue=message.queue,
            type=message.type,
            state=self.state,
            body=message.body,
            reason=self.reason,
            priority=message.priority,
            key=message.key,
            tags=message.tags,
            attempt=self.attempt,
            generation=self.generation,
            accepted_at=self.accepted_at,
            due_at=self.due + wall_minus_monotonic if self.state == "scheduled" else None,
            started_at=self.started_at,
            finished_at=self.finished_at,
            progress=self.percent,
            step=self.step,
            errors=self.errors,
            result=self.result,
            result_error=self.result_error,
            cancel_requested=self.cancel,
            token=self.token or None,
            message=message,
        )
