"""What observers hear of an attempt's end."""

from __future__ import annotations

import logging

from queuekit.contract import Again, Dead, Done, Outcome, Released, Settlement
from queuekit.worker import verdict
from queuekit.worker.attempt import Attempt
from queuekit.worker.runtime import Runtime

__all__ = ["tell_learned", "tell_outcome"]

_log = logging.getLogger("queuekit.worker")


def tell_outcome(runtime: Runtime, attempt: Attempt) -> None:
    """Tell how an attempt ended."""
    outcome, took = attempt.outcome, attempt.duration
    if outcome is None:
        return
    runtime.tell(attempt, "finished", duration=took)
    match outcome:
        case Done():
            if outcome.result_error is not None:
                runtime.tell(attempt, "result_error", reason=outcome.result_error)
            runtime.tell(attempt, "completed", duration=took)
        case Again():
            runtime.tell(attempt, "retrying", delay=outcome.delay, error=_said(outcome))
        case Released():
            snoozed = outcome.successor is not None and attempt.envelope.strange == 0 and outcome.delay > 0
            runtime.tell(attempt, "snoozed" if snoozed else "released", delay=outcome.delay)
        case Dead():
            runtime.tell(attempt, outcome.state, reason=outcome.reason, error=_said(outcome))


def tell_learned(runtime: Runtime, attempt: Attempt, otherwise: Outcome, answer: Settlement) -> None:
    """Tell what became of an attempt that completed its job itself; an error after the commit is for the log alone."""
    if answer == "already_settled" and isinstance(otherwise, Again | Dead) and not _is_uncommitted(otherwise):
        _log.warning("job %s failed after it had been completed: %s", attempt.delivery.message.id, _said(otherwise))
    tell_outcome(runtime, attempt)
    runtime.tell(attempt, verdict.event_of(answer))


def _is_uncommitted(outcome: Again | Dead) -> bool:
    return outcome.error is not None and outcome.error.kind == verdict.UncommittedError.__name__


def _said(outcome: Again | Dead) -> str | None:
    error = outcome.error
    return None if error is None else f"{error.kind}: {error.message}" if error.kind else error.reason
