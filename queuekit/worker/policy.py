"""What a job's options mean once it has arrived: from its envelope, else from this worker's registration."""

from __future__ import annotations

import random
from collections.abc import Callable

from queuekit.backoff import DEFAULT_BACKOFF, Backoff
from queuekit.bounds import longest_attempt
from queuekit.durations import seconds
from queuekit.envelope import Envelope
from queuekit.options import NO_OPTIONS, Options

__all__ = ["DEFAULT_RETRIES", "Policy"]

DEFAULT_RETRIES = 20
"""With the default backoff the last attempt comes about 13 hours after the first: long enough to mend a deployment."""


class Policy:
    """Retries, backoff, timeout and the like of one job."""

    __slots__ = ("at_most_once", "backoff", "max_attempts", "own_transaction", "settle_now", "timeout")

    def __init__(self, envelope: Envelope, options: Options, longest_lease: float | None = None) -> None:
        retries = envelope.retries if envelope.retries is not None else options.retries
        delivery = envelope.delivery or options.delivery
        self.at_most_once = delivery == "at_most_once"
        if retries is None:
            retries = 0 if self.at_most_once else DEFAULT_RETRIES
        self.max_attempts = 1 if self.at_most_once else retries + 1
        self.backoff: Backoff | Callable[[int, BaseException], float] = (
            envelope.backoff or options.backoff or DEFAULT_BACKOFF
        )
        self.timeout = envelope.timeout if envelope.timeout is not None else options.timeout
        if longest_lease is not None:
            self.timeout = min(self.timeout or longest_lease, longest_attempt(longest_lease))
        settle = envelope.settle or options.settle
        self.settle_now = settle == "sync"
        self.own_transaction = settle == "transaction"

    def wait(self, attempt: int, error: BaseException, rng: random.Random | None = None) -> float:
        """Return the seconds until the next attempt; what a custom backoff raises is the caller's to handle."""
        if isinstance(self.backoff, Backoff):
            return self.backoff.wait(attempt, rng)
        return seconds("the backoff function's answer", self.backoff(attempt, error))


def says_nothing(envelope: Envelope) -> bool:
    """Whether the envelope leaves everything to the registration: then one policy serves all jobs of the handler."""
    return (
        envelope.retries is None
        and envelope.backoff is None
        and envelope.timeout is None
        and envelope.delivery is None
        and envelope.settle is None
    )


PLAIN = Policy(Envelope(v=1, id="", type=""), NO_OPTIONS)
