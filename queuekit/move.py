"""Moving what waits from one backend to another: for a migration, while applications run.

Each job is stored in the target before it leaves the source, under the same id: an interruption loses nothing, and running
the move again goes on where it ended; a target with unique ids then drops what it has already. So source and target must be
two: where they are one, it would drop every job and delete the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from queuekit import bounds
from queuekit.clock import Clock, Wakeup
from queuekit.contract import (
    Browse,
    ConfigurationError,
    Control,
    Count,
    Delivery,
    Done,
    Driver,
    Limits,
    Message,
    Pause,
    Query,
    Receipt,
    Record,
    Released,
    State,
    UniqueSend,
    UnsupportedError,
)
from queuekit.envelope import Undecodable, UnknownVersion, decode, rewrite
from queuekit.identity import same_backend
from queuekit.remedies import remedy

__all__ = ["Moved", "move"]

BATCH = 200
LEASE = 60.0
"""Seconds within which a batch from a transport must be stored in the target."""
LOOK = 0.25
"""Seconds between two looks at jobs that still run in the source."""
SILENCE = 2.0
"""Seconds without a delivery after which a transport counts as drained of what is due."""
WAITING: tuple[State, ...] = ("pending", "scheduled")


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one queue."""

    queue: str
    moved: int
    left: int | None
    """Jobs that are still in the source: running, refused, or delayed where the source shows no delayed ones. None: it cannot count."""
    paused: bool
    """Whether the source queue was paused, and stays so: what is dispatched to it from now on waits for the next move."""
    refused: dict[str, str] = {}
    """Jobs that stay because another one holds their unique scope in the target, each with that one's id."""


@runtime_checkable
class _Kept(Count, Browse, Control, Pause, Protocol):
    """A source that shows what it keeps: nothing is claimed, so nothing can start meanwhile."""


def move(
    source: Driver,
    target: Driver,
    *,
    clock: Clock,
    queues: Sequence[str] | None = None,
    timeout: float = 60.0,
    tell: Callable[[str, int], None] = lambda _queue, _moved: None,
    called: tuple[str, str] = ("the source", "the target"),
) -> list[Moved]:
    """Move all waiting and delayed jobs; blocks up to `timeout` seconds a queue for jobs that still run.

    Both drivers are open. A source queue is paused first where the source can, and stays paused. Attempts already made count.
    A job whose unique scope another one holds in the target stays. `tell` is called after each batch; `called` is what errors
    call the two. Raises `ConfigurationError` before anything is changed when they are the same backend and namespace, and
    `UnsupportedError` before the first job that the target cannot honour leaves; it and those after it stay.
    """
    names = list(queues) if queues else _names(source)
    if same_backend(source, target, names):
        raise _to_itself(*called)
    target.prepare(names)
    return [_Move(source, target, name, clock, timeout, tell).run() for name in names]


def _names(source: Driver) -> list[str]:
    if not isinstance(source, Count):
        name, advice = source.limits.name, "name them, with --queue NAME"
        message = f"the {name} driver cannot list its queues (feature 'count'): {advice}"
        raise UnsupportedError(message, driver=name, feature="count", remedy=advice)
    return [counts.queue for counts in source.count()]


def _to_itself(source: str, target: str) -> ConfigurationError:
    return ConfigurationError(
        f"{source} and {target} are the same backend in the same namespace: nothing was moved, for it would be deleted there "
        "as it leaves; give another backend, or a queue with another namespace, as one of the two"
    )


