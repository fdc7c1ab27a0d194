"""Running one attempt: the steps that are the same in a thread, on the event loop, and in the dispatcher itself."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from queuekit import bounds
from queuekit.codec import BASE64
from queuekit.context import _current
from queuekit.contract import Clock, Done, Message, Outcome, Rate, Released
from queuekit.durations import refuse
from queuekit.envelope import Envelope, Undecodable, UnknownVersion, decode
from queuekit.errors import BadPayload
from queuekit.events import EventKind
from queuekit.handlers import Handler
from queuekit.signals import Cancel
from queuekit.worker import own_transaction, verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.policy import Policy, says_nothing

if TYPE_CHECKING:
    from queuekit.queue import Queue

__all__ = ["Runtime"]


class Runtime:
    """What attempts need of their queue and worker."""

    def __init__(
        self,
        queue: Queue,
        worker_id: str,
        *,
        progress: Callable[[Attempt], None],
        let_be: Callable[[Attempt, Done], None] | None = None,
    ) -> None:
        self.queue = queue
        self.clock: Clock = queue.clock
        self.worker_id = worker_id
        self.progress_waits = progress
        self.let_be = let_be or _note_completing
        """Leave an attempt's job to its handler's own transaction."""
        self._handlers = queue.handlers
        self._events = queue.events
        self._hooks = queue.hooks
        self._middleware = queue.middleware
        self._limits = queue.driver.limits
        self._wrapped = bool(queue.middleware)
        self._policies: dict[Handler, Policy] = {}
        """What holds for the jobs of a handler whose envelopes say nothing else."""

    # ----------------------------------------------------------------------------------------------------- events

    def tell(self, attempt: Attempt, kind: EventKind, **fields: Any) -> None:
        """Emit an event about an attempt."""
        if self._events.active:
            message = attempt.delivery.message
            self._events.emit(
                kind,
                queue=message.queue,
                job_id=message.id,
                job_type=message.type,
                attempt=attempt.number,
                token=attempt.delivery.token,
                worker=self.worker_id,
                **fields,
            )

    @property
    def listening(self) -> bool:
        """Whether events are worth building."""
        return self._events.active

    # ------------------------------------------------------------------------------------------- before the start

    def judge(self, attempt: Attempt) -> Outcome | None:
        """Decode a delivery and decide whether it may start; an outcome here means that it does not."""
        try:
            envelope = decode(attempt.delivery.message.body)
        except Undecodable as error:
            self.tell(attempt, "undecodable", error=str(error))
            return verdict.undecodable(attempt, error)
        except UnknownVersion as error:
            self.tell(attempt, "unknown_type", reason=str(error))
            return Released(attempt.delivery, verdict.STRANGE_MOST)
        attempt.envelope = envelope
        attempt.number = attempt.delivery.attempt + envelope.attempts
        handler = self._handlers.get(envelope.type)
        if handler is None:
            why = f"no handler for the job type {envelope.type!r} is registered in this worker"
            self.tell(attempt, "unknown_type", reason=why)
            return verdict.strange(attempt, why)
        attempt.handler = handler
        attempt.policy = self._policy(envelope, handler)
        return self._may_not_start(attempt) or self._unpack(attempt)

    def _policy(self, envelope: Envelope, handler: Handler) -> Policy:
        if not says_nothing(envelope):
            return Policy(envelope, handler.options, self._limits.longest_lease)
        policy = self._policies.get(handler)
        if policy is None:
            policy = self._policies[handler] = Policy(envelope, handler.options, self._limits.longest_lease)
        return policy

    def _may_not_start(self, attempt: Attempt) -> Outcome | None:
        policy = attempt.policy
        if attempt.cancelled:
            return verdict.of_error(attempt, Cancel("cancelled"))
        hop = bounds.further(attempt.delivery, attempt.envelope.due, self._limits.longest_delay, self.clock.time())
        if hop is not None:
            return hop
        if attempt.number > policy.max_attempts:
            return verdict.lost_too_often(attempt)
        deadline = attempt.envelope.deadline
        if deadline is None:
            deadline = self._registered_deadline(attempt)
        if deadline is not None and self.queue.backend_time.now() > deadline:
            return verdict.too_late(attempt)
        return self._limit_late(attempt)

    @staticmethod
    def _registered_deadline(attempt: Attempt) -> float | None:
        handler = attempt.handler
        if handler is None or handler.options.deadline is None:
            return None if handler is None else handler.options.deadline_at
        return attempt.envelope.sent + handler.options.deadline

    def _limit_late(self, attempt: Attempt) -> Outcome | None:
        """Attach limits that only this worker's registration knows: the backend enforces them from its next claim on."""
        handler = attempt.handler
        if handler is None or (handler.options.rate_limit is None and handler.options.concurrency is None):
            return None
        message, options = attempt.delivery.message, handler.options
        rate = message.rate or (None if options.rate_limit is None else Rate(handler.name, *options.rate_limit))
        concurrency = message.concurrency or options.concurrency
        if rate == message.rate and concurrency == message.concurrency:
            return None
        successor: Message = msgspec.structs.replace(message, rate=rate, concurrency=concurrency)
        return Released(attempt.delivery, successor=successor)

    def _unpack(self, attempt: Attempt) -> Outcome | None:
        envelope = attempt.envelope
        attempt.encoded = envelope.payload
        codec = envelope.codec
        if codec is None or codec == BASE64:
            return None
        mine = self.queue.codecs.get(codec)
        if mine is None:
            why = f"the payload was made by the codec {codec!r}, which this worker does not have"
            self.tell(attempt, "unknown_type", reason=why)
            return verdict.strange(attempt, why)
        try:
            attempt.encoded = mine.decode(msgspec.json.decode(envelope.payload, type=str))
        except Exception as error:
            self.tell(attempt, "undecodable", error=f"{type(error).__name__}: {error}")
            return verdict.undecodable(attempt, error)
        return None

    # ------------------------------------------------------------------------------- the handler's own transaction

    def complete(self, attempt: Attempt, result: Any, connection: Any) -> None:
        """Complete the attempt's job through its handler's connection; see `JobContext.complete`."""
        own_transaction.refuse(attempt)
        self.let_be(attempt, verdict.done(attempt, result))
        own_transaction.settle(self.queue.driver, attempt, connection)

    # ------------------------------------------------------------------------------------------------ the handler

    def call_for(self, attempt: Attempt) -> Callable[[], Any]:
        """Return the handler with its arguments, wrapped in middleware and hooks; raises `BadPayload`."""
        handler = attempt.handler
        if handler is None:
            raise refuse("handler", None, "judge the attempt first")
        args, kwargs = self.arguments(attempt)
        context = None
        if handler.wants_context:
            context = attempt.context()
            args = (context, *args)
        fn = handler.fn

        def call() -> Any:
            return fn(*args, **kwargs)

        if self._wrapped:
            return self._wrap(context or attempt.context(), call)
        return call

    @staticmethod
    def arguments(attempt: Attempt) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the handler's arguments without its context; raises `BadPayload`."""
        handler = attempt.handler
        assert handler is not None
        if attempt.envelope.codec == BASE64:
            if not handler.binder.whole:
                message = "the payload is bytes, and the handler has no parameter `payload` to take them"
                raise BadPayload(message)
            return (attempt.plain_payload(),), {}
        return handler.binder.arguments(attempt.encoded)

    def _wrap(self, context: Any, call: Callable[[], Any]) -> Callable[[], Any]:
        for middleware in reversed(self._middleware):
            call = _around(middleware, context, call)
        return call

    def run_plain(self, attempt: Attempt) -> Outcome:
        """Run a plain handler on this thread, whatever it raises, and return the outcome."""
        try:
            call = self.call_for(attempt)
            return verdict.of_result(attempt, self._in_context(attempt, call))
        except BaseException as error:
            return verdict.of_error(attempt, error)

    def _in_context(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        """Call in a context of its own, so that nothing a job sets is seen by the next one."""
        return contextvars.Context().run(self._with_current, attempt, call)

    def _with_current(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        _current.set(JobContextOf(attempt))
        if not self._hooks.per_job:
            return call()
        context = attempt.context()
        self._hooks.call("job_start", context)
        try:
            return call()
        finally:
            self._hooks.call("job_end", context)

    async def run_async(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        """Await an async handler in the current task, whose context is its own."""
        _current.set(JobContextOf(attempt))
        if not self._hooks.per_job:
            return await call()
        context = attempt.context()
        self._hooks.call("job_start", context)
        try:
            return await call()
        finally:
            self._hooks.call("job_end", context)


def _note_completing(attempt: Attempt, done: Done) -> None:
    attempt.completing = done


def _around(middleware: Callable[..., Any], context: Any, call: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: middleware(context, call)


JobContextOf = Attempt.context
