"""The key space: where in Redis the jobs of one namespace are.

Every key begins with `queuekit:{namespace}:`. The braces make the namespace the hash tag, so that in a cluster all keys of a
namespace lie in one slot and every transition is atomic.

==========  ==========  =================================================================================================
key         type        holds
==========  ==========  =================================================================================================
jobs        hash        id → place, instant of acceptance, and record; written once (`scripts/parts/job.lua`)
states      hash        id → state, attempt, generation, flags, token, start; a job without one is pending and was never lent
order       sorted set  ids by order of acceptance: what is browsed
ready       sorted set  places ("queue:rank:seq:id") of other jobs that may be lent, all with score 0, so in order of their text
recovered   sorted set  places of jobs whose lease ran out
due         sorted set  ids that wait for a moment, by that moment
leases      sorted set  ids of running jobs, by the end of their lease
lines       sorted set  unfinished jobs by key, in their turn ("length:key:seq:id")
turns       hash        id → its member of `lines`
gates       hash        concurrency key → how many run
waiting     sorted set  jobs that wait for a place under a concurrency limit
grants      sorted set  hand-outs of the newest period by rate key
rates       sorted set  rate keys by when their grants are of no use any more
spread      hash        rate key → how many jobs wait for it
uniques     hash        scope → the id that holds it, and until when
cancels     set         running jobs whose cancellation was asked for
paused      set         queues from which nothing is lent
finished    sorted set  "queue:forget:id" of finished jobs, by the moment at which they are forgotten
errors      hash        id → its newest failures, one JSON object a line
results     hash        id → result and why there is none
progress    hash        id → percent and step
workers     hash        worker → until when it counts as alive, when it was seen, and how it describes itself
counts      hash        "queue:code" → how many jobs
meta        hash        the last place in the order (`seq`), the last token, and counters
wake:QUEUE  list        a mark on which one idle process wakes
fresh:QUEUE list        places of plain jobs that may be lent and never were, in their order; `ready` has all others
==========  ==========  =================================================================================================

All instants are microseconds of the server's clock.
"""

from __future__ import annotations

__all__ = ["Keys"]


class Keys:
    """The names of one namespace's keys."""

    __slots__ = ("prefix",)

    def __init__(self, namespace: str) -> None:
        self.prefix = f"queuekit:{{{namespace}}}:"

    def __getitem__(self, name: str) -> str:
        return self.prefix + name

    def of_queue(self, queue: str) -> tuple[str, str]:
        """Return the keys that a queue has of its own: its bell and its fresh list."""
        return f"{self.prefix}wake:{queue}", f"{self.prefix}fresh:{queue}"

    def bell(self, queue: str) -> str:
        """Return the key of a queue's bell."""
        return f"{self.prefix}wake:{queue}"
