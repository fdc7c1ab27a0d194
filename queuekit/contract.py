"""The driver contract: what a backend must do so that every promise of queuekit holds on it.

**This is the only module a driver imports.** A driver stores text, lends it, and settles it. It knows nothing of
handlers, retries, backoff, timeouts or workflows: the core decides those and tells the driver the outcome. Whatever
is on the path of a message takes a batch, because a round trip costs more than a job.

The life of a message
    `send` makes it *pending*, or *scheduled* when it has a delay. `claim` lends it: it is *running*, its hand-outs are
    counted, and a **lease** with a **token** protects it. The holder `extend`s the lease until it `settle`s the job
    with an outcome: `Done`, `Again`, `Released` or `Dead`. A lease that runs out lets any later `claim` lend the job
    again under a new token; whatever still comes with the old token changes nothing.

Who does what
    ============  ==============================================================================================
    the driver    durability, due times, order, fencing, the count of hand-outs, waking a waiting `claim`
    the core      envelope, codec, retry policy, backoff, timeout, deadline, chunking to `Limits`, hops of delays
                  longer than `Limits.longest_delay`, renewal of leases, reconnecting for ever with backoff
    ============  ==============================================================================================

Threads
    Every verb may be called from any thread at any time between `open` and `close`; several may run at once.
    Only `claim` with a `wait` blocks on purpose; everything else blocks for a round trip at most, and raises
    `DriverUnavailable` rather than block longer than the backend's stated time limits.

Errors
    A driver lets no foreign exception out: it maps them once, at its edge, with `mapped`. Passing trouble is
    `DriverUnavailable`, lasting trouble `DriverRejected`. After an error of `send` the driver must say what it knows:
    nothing applied (`DriverUnavailable`), part applied (`PartialSend`), cannot know (`AmbiguousSend`).

Time
    An engine with a clock of its own (Redis, Postgres) judges leases and due times by that clock alone. Durations go
    into the contract as seconds; instants as seconds since the epoch.

Features
    A driver *has* a feature when it has the methods of its protocol below; there is no second flag. What cannot be
    seen in methods (how long a body may be, whether order per key is kept) is a fact in `Limits`. The core refuses
    early whatever a job asks for and the driver lacks; a driver never ignores a field of a message in silence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from queuekit.clock import Clock, SystemClock, VirtualClock, Wakeup
from queuekit.durations import checked_name, flag, read_flag, read_number, read_whole, refuse, seconds, whole
from queuekit.errors import (
    BackendFull,
    ConfigurationError,
    DispatchCancelled,
    DispatchTimeout,
    DriverError,
    DriverRejected,
    DriverUnavailable,
    LeaseLost,
    PoolTimeout,
    QueueClosed,
    UnsupportedError,
)
from queuekit.namespace import NAMESPACE, Namespace
from queuekit.places import Place, Places
from queuekit.tls import check_certificates, check_file
from queuekit.url import Url

__all__ = [
    "FAILED_RETAIN",
    "MAX_ERRORS",
    "RETAIN",
    "Again",
    "AmbiguousSend",
    "BackendFull",
    "Browse",
    "Carry",
    "Clock",
    "Compare",
    "Concurrency",
    "ConfigurationError",
    "Control",
    "Count",
    "Dead",
    "Delivery",
    "Diagnose",
    "DispatchCancelled",
    "DispatchTimeout",
    "Done",
    "Driver",
    "DriverError",
    "DriverRejected",
    "DriverUnavailable",
    "Exchange",
    "Extension",
    "Failure",
    "Finding",
    "FreshSend",
    "LeaseLost",
    "Limits",
    "Message",
    "Migrate",
    "Named",
    "Namespace",
    "Native",
    "Outcome",
    "Page",
    "PartialSend",
    "Patience",
    "Pause",
    "Place",
    "Places",
    "PoolTimeout",
    "Progress",
    "Purge",
    "Query",
    "QueueClosed",
    "QueueCounts",
    "Rate",
    "Receipt",
    "Record",
    "Records",
    "Registry",
    "Released",
    "ServerClock",
    "SettleAndLend",
    "Settlement",
    "State",
    "Store",
    "SystemClock",
    "Token",
    "TransactionalSend",
    "TransactionalSettle",
    "Unique",
    "UniqueSend",
    "UnsupportedError",
    "Url",
    "VirtualClock",
    "Wakeup",
    "WorkerInfo",
    "check_certificates",
    "check_file",
    "checked_name",
    "enter",
    "flag",
    "mapped",
    "namespace_of",
    "place_of",
    "read_flag",
    "read_number",
    "read_whole",
    "refuse",
    "seconds",
    "whole",
]

State: TypeAlias = Literal["pending", "scheduled", "running", "completed", "failed", "cancelled"]
"""`pending`: could run (or is held by its key, a limit or a pause). `scheduled`: waits for its time. The last three
are terminal."""

Token: TypeAlias = int | str
"""The mark of one lease. Engines count strictly upwards and never use one twice, not even after data loss;
transports give opaque but distinct ones."""

RETAIN = 86_400.0
"""Seconds that a completed job's record is kept unless its message says otherwise: a day."""
FAILED_RETAIN = 30 * 86_400.0
"""Seconds that a failed or cancelled job's record is kept unless its message says otherwise: 30 days."""
PLACE_DIGITS = 18
"""A place in the order of acceptance is a number of 64 bits, or exact as a float."""
MAX_ERRORS = 25
"""The newest failures that a record keeps. More tell nothing new, and a job with default retries has at most 21."""


