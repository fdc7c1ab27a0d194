"""From a job to accepted messages: options resolved, payload checked, everything validated before anything is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from queuekit import bounds
from queuekit.backendtime import BackendTime
from queuekit.backoff import Backoff
from queuekit.codec import Codec, encode_json
from queuekit.contract import (
    AmbiguousSend,
    Clock,
    Driver,
    FreshSend,
    Message,
    PartialSend,
    Patience,
    Rate,
    Receipt,
    Unique,
)
from queuekit.durations import refuse
from queuekit.envelope import VERSION, Envelope, Template
from queuekit.errors import (
    AmbiguousDispatch,
    BadPayload,
    ConfigurationError,
    DuplicateJob,
    PartialDispatch,
    PayloadTooLarge,
    UnsupportedError,
)
from queuekit.events import Events
from queuekit.handlers import Handler, Registry, encode_payload
from queuekit.ids import new_id
from queuekit.job import Job
from queuekit.options import NO_OPTIONS, Options
from queuekit.remedies import pairing, unsupported

__all__ = ["Dispatcher", "Plan"]

T = TypeVar("T")


class Plan:
    """Everything about a dispatch that does not differ from job to job, worked out once."""

    __slots__ = (
        "_codec",
        "_default",
        "_handler",
        "_settled",
        "_simple",
        "_template",
        "_what",
        "options",
        "queue",
        "type",
    )

    def __init__(self, type: str, options: Options, handler: Handler | None, queue: str, codec: Codec | None) -> None:
        self.type = type
        self.options = options
        self.queue = queue
        self._handler = handler
        self._codec = codec
        self._template = Template(_constant(type, options, None))
        self._settled = Message(
            id="",
            queue=queue,
            type=type,
            body="",
            delay=options.delay or 0.0,
            at=options.at,
            priority=4 if options.priority is None else options.priority,
            key=options.key,
            concurrency=options.concurrency,
            rate=None if options.rate_limit is None else Rate(type, *options.rate_limit),
            retain=options.retain,
            tags=options.tags or (),
        )
        self._what = f"the payload of {type!r}"
        self._default = self._settled == Message(id="", queue=queue, type=type, body="")
        self._simple = self._default and codec is None and not options.unique and _says_nothing_per_job(options)

    def message(self, payload: Any, now: float, most: int, backend: BackendTime) -> Message:
        """Encode one job; raises for a payload that cannot be, does not fit its handler, or is too large."""
        if self._simple and type(payload) is dict:
            return self._plain_message(payload, now, most)
        options = self.options
        plain, codec = self._encode(payload)
        encoded = self._sealed(plain) if codec is None and self._codec is not None else plain
        codec = self._codec.name if codec is None and self._codec is not None else codec
        template = self._template
        if codec is not None:
            template = Template(_constant(self.type, options, codec))
        deadline = options.deadline_at if options.deadline is None else backend.now() + options.deadline
        id = options.id or new_id()
        body = template.body(id, encoded.decode(), now, deadline)
        if len(body) * 4 > most:
            self._refuse_large(body, most)
        if self._default and not options.unique:
            return Message(id, self.queue, self.type, body)
        unique = self._unique(plain) if options.unique else None
        return msgspec.structs.replace(self._settled, id=id, body=body, unique=unique)

    def _plain_message(self, payload: dict[str, Any], now: float, most: int) -> Message:
        """Encode one job of the most common kind, without a question that was answered when planning."""
        encoded = encode_json(payload, what=self._what)
        self._check(encoded)
        id = new_id()
        body = self._template.body(id, encoded.decode(), now, None)
        if len(body) * 4 > most:
            self._refuse_large(body, most)
        return Message(id, self.queue, self.type, body)

    def _encode(self, payload: Any) -> tuple[bytes, str | None]:
        encoded, codec = encode_payload(payload, what=self._what)
        if codec is None:
            self._check(encoded)
        return encoded, codec

    def _sealed(self, encoded: bytes) -> bytes:
        assert self._codec is not None
        return msgspec.json.encode(self._codec.encode(encoded))

    def _check(self, encoded: bytes) -> None:
        """Refuse what does not fit the handler where it is known."""
        if self._handler is None:
            return
        try:
            self._handler.binder.check(encoded)
        except BadPayload as error:
            message = f"the payload does not fit the handler of {self.type!r}: {error}"
            raise BadPayload(message, reason=None, path=error.path) from None

    def _refuse_large(self, body: str, most: int) -> None:
        size = len(body.encode())
        if size > most:
            message = (
                f"the job {self.type!r} is {size:,} bytes long when encoded, and this backend carries {most:,}: "
                "store the data elsewhere and send its address"
            )
            raise PayloadTooLarge(message, size=size, limit=most)

    def _unique(self, encoded: bytes) -> Unique:
        from hashlib import sha256  # noqa: PLC0415 - OpenSSL takes 3 MiB, which a worker need not hold

        options = self.options
        if options.unique_key is not None:
            text = b"k" + options.unique_key.encode()
        else:
            text = b"p" + msgspec.json.encode(msgspec.json.decode(encoded), order="sorted")
        scope = f"{self.queue}:{self.type}:{sha256(text).hexdigest()}"
        return Unique(scope, options.unique_for, options.until or "end", options.on_conflict or "return")


def _says_nothing_per_job(options: Options) -> bool:
    return options.id is None and options.deadline is None and options.deadline_at is None


def _constant(type: str, options: Options, codec: str | None) -> Envelope:
    return Envelope(
        v=VERSION,
        id="",
        type=type,
        codec=codec,
        retries=options.retries,
        backoff=options.backoff if isinstance(options.backoff, Backoff) else None,
        timeout=options.timeout,
        delivery=options.delivery,
        settle=options.settle,
        headers=options.headers or None,
    )


class Dispatcher:
    """Sends jobs through one driver."""

    def __init__(
        self,
        *,
        driver: Driver,
        features: frozenset[str],
        handlers: Registry,
        events: Events,
        clock: Clock,
        default_queue: str,
        codec: Codec | None,
        opened: Callable[[], None],
        prepare: Callable[[str], None],
    ) -> None:
        self._driver = driver
        self._features = features
        self._handlers = handlers
        self._events = events
        self._clock = clock
        self._default_queue = default_queue
        self._codec = codec
        self._opened = opened
        self._prepare = prepare
        self._longest = driver.limits.longest_delay
        self._tells_duplicates = "unique" in features
        self._takes_fresh = driver if isinstance(driver, FreshSend) else None
        self._plans: dict[str, Plan] = {}
        self.backend_time = BackendTime(driver, features, clock)
        """What deadlines go by."""

    # -------------------------------------------------------------------------------------------------- planning

    def forget_plans(self) -> None:
        """Work plans out anew: a handler was registered."""
        self._plans = {}

    def plan(self, type: str, options: Options) -> Plan:
        """Resolve a job type's options against its registration; refuses what the driver cannot do."""
        if options is NO_OPTIONS:
            cached = self._plans.get(type)
            if cached is not None:
                return cached
        handler = self._handlers.get(type)
        resolved = options if handler is None else options.over(handler.options)
        if callable(options.backoff) and not isinstance(options.backoff, Backoff):
            message = "backoff: a function cannot travel with a job; set it where the handler is registered"
            raise ConfigurationError(message)
        refuse_unsupported(resolved, self._driver, self._features)
        plan = Plan(type, resolved, handler, resolved.queue or self._default_queue, self._codec)
        if options is NO_OPTIONS:
            self._plans[type] = plan
        return plan

    def messages(self, jobs: Iterable[Job]) -> list[Message]:
        """Validate and encode all jobs before any is sent."""
        if not isinstance(jobs, Iterable):
            raise refuse("jobs", jobs, "give a list of Job values")
        now, most = self._clock.time(), self._driver.limits.body_bytes
        made: list[Message] = []
        plan: Plan | None = None
        options: Options | None = None
        for job in jobs:
            if not isinstance(job, Job):
                message = (
                    f"dispatch takes Job values, not {type(job).__name__}: use Job(type, payload) or handler.job(…)"
                )
                raise ConfigurationError(message)
            if plan is None or job.options is not options or job.type != plan.type:
                plan, options = self.plan(job.type, job.options), job.options
            made.append(self._hopping(plan.message(job.payload, now, most, self.backend_time), now))
        return made

    def _hopping(self, message: Message, now: float) -> Message:
        return message if self._longest is None else bounds.first(message, self._longest, now)

    # --------------------------------------------------------------------------------------------------- sending

    def dispatch(
        self,
        plan: Plan,
        payload: Any,
        *,
        timeout: float | None = None,
        cancel: threading.Event | None = None,
        connection: Any = None,
    ) -> Receipt:
        """Send one job."""
        now = self._clock.time()
        message = self._hopping(plan.message(payload, now, self._driver.limits.body_bytes, self.backend_time), now)
        patience = self._patience(timeout, cancel)
        if connection is not None:
            return self._send_in(connection, [message], patience)[0]
        self._opened()
        self._prepare(message.queue)
        if message.unique is None or not self._tells_duplicates:
            self._guarded([message], patience, self._send_fresh if plan.options.id is None else self._driver.send)
            receipt = Receipt(message.id, created=True)
        else:
            receipt = self._send_unique([message], patience)[0]
        if self._events.active:
            self._report([receipt], [message])
        return receipt

    def _send_fresh(self, messages: Sequence[Message], *, patience: Patience | None) -> None:
        """Send one message whose id was made here, and is nowhere else."""
        if self._takes_fresh is None:
            self._driver.send(messages, patience=patience)
        else:
            self._takes_fresh.send_fresh(messages[0], patience=patience)

    def dispatch_many(
        self,
        made: Sequence[Message],
        *,
        timeout: float | None = None,
        cancel: threading.Event | None = None,
        connection: Any = None,
    ) -> list[Receipt]:
        """Send encoded jobs in as few calls as the backend's batch size allows."""
        patience = self._patience(timeout, cancel)
        if connection is not None:
            return self._send_in(connection, made, patience)
        self._opened()
        for queue in {message.queue for message in made}:
            self._prepare(queue)
        receipts: list[Receipt] = []
        size = self._driver.limits.batch
        for start in range(0, len(made), size):
            chunk = made[start : start + size]
            try:
                receipts += self._send_chunk(chunk, patience)
            except Exception as error:
                if len(made) == 1 and not isinstance(error, PartialDispatch):
                    raise
                raise _partial(receipts, chunk, made[start + size :], error) from error
        if self._events.active:
            self._report(receipts, made)
        return receipts

    def _patience(self, timeout: float | None, cancel: threading.Event | None) -> Patience | None:
        if timeout is None and cancel is None:
            return None
        if cancel is not None and not callable(getattr(cancel, "is_set", None)):
            raise refuse("cancel", cancel, "give a threading.Event, which another thread sets to withdraw the dispatch")
        patience = Patience(timeout, cancel, clock=self._clock)
        patience.check()
        return patience

    def _send_chunk(self, messages: Sequence[Message], patience: Patience | None) -> list[Receipt]:
        if self._tells_duplicates and any(message.unique is not None for message in messages):
            return self._send_unique(messages, patience)
        self._guarded(messages, patience, self._driver.send)
        return [Receipt(message.id, True) for message in messages]

    def _send_unique(self, messages: Sequence[Message], patience: Patience | None) -> list[Receipt]:
        send: Callable[..., list[Receipt]] = self._driver.send_unique  # type: ignore[attr-defined]  # checked by `plan`
        receipts = self._guarded(messages, patience, send)
        _refuse_duplicates(messages, receipts)
        return receipts

    def _send_in(self, connection: Any, messages: Sequence[Message], patience: Patience | None) -> list[Receipt]:
        if "transactional" not in self._features:
            raise unsupported(
                self._driver,
                "transactional",
                "dispatch inside your database transaction",
                without="dispatch after your commit",
            )
        self._opened()
        if patience is not None:
            patience.check()
        receipts: list[Receipt] = self._driver.send_in(connection, messages)  # type: ignore[attr-defined]
        _refuse_duplicates(messages, receipts)
        if self._events.active:
            self._report(receipts, messages)
        return receipts

    def _guarded(self, messages: Sequence[Message], patience: Patience | None, send: Callable[..., T]) -> T:
        """Call a sending verb and translate what it says about its failure."""
        try:
            return send(messages, patience=patience)
        except AmbiguousSend as error:
            ids = [message.id for message in messages]
            text = f"no answer came to the dispatch of {len(ids)} job(s); dispatching again with the same id is safe"
            if len(ids) == 1:
                raise AmbiguousDispatch(text, job_id=ids[0]) from error
            raise PartialDispatch(text, unknown=dict.fromkeys(ids, error)) from error
        except PartialSend as error:
            if len(messages) == 1 and error.failed:
                raise next(iter(error.failed.values())) from error
            raise PartialDispatch(
                str(error), accepted=error.accepted, failed=error.failed, unknown=error.unknown
            ) from error

    def _report(self, receipts: Sequence[Receipt], messages: Sequence[Message]) -> None:
        for receipt, message in zip(receipts, messages, strict=True):
            if receipt.created:
                self._events.emit("dispatched", job_id=message.id, job_type=message.type, queue=message.queue)


