"""From what a handler did to what becomes of its job: every decision of the core, as values, in one place."""

from __future__ import annotations

import inspect
import traceback
from types import TracebackType
from typing import Any

import msgspec

from queuekit import envelope as envelopes
from queuekit.backoff import DEFAULT_BACKOFF
from queuekit.codec import encode_json
from queuekit.contract import Again, Dead, Done, Failure, Outcome, Released, Settlement
from queuekit.errors import BadPayload, ConfigurationError, JobCancelled, JobError, JobTimeout
from queuekit.events import EventKind
from queuekit.signals import Cancel, Fail, Retry, Snooze
from queuekit.worker.attempt import Attempt, storable

__all__ = ["MAX_TEXT", "Stopped", "UncommittedError", "done", "event_of", "failure", "of_error", "of_result", "strange"]

MAX_TEXT = 8_192
"""Characters kept of an error's traceback (its end, where the cause is); a quarter of that for its message."""
MAX_REASON = 500
"""Characters kept of a reason that a handler gives to `Fail` or `Cancel`."""
RESULT_BYTES = 1 << 20
"""The largest result that is kept."""
STRANGE_FIRST, STRANGE_MOST, STRANGE_TIMES = 1.0, 300.0, 297
"""An unknown job type is given back for 1 s, doubling, at most 5 min; the 297th time ends 24 h of that."""


class Stopped(BaseException):
    """Raised into a handler that must end because its worker does; a base class, so that `except Exception` lets it by."""


class UncommittedError(JobError):
    """The handler returned, and the transaction in which it had completed its job was not committed."""


def of_result(attempt: Attempt, value: Any) -> Outcome:
    """Judge what a handler returned; one that completed its job itself has failed unless it committed that."""
    match value:
        case None if attempt.completing is None:
            return Done(attempt.delivery)
        case Retry() | Snooze() | Fail() | Cancel():
            return of_error(attempt, value)
        case _ if attempt.completing is not None:
            return of_error(attempt, UncommittedError(UncommittedError.__doc__ or ""))
        case _:
            return _with_result(attempt, value)


def _never_awaited(value: Any) -> TypeError:
    if inspect.iscoroutine(value):
        value.close()
    message = f"the handler returned a {type(value).__name__} that nobody awaits: define it with `async def`"
    return TypeError(message)


def _with_result(attempt: Attempt, value: Any) -> Outcome:
    outcome = done(attempt, value)
    if outcome.result_error is not None and inspect.isawaitable(value):
        return of_error(attempt, _never_awaited(value))
    return outcome


def done(attempt: Attempt, value: Any) -> Done:
    """Return a success with this result, or with the reason why it cannot be kept."""
    if value is None:
        return Done(attempt.delivery)
    try:
        encoded = encode_json(value, what="the result")
    except ConfigurationError as error:
        return Done(attempt.delivery, result_error=storable(str(error))[:MAX_TEXT])
    if len(encoded) > RESULT_BYTES:
        text = f"the result is {len(encoded):,} bytes long when encoded, and {RESULT_BYTES:,} are kept"
        return Done(attempt.delivery, result_error=text)
    return Done(attempt.delivery, encoded.decode())


def of_error(attempt: Attempt, error: BaseException) -> Outcome:
    """Judge what a handler raised."""
    delivery = attempt.delivery
    match error:
        case Snooze():
            return Released(delivery, error.after, _counting(attempt, snoozes=attempt.envelope.snoozes + 1))
        case Cancel():
            return Dead(delivery, _said(error) or "cancelled", state="cancelled")
        case Fail():
            return Dead(delivery, _said(error) or "failed", failure(attempt, error, "failed"))
        case BadPayload(reason="bad_payload"):
            return Dead(delivery, "bad_payload", failure(attempt, error, "bad_payload"))
        case Stopped():
            return given_back(attempt)
        case _ if attempt.cancelled or isinstance(error, JobCancelled):
            return Dead(delivery, "cancelled", failure(attempt, error, "cancelled"), "cancelled")
        case _:
            return _failed(attempt, error)


def given_back(attempt: Attempt) -> Outcome:
    """Give back a job whose handler had started; one that runs at most once has had its run."""
    if not attempt.policy.at_most_once:
        return Released(attempt.delivery)
    text = "its worker stopped before it ended"
    record = Failure(attempt.number, attempt.runtime.clock.time(), "worker_lost", message=text)
    return Dead(attempt.delivery, "worker_lost", record)