# --------------------------------------------------------------------------------------------------- what is stored


class Concurrency(Struct, frozen=True, gc=False):
    """At most `limit` jobs with this `key` run at once in the namespace; no order among them."""

    key: str
    limit: int


class Rate(Struct, frozen=True, gc=False):
    """At most `limit` hand-outs with this `key` in any window of `period` seconds of the backend's clock."""

    key: str
    limit: int
    period: float


class Unique(Struct, frozen=True, gc=False):
    """One unfinished job per `scope`."""

    scope: str
    """Text that already spells queue, type and key or payload; the namespace is the driver's."""
    ttl: float | None = None
    """Seconds after which the scope is free even if the job is unfinished; None: only its end frees it."""
    until: Literal["end", "start"] = "end"
    """`start` frees the scope at the first hand-out."""
    on_conflict: Literal["return", "raise", "replace"] = "return"
    """`replace` puts the new message's body and options in place of an unstarted job's; otherwise as `return`.
    `raise` is the core's business: to the driver it is `return`."""


class Message(Struct, frozen=True, gc=False):
    """What a driver stores: a text, and what the backend must know to order, delay and guard it."""

    id: str
    """A UUID as text, unique in the namespace. Where `Limits.unique_ids` holds, a second message with the id of one
    that is stored (unfinished or still retained) is dropped: one job."""
    queue: str
    type: str
    """The job type's name: to browse by; the body has it as well."""
    body: str
    """The envelope. Any Unicode text without lone surrogates; at most `Limits.body_bytes` in UTF-8. A body that was
    not UTF-8 when read back is delivered decoded with `surrogateescape`, so that its bytes are never lost."""
    delay: float = 0.0
    """Seconds from acceptance until it may be lent."""
    at: float | None = None
    """An instant before which it must not be lent; the later of `delay` and `at` counts; the past means now."""
    priority: int = 4
    """0 to 9, higher first; equal ones in order of acceptance."""
    key: str | None = None
    """At most one unfinished job per key is lent at a time, strictly in order of acceptance, also through retry waits."""
    concurrency: Concurrency | None = None
    rate: Rate | None = None
    unique: Unique | None = None
    retain: float | None = None
    """Seconds to keep the record after the end; None: the defaults above; 0: forget at once."""
    tags: tuple[str, ...] = ()


class Delivery(Struct, frozen=True, gc=False):
    """A message on loan."""

    message: Message
    token: Token
    attempt: int
    """Hand-outs so far, this one included, refunded ones excluded."""
    generation: int = 0
    """How often a finished job was started over by `Control.retry`."""
    recovered: bool = False
    """Whether an earlier lease ran out: whoever held it may be dead, or may still be at it."""
    receipt: Any = None
    """The driver's own handle; the core hands it back untouched."""


