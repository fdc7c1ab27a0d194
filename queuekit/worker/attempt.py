"""One delivery on its way through this worker: judged, bound, run, and turned into an outcome."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from queuekit.codec import BASE64
from queuekit.context import JobContext
from queuekit.contract import Delivery, Done, Outcome
from queuekit.durations import refuse
from queuekit.envelope import Envelope
from queuekit.handlers import Handler, bind_payload, decode_base64
from queuekit.worker.policy import PLAIN, Policy

if TYPE_CHECKING:
    from queuekit.worker.runtime import Runtime

__all__ = ["Attempt", "storable"]

T = TypeVar("T")
MAX_STEP = 500
"""Characters kept of a progress report's step."""
NOT_DECODED = Envelope(v=0, id="", type="")


class Attempt:
    """One hand-out of one job. Made when it is claimed; `outcome` is set when it ends."""

    __slots__ = (
        "__weakref__",
        "cancelled",
        "claimed_at",
        "completing",
        "delivery",
        "duration",
        "encoded",
        "ends_at",
        "entered",
        "envelope",
        "finished",
        "give_back",
        "guard",
        "handler",
        "lease_end",
        "lost",
        "number",
        "outcome",
        "policy",
        "progress",
        "runtime",
        "started",
        "stop",
        "stuck",
        "thread_id",
        "timed_out",
        "told_lost",
    )

    def __init__(self, delivery: Delivery, runtime: Runtime, claimed_at: float) -> None:
        self.delivery = delivery
        self.runtime = runtime
        self.claimed_at = claimed_at
        self.envelope: Envelope = NOT_DECODED
        self.handler: Handler | None = None
        self.policy: Policy = PLAIN
        self.number = delivery.attempt
        self.encoded: bytes | msgspec.Raw = b"null"
        """The payload's JSON, after its codec."""
        self.started = False
        self.finished = False
        self.lost = False
        self.told_lost = False
        self.cancelled = False
        self.give_back = False
        """Do not start it: its queue is paused, or the worker stops."""
        self.outcome: Outcome | None = None
        self.completing: Done | None = None
        """What the handler's own transaction says, if that is committed: its row is locked meanwhile, so nobody renews it."""
        self.duration = 0.0
        self.lease_end = 0.0
        """Until when the lease surely runs, by this worker's monotonic clock; infinite where it lasts as long as a connection does, and 0
        where nobody else can take the job."""
        self.ends_at: float | None = None
        """When `timeout` ends this attempt, as wall time."""
        self.progress: tuple[float, str | None] | None = None
        """The newest report that was not sent yet."""
        self.guard: threading.Lock | None = None
        """Protects `entered` while somebody may interrupt; made only for attempts that can be."""
        self.entered = False
        self.thread_id = 0
        self.timed_out = False
        self.stuck = False
        self.stop: Any = None
        """How to interrupt it: set by the executor while the handler runs."""

    # ------------------------------------------------------------------------------- what the context asks for

    @property
    def out_of_lease(self) -> bool:
        """Whether the lease was taken, or ran out by this worker's own clock because no renewal got through."""
        return self.lost or 0.0 < self.lease_end <= self.runtime.clock.monotonic()

    def renewed(self, end: float) -> None:
        """Note that the lease surely runs until then, unless it has no end of its own."""
        if self.lease_end != math.inf:
            self.lease_end = end

    def plain_payload(self) -> Any:
        """Return the payload as plain values."""
        if self.envelope.codec == BASE64:
            return decode_base64(self.encoded)
        return msgspec.json.decode(self.encoded)

    def bind(self, type_: type[T]) -> T:
        """Return the payload as a `type_`."""
        return bind_payload(self.encoded, type_)

    def report(self, percent: float, step: str | None) -> None:
        """Note progress; the lease keeper sends it."""
        if isinstance(percent, bool) or not isinstance(percent, int | float) or math.isnan(percent):
            raise refuse("progress", percent, "give a number from 0 to 100")
        if step is not None and not isinstance(step, str):
            raise refuse("step", step, "give a text")
        self.progress = (min(100.0, max(0.0, float(percent))), None if step is None else storable(step)[:MAX_STEP])
        self.runtime.progress_waits(self)

    def context(self) -> JobContext:
        """Return what the handler gets."""
        return JobContext(self)


def storable(text: str) -> str:
    """Return the text without what no backend can store: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\\0")
