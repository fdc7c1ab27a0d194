"""Completing a job in its handler's own transaction, and learning afterwards what became of that.

1. The handler calls `ctx.complete`: from then on the worker writes nothing to the job, whose row the transaction locks.
2. The driver applies the success through the handler's connection, or raises `LeaseLost` and spoils the transaction.
3. The handler commits, or does not, and ends.
4. The worker settles the job as *failed*. That changes nothing where the commit has settled it, and is the truth where it has
   not. So nothing has to be known of the handler's database, and a worker that dies before this step leaves nothing undone.
"""

from __future__ import annotations

from typing import Any

from queuekit.contract import Driver, Outcome, Settlement
from queuekit.errors import ConfigurationError, LeaseLost
from queuekit.options import BLOCKS
from queuekit.worker.attempt import Attempt

__all__ = ["learn", "refuse", "settle"]


def refuse(attempt: Attempt) -> None:
    """Raise `ConfigurationError` unless this attempt may be completed by its handler."""
    if not attempt.policy.own_transaction:
        message = 'ctx.complete is for handlers that are registered with settle="transaction": add that option'
        raise ConfigurationError(message)
    if attempt.handler is not None and attempt.handler.is_async:
        raise ConfigurationError(BLOCKS)


def settle(driver: Driver, attempt: Attempt, connection: Any) -> None:
    """Apply the attempt's success through the handler's connection; raises `LeaseLost` when it does not count any more."""
    try:
        driver.settle_in(connection, [attempt.completing])  # type: ignore[attr-defined]  # checked at registration
    except ConfigurationError:
        attempt.completing = None  # nothing was done, so the worker goes on as before
        raise
    except LeaseLost as error:
        error.job_id = attempt.delivery.message.id
        raise


def learn(driver: Driver, attempt: Attempt, otherwise: Outcome) -> tuple[Outcome, Settlement]:
    """Return what became of an attempt that completed its job itself, and settle it by `otherwise` where that was not committed.

    Blocks while the transaction is open, for as long as the driver waits for a lock, and then raises its `DriverUnavailable`.
    """
    assert attempt.completing is not None
    [answer] = driver.settle([otherwise])
    if answer == "lost" and _is_forgotten(driver, attempt):
        answer = "already_settled"
    return (otherwise if answer != "already_settled" else attempt.completing), answer


def _is_forgotten(driver: Driver, attempt: Attempt) -> bool:
    """Whether the job is one that leaves no record, and has ended."""
    if attempt.delivery.message.retain != 0:
        return False
    [record] = driver.get([attempt.delivery.message.id])  # type: ignore[attr-defined]  # engines can be browsed
    return record is None