class Failure(Struct, frozen=True, gc=False, omit_defaults=True):
    """Why one attempt failed. The core has cut the texts to a bounded length."""

    attempt: int
    at: float
    """When, in seconds since the epoch, by the worker's clock."""
    reason: str
    """error, timeout, worker_lost, deadline, bad_payload, unknown_type, undecodable, cancelled, …"""
    kind: str = ""
    """The exception's class name."""
    message: str = ""
    traceback: str = ""


# ------------------------------------------------------------------------------------------------ outcomes are values


class Done(Struct, frozen=True, gc=False):
    """The attempt succeeded: the job is *completed*."""

    delivery: Delivery
    result: str | None = None
    """The encoded result to keep with the record."""
    result_error: str | None = None
    """Why there is no result although the handler returned one."""
    follow_ups: tuple[Message, ...] = ()


class Again(Struct, frozen=True, gc=False):
    """The attempt failed and another is due: *scheduled* with a delay, else *pending*. The hand-out stays counted."""

    delivery: Delivery
    delay: float = 0.0
    """Seconds from the settlement."""
    error: Failure | None = None
    successor: Message | None = None
    """What to lend next time instead. An engine takes over its body, concurrency and rate and keeps all else."""
    follow_ups: tuple[Message, ...] = ()


class Released(Struct, frozen=True, gc=False):
    """Given back, no attempt used: the hand-out is refunded. With no delay it keeps its old place in the order."""

    delivery: Delivery
    delay: float = 0.0
    successor: Message | None = None
    """As in `Again`."""
    follow_ups: tuple[Message, ...] = ()


class Dead(Struct, frozen=True, gc=False):
    """The job ends without success: *failed*, or *cancelled*; its record and body are kept, byte for byte."""

    delivery: Delivery
    reason: str
    error: Failure | None = None
    state: Literal["failed", "cancelled"] = "failed"
    follow_ups: tuple[Message, ...] = ()


Outcome: TypeAlias = Done | Again | Released | Dead

Settlement: TypeAlias = Literal["applied", "already_settled", "lost"]
"""What became of an outcome. `already_settled`: this very lease was settled before, nothing changed. `lost`: the
lease is not this holder's any more, nothing changed."""


class Extension(Struct, frozen=True, gc=False):
    """The answer to one renewal."""

    held: bool
    """False: the lease had run out or was replaced. It cannot be revived."""
    cancel: bool = False
    """Someone asked for this job's cancellation."""
    paused: bool = False
    """The queue is paused: give it back if it has not started."""


class Receipt(Struct, frozen=True, gc=False):
    """What became of a unique message."""

    id: str
    """The job that now stands for it: its own, or the earlier one's."""
    created: bool
    """False: an earlier job holds the scope (or has the id), and nothing was stored."""
    replaced: bool = False
    """The earlier job had not started and took over this message's body and options."""


# ------------------------------------------------------------------------------------------------------------- facts