def _said(error: BaseException) -> str:
    """Return a handler's own words as a reason that every backend can store."""
    return storable(_text_of(error))[:MAX_REASON]


def _failed(attempt: Attempt, error: BaseException) -> Outcome:
    """Try again, or give up: an attempt failed by error or timeout."""
    timed_out = attempt.timed_out and isinstance(error, JobTimeout)
    if timed_out and not str(error):
        error.args = (too_long(attempt),)  # a thread is interrupted by a class, which comes without a text
    reason = "timeout" if timed_out else "error"
    record = failure(attempt, error, reason)
    if attempt.number >= attempt.policy.max_attempts:
        return Dead(attempt.delivery, reason, record)
    delay = error.after if isinstance(error, Retry) and error.after is not None else wait_for(attempt, error)
    return Again(attempt.delivery, delay, record)


def too_long(attempt: Attempt) -> str:
    """Return what a timeout says."""
    return f"the attempt ran longer than its timeout of {attempt.policy.timeout} s"


def wait_for(attempt: Attempt, error: BaseException) -> float:
    """Return the seconds until the next attempt, by the job's own backoff if that works."""
    try:
        return attempt.policy.wait(attempt.number, error)
    except Exception as failed:
        attempt.runtime.tell(attempt, "backoff_failed", error=f"{type(failed).__name__}: {failed}")
        return DEFAULT_BACKOFF.wait(attempt.number)


def lost_too_often(attempt: Attempt) -> Outcome:
    """Give up a job whose workers died under it (or that runs at most once)."""
    number = attempt.number - 1
    record = Failure(number, attempt.runtime.clock.time(), "worker_lost", message="the worker's lease ran out")
    return Dead(attempt.delivery, "worker_lost", record)


def too_late(attempt: Attempt) -> Outcome:
    """Give up a job whose deadline has passed before it could start."""
    return Dead(attempt.delivery, "deadline", Failure(attempt.number, attempt.runtime.clock.time(), "deadline"))


def undecodable(attempt: Attempt, error: Exception) -> Outcome:
    """Park a body that is no envelope, with its bytes as they are."""
    return Dead(attempt.delivery, "undecodable", failure(attempt, error, "undecodable"))


def strange(attempt: Attempt, why: str) -> Outcome:
    """Give back what this worker does not know, for longer each time, and give up after a day."""
    times = attempt.envelope.strange + 1
    if times > STRANGE_TIMES:
        record = Failure(attempt.number, attempt.runtime.clock.time(), "unknown_type", message=why)
        return Dead(attempt.delivery, "unknown_type", record)
    delay = min(STRANGE_MOST, STRANGE_FIRST * 2.0 ** min(times - 1, 16))
    return Released(attempt.delivery, delay, _counting(attempt, strange=times))


def _counting(attempt: Attempt, **counters: int) -> Any:
    message = attempt.delivery.message
    return msgspec.structs.replace(message, body=envelopes.rewrite(message.body, **counters))


def failure(attempt: Attempt, error: BaseException, reason: str) -> Failure:
    """Describe an error, cut to a bounded size and free of what no backend can store."""
    return Failure(
        attempt=attempt.number,
        at=attempt.runtime.clock.time(),
        reason=reason,
        kind=type(error).__name__,
        message=storable(_text_of(error))[: MAX_TEXT // 4],
        traceback=storable(_trace_of(error))[-MAX_TEXT:],
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"<its text cannot be made: {type(second).__name__}>"


def _trace_of(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    try:
        lines = traceback.format_exception(type(error), error, _from_handler(error.__traceback__), limit=-30)
    except Exception as second:
        return f"<its traceback cannot be made: {type(second).__name__}>"
    return "".join(lines)


def _from_handler(trace: TracebackType) -> TracebackType:
    """Skip the worker's own frames: they are the same for every job, and each costs as much to format as one that tells something."""
    while trace.tb_next is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("queuekit.worker."):
        trace = trace.tb_next
    return trace


def event_of(answer: Settlement) -> EventKind:
    """Return what to tell of a settlement: one that counted before, its answer lost on the way, counts."""
    return "settle_lost" if answer == "lost" else "settled"