def _refuse_duplicates(messages: Sequence[Message], receipts: Sequence[Receipt]) -> None:
    refused: dict[str, Exception] = {}
    for message, receipt in zip(messages, receipts, strict=True):
        if not receipt.created and message.unique is not None and message.unique.on_conflict == "raise":
            text = f"an unfinished job {receipt.id} of type {message.type!r} has the same unique scope"
            refused[message.id] = DuplicateJob(text, job_id=receipt.id)
    if len(refused) == 1 and len(messages) == 1:
        raise next(iter(refused.values()))
    if refused:
        accepted = [
            receipt.id for receipt, message in zip(receipts, messages, strict=True) if message.id not in refused
        ]
        text = f"{len(refused)} of {len(messages)} jobs were duplicates"
        raise PartialDispatch(text, accepted=accepted, failed=refused)


def _partial(
    before: Sequence[Receipt],
    chunk: Sequence[Message],
    rest: Sequence[Message],
    error: Exception,
) -> PartialDispatch:
    """Account for every job of a batch that failed in the middle."""
    accepted = [receipt.id for receipt in before]
    failed: dict[str, Exception] = {message.id: error for message in rest}
    unknown: dict[str, Exception] = {}
    if isinstance(error, PartialDispatch):
        accepted += error.accepted
        failed |= error.failed
        unknown |= error.unknown
    else:
        failed |= {message.id: error for message in chunk}
    text = f"{len(accepted)} jobs accepted, {len(failed)} not, {len(unknown)} unknown: {error}"
    return PartialDispatch(text, accepted=accepted, failed=failed, unknown=unknown)