class Limits(Struct, frozen=True, kw_only=True):
    """Facts about a driver that no method shows. The core adapts to them: it chunks, refuses, hops, renews."""

    name: str
    """The driver's name as people know it; used in every sentence that says "unsupported"."""
    batch: int = 1000
    """The most messages, outcomes or deliveries in one call."""
    body_bytes: int = 1 << 20
    longest_delay: float | None = None
    """Seconds; None: no bound. Longer delays travel in hops."""
    longest_lease: float | None = None
    """Seconds for which one hand-out can be held in all, renewals included; None: no bound."""
    resolution: float = 0.01
    """Seconds after its due time by which a delayed job is claimable."""
    delays: bool = True
    priorities: bool = True
    keys: bool = True
    """Whether `Message.key` is honoured."""
    limits: bool = True
    """Whether `Message.concurrency` and `Message.rate` are honoured."""
    unique_ids: bool = True
    """Whether a second message with a stored id is dropped."""
    unique_window: float | None = None
    """Without the feature `unique`: seconds from a job's acceptance for which others of its unique scope (and `key`) are dropped,
    whatever becomes of it, and nobody is told. The core lets `unique_for` of just this length pass, and `send` honours it."""
    ordered: bool = True
    """Whether equal messages are lent in order of acceptance, and one that is given back keeps its place."""
    estimates: bool = False
    """Whether `count` gives the backend's own estimates, which may lag behind, and knows of no finished jobs."""
    atomic: bool = True
    """Whether an outcome and its follow-ups are one commit; else follow-ups are stored first, then the outcome."""
    lease_by: Literal["time", "connection"] = "time"
    fenced: bool = True
    """Whether an outcome with an old token is refused."""
    durable: bool = True
    """Whether accepted messages survive the death of every queuekit process."""
    shared: bool = True
    """Whether several processes may use one backend."""
    push_window: int = 0
    """Messages that the backend may hand over beyond a claim's `limit`."""
    inline: bool = False
    """Whether a job runs in its dispatcher, before `dispatch` returns."""
    discards: bool = False
    """Whether messages are dropped on purpose (`null://`)."""
    connections: int | None = None
    """The most connections that the driver opens in one process; more threads than that wait for one another. None: no bound."""


class Patience:
    """How long the caller of a `send` is willing to wait, and whether they still want it.

    A driver calls `check` before its first byte leaves and wherever it waits before that (for a connection, a lock);
    once bytes have left, it is too late to withdraw, and it reports `AmbiguousSend` when no answer comes in time.
    """

    __slots__ = ("_cancel", "_clock", "_end")

    def __init__(self, timeout: float | None = None, cancel: threading.Event | None = None, *, clock: Clock) -> None:
        self._clock = clock
        self._end = None if timeout is None else clock.monotonic() + timeout
        self._cancel = cancel

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0; None when there is no bound."""
        return None if self._end is None else max(0.0, self._end - self._clock.monotonic())

    def check(self) -> None:
        """Raise `DispatchCancelled` or `DispatchTimeout` when the caller's patience has ended."""
        if self._cancel is not None and self._cancel.is_set():
            message = "the dispatch was cancelled before anything was sent"
            raise DispatchCancelled(message)
        if self._end is not None and self._clock.monotonic() >= self._end:
            message = "the dispatch's time ran out before anything was sent"
            raise DispatchTimeout(message)


