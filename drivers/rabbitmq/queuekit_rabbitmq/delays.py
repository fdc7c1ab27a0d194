"""The delay ladder: a delay in binary, one step for each bit.

Step N is a topic exchange and a queue whose messages expire after 2^N units. A message's routing key spells the bits of its delay,
highest first: `1.0.1.lane`. It enters at its highest bit; where the bit is 1, the exchange puts it into the queue, which
dead-letters it to the exchange of the step below; where it is 0, straight to that exchange. Expiry within one queue is in order
of arrival, since all wait equally long: nothing waits behind a longer one, as it would with a time to live for each message.
Dead-lettering is at least once: a message leaves a step only when the next has confirmed it.
"""

from __future__ import annotations

import math

__all__ = ["STEPS", "key_of", "longest", "units_of"]

STEPS = 27
"""With the default unit of 50 ms the longest delay is 77 days; longer ones travel in hops."""


def longest(unit: float) -> float:
    """Return the longest delay in seconds."""
    return ((1 << STEPS) - 1) * unit


def units_of(delay: float, unit: float) -> int:
    """Return a delay in units, rounded up: never early. A float that is a hair above a whole number is that number."""
    return math.ceil(round(delay / unit, 6))


def key_of(units: int, lane: str) -> str:
    """Return the routing key: one word a bit, all `STEPS` of them, highest first, and the lane."""
    return ".".join((*f"{units:0{STEPS}b}", lane))