class _Move:
    """The move of one queue."""

    def __init__(
        self, source: Driver, target: Driver, queue: str, clock: Clock, timeout: float, tell: Callable[[str, int], None]
    ) -> None:
        self._source = source
        self._target = target
        self._queue = queue
        self._clock = clock
        self._end = clock.monotonic() + timeout
        self._tell = tell
        self._moved = 0
        self._refused: dict[str, str] = {}
        """Ids of jobs that the target did not take, each with the id of the one that stands in its way."""

    def run(self) -> Moved:
        """Move what can be moved and say what is left."""
        source = self._source
        if isinstance(source, _Kept):
            left: int | None = self._kept(source)
        else:
            left = self._carried()
        return Moved(
            queue=self._queue, moved=self._moved, left=left, paused=isinstance(source, _Kept), refused=self._refused
        )

    # ------------------------------------------------------------------------------- from an engine: copy, then delete

    def _kept(self, source: _Kept) -> int:
        source.pause(self._queue)
        while True:
            if self._copied(source):
                continue
            [counts] = source.count([self._queue])
            if not counts.running or self._clock.monotonic() >= self._end:
                return counts.running + counts.pending + counts.scheduled
            self._clock.wait(Wakeup(), LOOK)

    def _copied(self, source: _Kept) -> int:
        """Go once through what waits, leaving out what was refused before; return how many went over."""
        before, after = self._moved, None
        while True:
            page = source.browse(Query(states=WAITING, queue=self._queue, limit=BATCH, after=after))
            records = [record for record in page.records if record.id not in self._refused]
            self._store([_message_of(record) for record in records])
            stored = [record.id for record in records if record.id not in self._refused]
            if stored:
                source.delete(stored)
                self._count(len(stored))
            after = page.next
            if after is None:
                return self._moved - before

    # -------------------------------------------------------------------------- from a transport: claim, store, settle

    def _carried(self) -> int | None:
        source = self._source
        limit = min(BATCH, source.limits.batch)
        kept: dict[str, Delivery] = {}
        """Refused ones stay lent until the end, or they would come again at once."""
        while found := source.claim([self._queue], limit=limit, lease=LEASE, wait=SILENCE):
            fresh = [delivery for delivery in found if delivery.message.id not in self._refused]
            self._store([_message_lent(delivery) for delivery in fresh])
            kept |= {delivery.message.id: delivery for delivery in found if delivery.message.id in self._refused}
            stored = [delivery for delivery in fresh if delivery.message.id not in self._refused]
            source.settle([Done(delivery) for delivery in stored])
            self._count(len(stored))
        back = list(kept.values())
        for start in range(0, len(back), limit):
            source.settle([Released(delivery) for delivery in back[start : start + limit]])
        if not isinstance(source, Count):
            return None
        [counts] = source.count([self._queue])
        return counts.pending + counts.scheduled + counts.running

    # ---------------------------------------------------------------------------------------------------- storing

    def _store(self, messages: Sequence[Message]) -> None:
        """Store in the target; note what it did not take because of another job."""
        target = self._target
        for message in messages:
            _refuse_what_is_lost(message, target)
        now = self._clock.time()
        ready = [_hopping(_harmless(message), target.limits, now) for message in messages]
        size = min(target.limits.batch, BATCH)
        for start in range(0, len(ready), size):
            part = ready[start : start + size]
            if isinstance(target, UniqueSend) and any(message.unique for message in part):
                self._note(part, target.send_unique(part))
            else:
                target.send(part)

    def _note(self, messages: Sequence[Message], receipts: Sequence[Receipt]) -> None:
        """Note what stays; a job that is there already, from a move that was interrupted, is answered with its own id."""
        pairs = zip(messages, receipts, strict=True)
        self._refused |= {message.id: receipt.id for message, receipt in pairs if receipt.id != message.id}

    def _count(self, number: int) -> None:
        self._moved += number
        self._tell(self._queue, self._moved)


def _message_of(record: Record) -> Message:
    """Return a kept job as it is to be sent: due when it was due, its attempts counted."""
    message = record.message
    assert message is not None, "a driver that shows records shows their messages"
    return _counted(msgspec.structs.replace(message, delay=0.0, at=record.due_at), record.attempt)


def _message_lent(delivery: Delivery) -> Message:
    return _counted(msgspec.structs.replace(delivery.message, delay=0.0, at=None), delivery.attempt - 1)


def _counted(message: Message, attempts: int) -> Message:
    """Note attempts made under the source in the body, unless nobody can read that."""
    if attempts <= 0:
        return message
    try:
        before = decode(message.body).attempts
    except (Undecodable, UnknownVersion):
        return message
    return msgspec.structs.replace(message, body=rewrite(message.body, attempts=before + attempts))


def _harmless(message: Message) -> Message:
    """Return the message so that it takes no place of a job in the target, which may be newer."""
    if message.unique is None:
        return message
    return msgspec.structs.replace(message, unique=msgspec.structs.replace(message.unique, on_conflict="return"))


def _hopping(message: Message, limits: Limits, now: float) -> Message:
    return message if limits.longest_delay is None else bounds.first(message, limits.longest_delay, now)


_LOST: tuple[tuple[str, Callable[[Message], Any], Callable[[Driver], bool]], ...] = (
    ("key", lambda message: message.key, lambda target: target.limits.keys),
    ("concurrency", lambda message: message.concurrency, lambda target: target.limits.limits),
    ("rate_limit", lambda message: message.rate, lambda target: target.limits.limits),
    ("unique", lambda message: message.unique, lambda target: isinstance(target, UniqueSend)),
    ("priority", lambda message: message.priority != 4, lambda target: target.limits.priorities),
    ("delay", lambda message: message.at, lambda target: target.limits.delays),
)
"""What a message asks for, by the name of the feature, and whether a target honours it."""
_WORDS = {"rate_limit": "rate limit", "unique": "unique scope"}


def _refuse_what_is_lost(message: Message, target: Driver) -> None:
    name = target.limits.name
    for feature, asked, honoured in _LOST:
        if asked(message) and not honoured(target):
            advice = remedy(target, feature)
            what = _WORDS.get(feature, feature)
            text = f"job {message.id} ({message.type}) has a {what}, which {name} cannot honour: it and what follows stay; {advice}"
            raise UnsupportedError(text, driver=name, feature=feature, remedy=advice)
    size = len(message.body.encode("utf-8", "surrogateescape"))
    if size > target.limits.body_bytes:
        advice = "move to a backend that carries more"
        text = f"job {message.id} ({message.type}) has {size:,} bytes, and the {name} driver carries {target.limits.body_bytes:,}: {advice}"
        raise UnsupportedError(text, driver=name, feature="body", remedy=advice)