class PartialSend(DriverError):
    """Some messages of a `send` were accepted and others not; every id is in exactly one of the three."""

    def __init__(
        self,
        message: str,
        *,
        accepted: Sequence[str] = (),
        failed: Mapping[str, Exception] | None = None,
        unknown: Mapping[str, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.accepted = list(accepted)
        self.failed = dict(failed or {})
        self.unknown = dict(unknown or {})


class AmbiguousSend(DriverError):
    """The request left and no answer came: none, some or all of the messages may have been accepted."""

    retryable = True


# ------------------------------------------------------------------------------------------------------------ the verbs


@runtime_checkable
class Driver(Protocol):
    """The verbs of every backend."""

    @property
    def limits(self) -> Limits:
        """The facts; constant for the life of the driver."""
        ...

    def open(self) -> None:
        """Connect and check the backend: its version, its schema, settings that would break a promise.

        Idempotent. Raises `DriverUnavailable` when it may work later, `DriverRejected` when somebody must act.
        """
        ...

    def close(self) -> None:
        """Let go of the backend; leases that are still held are given back where the backend can. Idempotent.

        Never waits for a handler. Afterwards every verb raises `QueueClosed`.
        """
        ...

    def prepare(self, queues: Sequence[str]) -> None:
        """Make the queues exist. Idempotent, and safe from many processes at once."""
        ...

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store the messages, in this order; return only when the backend has accepted every one.

        Accepted means: past the backend's boundary of durability (commit, publisher confirm, success of the entry).
        Never repeats by itself what may have been applied. At most `Limits.batch` messages.

        Raises `PartialSend`, `AmbiguousSend`; `DriverUnavailable` and `BackendFull` when nothing was stored;
        `DispatchTimeout` or `DispatchCancelled` when `patience` ended before anything was sent.
        """
        ...

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
        wait: float = 0.0,
        wakeup: Wakeup | None = None,
    ) -> list[Delivery]:
        """Lend up to `limit` due messages of `queues`, looked at in this order, for `lease` seconds.

        Counts the hand-out before it returns. Returns as soon as anything is due; `[]` after `wait` seconds or as soon
        as `wakeup` is raised (by anybody; the driver raises it itself when something may have become due).

        `free` (default: `limit`) is how many the holder will start at once: jobs whose earlier lease ran out are lent
        only up to that number, never to lie in a prefetch buffer. `recover=False` takes no expired lease back at all:
        the core says so for one lease after an outage, when live holders could not renew.

        Never lends what is lent, held by its key or limit, or in a paused queue.
        """
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply the outcomes with their follow-ups; one answer each, in order.

        Fenced: judged by the token alone. It counts until a claim or sweep has replaced the token, even after the
        lease's end; afterwards it changes nothing and is `lost`. Never raises for a lost lease. A second settlement
        of one lease is `already_settled`. Where `Limits.atomic`, one outcome and its follow-ups are one commit;
        else the follow-ups are stored first. Follow-ups with a known id are dropped, so repeating is harmless.
        """
        ...

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Let the leases run for `lease` seconds from now on the backend's clock; one answer each, in order.

        A lease that has run out is not revived, even if nobody took the job yet.
        """
        ...


@runtime_checkable
class Named(Protocol):
    """No feature: a driver that can be built without a namespace, and work in that of the queue which it is given to.

    `Namespace` keeps the name, and refuses a second one.
    """

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        ...

    def work_in(self, namespace: str) -> None:
        """Work in this namespace; asked of a driver object once, before `open`, and of none that an address named.

        Raises `ConfigurationError` when it was built in another one, or opened in another one.
        """
        ...


def namespace_of(*drivers: object) -> str:
    """Return the namespace of the first of these that has one, else the default."""
    return next((driver.namespace for driver in drivers if isinstance(driver, Named)), NAMESPACE)


def enter(driver: Driver, namespace: str) -> None:
    """Let a driver object work in a namespace; raises `ConfigurationError` when it cannot, or works in another one already."""
    if not isinstance(driver, Named):
        message = (
            f"namespace={namespace!r} is refused: the {driver.limits.name} driver cannot be told in which namespace to work; "
            "build it in that one, and leave the queue's out"
        )
        raise ConfigurationError(message)
    driver.work_in(namespace)


# ----------------------------------------------------------------------------------------- features: have the methods


class QueueCounts(Struct, frozen=True, kw_only=True):
    """How many jobs of one queue are in which state."""

    queue: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    oldest_ready_age: float | None = None
    """Seconds that the oldest job which could run has been waiting; None when there is none."""
    paused: bool = False


@runtime_checkable
class Count(Protocol):
    """Feature `count`: depth by state."""

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count the jobs of `queues`, or of every queue that has any; exact at one instant unless `Limits.estimates`."""
        ...


class Record(Struct, frozen=True, kw_only=True):
    """All that is known of one job."""

    id: str
    queue: str
    type: str
    state: State
    body: str
    reason: str | None = None
    priority: int = 4
    key: str | None = None
    tags: tuple[str, ...] = ()
    attempt: int = 0
    generation: int = 0
    accepted_at: float = 0.0
    """Instants are seconds since the epoch on the backend's wall clock."""
    due_at: float | None = None
    started_at: float | None = None
    """When the newest hand-out happened."""
    finished_at: float | None = None
    progress: float | None = None
    """0 to 100."""
    step: str | None = None
    errors: tuple[Failure, ...] = ()
    """Oldest first, at most `MAX_ERRORS`."""
    result: str | None = None
    result_error: str | None = None
    cancel_requested: bool = False
    token: Token | None = None
    message: Message | None = None
    """All that was stored, as it would be lent: to send the job elsewhere."""


class Query(Struct, frozen=True, kw_only=True):
    """Which records to show."""

    states: tuple[State, ...] = ()
    """Empty: any."""
    queue: str | None = None
    type: str | None = None
    tag: str | None = None
    search: str | None = None
    """A part of the id, the type or the body."""
    limit: int = 100
    after: str | None = None
    """The `next` of the page before."""


def place_of(query: Query) -> int:
    """Return the place after which a page begins, for drivers whose `next` is a number; 0 for the first page.

    Raises `ConfigurationError` for a text that is no `next` of theirs.
    """
    after = query.after or "0"
    if not (after.isascii() and after.isdecimal() and len(after) <= PLACE_DIGITS):
        raise refuse("after", after, "give the `next` of the page before, unchanged; leave it out for the first page")
    return int(after)


class Page(Struct, frozen=True, kw_only=True):
    """Records in order of acceptance: stable while others are added, without gap or repetition."""

    records: list[Record]
    next: str | None = None
    """Hand it in as `Query.after`; None on the last page."""


@runtime_checkable
class Browse(Protocol):
    """Feature `browse`: look without claiming."""

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return the records, in order; None where there is none (any more)."""
        ...

    def browse(self, query: Query) -> Page:
        """Return one page of the records that match; raises `ConfigurationError` when `after` is no `next` of this driver's."""
        ...


@runtime_checkable
class Control(Protocol):
    """Feature `control`: change jobs from outside."""

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel; per id the state before the call, None where there is no such job.

        What waits is *cancelled* at once (reason `cancelled`). What runs is flagged: `extend` and `requested` tell the
        holder, whose outcome decides; if its lease runs out instead, the sweep ends it as cancelled. What is finished
        stays as it is.
        """
        ...

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start failed or cancelled jobs over: same id, next generation, fresh attempts, due now.

        Per id the state before the call; only `failed` and `cancelled` ones have been changed.
        """
        ...

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs and their records; running ones are left alone. Per id the state before the call."""
        ...

    def requested(self) -> list[str]:
        """Return ids of running jobs whose cancellation was asked for; cheap enough for once a second."""
        ...


@runtime_checkable
class Pause(Protocol):
    """Feature `pause`: stop lending from a queue. The switch is stored: it outlives workers and restarts."""

    def pause(self, queue: str) -> None:
        """Lend nothing more from the queue; sending goes on. Idempotent; a queue that does not exist yet may be paused."""
        ...

    def resume(self, queue: str) -> None:
        """Lend from the queue again. Idempotent."""
        ...

    def paused(self) -> list[str]:
        """Return the paused queues."""
        ...


@runtime_checkable
class Purge(Protocol):
    """Feature `purge`: empty a queue."""

    def purge(self, queue: str) -> int:
        """Delete the queue's pending and scheduled jobs, unique scopes included, and return how many.

        Running and finished jobs stay.
        """
        ...


@runtime_checkable
class UniqueSend(Protocol):
    """Feature `unique`: one unfinished job a scope."""

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store the messages like `send`, honouring `Message.unique`; one receipt each, in order.

        Check and insertion are one atomic step, whoever races. A scope is freed by the terminal state, by its `ttl`, and
        with `until="start"` by the first hand-out; never by a retry or a release.
        """
        ...


@runtime_checkable
class FreshSend(Protocol):
    """No feature, for it promises what `send` does: a cheaper way for a message whose id was made for this very call."""

    def send_fresh(self, message: Message, *, patience: Patience | None = None) -> None:
        """Store a message like `send`, which nobody can have sent before, and nobody sends again before this has returned or raised.

        So its id need not be looked for among those of finished jobs. But whoever hears `AmbiguousSend` may send it again, with `send`, and
        that job may have ended when the first request arrives: from then on the first request, too, must look before it stores.
        """
        ...


@runtime_checkable
class TransactionalSend(Protocol):
    """Feature `transactional`: send as part of the caller's own database transaction."""

    def send_in(self, connection: Any, messages: Sequence[Message]) -> list[Receipt]:
        """Store the messages through the caller's connection, honouring `unique`; never commits or rolls back itself.

        Commit makes them visible, rollback leaves no trace. Raises `ConfigurationError` when the connection is not one
        that the driver knows, or not to its own database.
        """
        ...


@runtime_checkable
class TransactionalSettle(Protocol):
    """Feature `transactional_settle`: settle as part of the caller's own database transaction."""

    def settle_in(self, connection: Any, outcomes: Sequence[Outcome]) -> None:
        """Apply the outcomes through the caller's connection; never commits, and rolls back only what may not be committed.

        Commit makes them count, rollback leaves the leases as they were; meanwhile nobody else is lent these jobs, however
        long their leases have run out. Raises `LeaseLost` when one does not count (its lease was replaced, or settled
        before): nothing of the transaction can be committed then. Raises `ConfigurationError`, with nothing
        done, when the connection is not one that the driver knows, or not to its own database.
        """
        ...


@runtime_checkable
class Exchange(Protocol):
    """Feature `exchange`: settle and claim in one round trip."""

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery]]:
        """Do what `settle(outcomes)` and then `claim(queues, …, wait=0)` would do, in one go."""
        ...