_LEAVE_OUT = "leave the option out"

_SETTLE = 'leave settle="transaction" out and let the worker settle'

_NEEDS: tuple[tuple[str, Callable[[Options], bool], str, str], ...] = (
    ("delay", lambda o: bool(o.delay) or o.at is not None, "delay a job", _LEAVE_OUT),
    ("key", lambda o: o.key is not None, "keep order per key", _LEAVE_OUT),
    ("concurrency", lambda o: o.concurrency is not None, "limit concurrency per key", _LEAVE_OUT),
    ("rate_limit", lambda o: o.rate_limit is not None, "limit a rate", _LEAVE_OUT),
    ("priority", lambda o: o.priority is not None and o.priority != 4, "order by priority", _LEAVE_OUT),
    (
        "transactional_settle",
        lambda o: o.settle == "transaction",
        "complete a job in its handler's transaction",
        _SETTLE,
    ),
)
"""Feature, whether these options ask for it, what it is in words, and how to do without it."""


def refuse_unsupported(options: Options, driver: Driver, features: frozenset[str]) -> None:
    """Raise `UnsupportedError` for the first option that this driver cannot honour."""
    for feature, asked, what, without in _NEEDS:
        if feature not in features and asked(options):
            raise unsupported(driver, feature, what, without=without)
    if options.unique and "unique" not in features:
        _refuse_unique(options, driver)
    _refuse_long_attempt(options.timeout, driver)


def _refuse_unique(options: Options, driver: Driver) -> None:
    """Let the one window pass that a driver without the feature may have: it cannot raise, replace, or free a scope early."""
    window = driver.limits.unique_window
    if window is None:
        raise unsupported(driver, "unique", "make a job unique", without=_LEAVE_OUT)
    asked = (options.unique_for, options.until or "end", options.on_conflict or "return")
    if asked != (window, "end", "return"):
        what = f"make a job unique otherwise than with unique_for={window:g}, and neither until nor on_conflict"
        raise unsupported(driver, "unique", what, without=_LEAVE_OUT)


def _refuse_long_attempt(timeout: float | None, driver: Driver) -> None:
    lease, name = driver.limits.longest_lease, driver.limits.name
    if timeout is None or lease is None or timeout <= bounds.longest_attempt(lease):
        return
    remedy = f"give at most {bounds.longest_attempt(lease):g}, or {pairing(driver)}, whose lease has no such bound"
    message = f"timeout={timeout:g} is refused: the {name} driver takes a job back after {lease:g} s; {remedy}"
    raise UnsupportedError(message, driver=name, feature="timeout", remedy=remedy)
