"""What a backend's bounds on delays and leases mean for jobs.

Delays longer than its longest travel in hops; the envelope says when the last one ends. A hop uses up no attempt. Whether it
is time is judged by the worker's clock against the dispatcher's: where a backend has hops, that is how exact long
delays are. An attempt must end before the backend takes its job back, whatever was renewed.
"""

from __future__ import annotations

import msgspec

from queuekit.contract import Again, Delivery, Message, Outcome, Released
from queuekit.envelope import rewrite

__all__ = ["first", "further", "longest_attempt", "within"]

MARGIN = 0.05
"""Part of a backend's longest lease that is left for settling."""


def longest_attempt(longest_lease: float) -> float:
    """Return the seconds that an attempt may take on a backend that takes jobs back after so long."""
    return longest_lease * (1 - MARGIN)


def first(message: Message, longest: float, now: float) -> Message:
    """Return the message with the first hop as its delay if it waits for longer than `longest` seconds."""
    wait = max(message.delay, 0.0 if message.at is None else message.at - now)
    if wait <= longest:
        return message
    return msgspec.structs.replace(message, body=rewrite(message.body, due=now + wait), delay=longest, at=None)


def further(delivery: Delivery, due: float | None, longest: float | None, now: float) -> Released | None:
    """Return the next hop of a job that was delivered before it is due; None when it may start."""
    if due is None or due <= now:
        return None
    return Released(delivery, due - now if longest is None else min(longest, due - now))


def within(outcome: Outcome, longest: float, now: float) -> Outcome:
    """Return the outcome with its delay cut to the first hop, if it is longer than `longest` seconds."""
    if not isinstance(outcome, Again | Released) or outcome.delay <= longest:
        return outcome
    message = outcome.successor or outcome.delivery.message
    successor = msgspec.structs.replace(message, body=rewrite(message.body, due=now + outcome.delay))
    return msgspec.structs.replace(outcome, delay=longest, successor=successor)