class Progress(Struct, frozen=True, gc=False):
    """A running job's report."""

    delivery: Delivery
    percent: float
    step: str | None = None


@runtime_checkable
class Records(Protocol):
    """Feature `records`: progress and results are kept with the job."""

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store the newest progress of running jobs; False where the lease is not the reporter's any more."""
        ...

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget up to `limit` finished records past their retention (or `older_than` seconds); return how many."""
        ...


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """One live worker, as it describes itself."""

    id: str
    host: str
    pid: int
    started_at: float
    queues: tuple[str, ...]
    concurrency: int
    running: tuple[str, ...] = ()
    """Ids of the jobs that it runs at this moment."""
    stopping: bool = False
    completed_per_second: float = 0.0
    """Jobs that it completed a second between its last two signs of life."""
    failed_per_second: float = 0.0
    """Attempts that failed a second in the same time, whether they are retried or not."""
    seen_at: float = 0.0
    """When it was heard of last; the driver sets it by its own wall clock."""


@runtime_checkable
class Registry(Protocol):
    """Feature `registry`: who works here."""

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember the worker for `ttl` seconds; a `ttl` of 0 strikes it off."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Return the workers whose time has not run out."""
        ...


@runtime_checkable
class Migrate(Protocol):
    """Feature `migrate`: the backend has a schema with numbered, idempotent steps."""

    def migrations(self) -> list[str]:
        """Return the names of the steps that are still to be applied."""
        ...

    def migrate(self) -> list[str]:
        """Apply them, safe from several processes at once; return the names of those this call applied."""
        ...


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that a backend's settings say about the promises."""

    level: Literal["ok", "note", "warning", "error"]
    """`warning`: a promise is weaker than documented. `error`: a promise does not hold at all."""
    setting: str
    """The setting by its own name, such as `appendonly`."""
    value: str
    """What it is now."""
    promise: str
    """Which promise it bears on, and what it makes of it; a sentence."""
    remedy: str = ""
    """What to set, literally; empty where nothing is to be done."""


@runtime_checkable
class Diagnose(Protocol):
    """Feature `diagnose`: read the server's settings and say which promise each one weakens."""

    def diagnose(self) -> list[Finding]:
        """Return what was looked at, also what is in order; reads only."""
        ...


@runtime_checkable
class ServerClock(Protocol):
    """Feature `server_clock`: the backend has a clock of its own, which may differ from this machine's."""

    def server_time(self) -> float:
        """Return the backend's wall clock in seconds since the epoch; one round trip."""
        ...


@runtime_checkable
class Native(Protocol):
    """Feature `native`: the client underneath, for what queuekit does not wrap."""

    def native(self) -> Any:
        """Return the client or connection object; using it is the caller's own risk."""
        ...


@runtime_checkable
class Store(Protocol):
    """What pairing a transport with an engine needs of the engine, beyond its verbs and features.

    The engine keeps the record and decides (order, keys, limits, uniqueness, leases, fencing); the transport only
    carries the message to a worker. A job admitted here is never lent by `claim`'s own choice while pairing is in
    use: the pairing publishes what `outbox` names, and lends by id what the transport delivers.
    """

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store the messages like `send_unique`; those due now are the caller's to publish.

        If one is neither lent nor finished `publish_within` seconds later, `outbox` names it. A body that the transport
        delivered with `surrogateescape` is kept as its bytes.
        """
        ...

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note that these jobs are on the transport: `outbox` names one only if it still waits in `again_after` seconds.

        `ages`: how many seconds ago the publication of each began. One that was set aside since (for `publish_within` seconds, by
        `admit` or `outbox`) is left alone: the ticket of then may be used up, and nobody knows of another.
        Changes nothing for jobs that are lent, finished, held or not due.
        """
        ...

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return up to `limit` due, unheld, unlent jobs that nobody has published in time, and those whose lease ran out.

        Each is not named again for `again_after` seconds unless it is released or retried: a crash between this call and
        the publication delays it by that much, and never loses it. `recover=False`: as in `claim`.
        """
        ...

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend these very jobs, as `claim` would; `free` and `recover` as there.

        Per id: the delivery; or the state that forbids it (`running`: leased by another; a terminal one: acknowledge and
        drop; `pending` or `scheduled`: held, paused or not due, and `outbox` names it as soon as that has ended, whatever
        was noted of its publication); or None when there is no such job.
        """
        ...


@runtime_checkable
class Carry(Protocol):
    """What a transport that pushes can do for a pair: tickets cost no round trip.

    A ticket is let go of as soon as the store has lent its job, and one that comes twice is dropped: so nobody waits for the
    answer to an acknowledgement, and one that was handed over before is like any other.
    """

    def take(
        self, queues: Sequence[str], *, limit: int, ahead: int = 0, wait: float = 0.0, wakeup: Wakeup | None = None
    ) -> list[Delivery]:
        """Hand over up to `limit` tickets, as `claim` would; up to `ahead` more may be on their way here for the next call.

        Without `wait` it asks the transport nothing: it returns what has arrived, also where the connection is lost.
        """
        ...

    def let_go(self, tickets: Sequence[Delivery]) -> None:
        """Acknowledge these, soon; never blocks, never raises. A ticket of a lost connection comes back."""
        ...


@runtime_checkable
class Compare(Protocol):
    """What a transport can do for a move: tell whether it would be one from a queue to itself. Engines are told apart by a pause."""

    def same_queue(self, other: Driver, queue: str) -> bool:
        """Whether `other`, an open driver, lends what is sent to `queue` here: same backend and namespace, whatever the addresses.

        Blocks for some round trips, and leaves nothing behind.
        """
        ...


@runtime_checkable
class SettleAndLend(Protocol):
    """What a store can do for a pair: settle, and lend by id, in one round trip."""

    def settle_and_lend(
        self,
        outcomes: Sequence[Outcome],
        ids: Sequence[str],
        *,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery | State | None]]:
        """Do what `settle(outcomes)` and then `lend(ids, …)` would do, in one go."""
        ...


# ------------------------------------------------------------------------------------------------------- mapping errors


@contextmanager
def mapped(
    table: Mapping[type[BaseException], type[DriverError] | Callable[[BaseException], DriverError]], *, doing: str
) -> Iterator[None]:
    """Turn foreign exceptions into queuekit's at the driver's edge; the original stays as the cause.

    `table` is data: the first class that matches decides, so put subclasses first. `doing` completes the sentence
    "… failed while {doing}". A foreign text may hold credentials, so drivers pass their own function where it does.
    """
    try:
        yield
    except tuple(table) as error:
        for kind, result in table.items():
            if isinstance(error, kind):
                if isinstance(result, type):
                    message = f"{type(error).__name__} while {doing}: {error}"
                    raise result(message) from error
                raise result(error) from error
        raise  # pragma: no cover - tuple(table) matched, so one of its members did
