"""Claims: one statement where plain jobs are due, a transaction where time, keys or limits decide; and the wait between two looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from queuekit.contract import Clock, Delivery, Wakeup
from queuekit_postgres import lending, sending
from queuekit_postgres.connections import pipelined
from queuekit_postgres.floors import Asked, Floors
from queuekit_postgres.listening import Bell
from queuekit_postgres.runner import Runner
from queuekit_postgres.work import Work

__all__ = ["Claimer", "Wanted"]

T = TypeVar("T")
SWEEP_EVERY = 0.05
"""Seconds between looks for leases that ran out; a claim that waits knows the moment exactly."""
SOON = 0.001
"""Seconds after which a claim that waits looks at what has just become due."""
SWEEP_MOST, SWEEP_SHARE = 2.0, 10
"""A look takes at most a tenth of the time, but comes at least so often: it reads all that began since the oldest running job."""


class Wanted(msgspec.Struct, frozen=True):
    """What a claim asks for."""

    queues: Sequence[str]
    limit: int
    lease: float
    free: int | None
    recover: bool

    @property
    def places(self) -> int:
        """How many of the jobs may be ones that another worker had begun."""
        return self.limit if self.free is None else min(self.free, self.limit)


class Claimer:
    """Lends due jobs."""

    def __init__(
        self, runner: Runner, floors: Floors, bell: Bell, clock: Clock, *, channel: str | None, poll: float
    ) -> None:
        self._run = runner
        self._floors = floors
        self._bell = bell
        self._clock = clock
        self._channel = channel
        self._poll = poll
        self._swept = -math.inf
        self._sweep_pause = SWEEP_EVERY

    def claim(self, wanted: Wanted, *, wait: float, wakeup: Wakeup | None) -> list[Delivery]:
        """Lend due jobs; wait for them as long as none are due."""
        if wait <= 0:
            return self.look(wanted)
        if self._channel is not None:
            self._bell.start(self._run.ns)
        flag = wakeup or Wakeup()
        end = self._clock.monotonic() + wait
        self._bell.watch(flag)
        try:
            return self._wait_for(wanted, flag, end)
        finally:
            self._bell.unwatch(flag)

    def _wait_for(self, wanted: Wanted, flag: Wakeup, end: float) -> list[Delivery]:
        least = SOON
        while True:
            found = self.look(wanted)
            left = end - self._clock.monotonic()
            if found or flag.is_set() or left <= 0:
                return found
            if not self._bell.rings:
                left = min(left, self._poll)
            change = self._next_change(recover=wanted.recover)
            if self._clock.wait(flag, min(left, max(least, change), self._floors.look_again())):
                return self.look(wanted, urgent=True)
            least = SWEEP_EVERY if change < 0 else SOON  # it was due and not to be had: another transaction locks it

    def _next_change(self, *, recover: bool) -> float:
        """Return the seconds until time alone makes something due for a claim, which may take leases back or not; negative: overdue."""
        [(due, lease_end)] = self._run.statement(lambda work: work.rows("next_times", **work.known.times()), "waiting")
        self._swept = -math.inf
        return min(math.inf if due is None else due, math.inf if lease_end is None or not recover else lease_end)

    # ------------------------------------------------------------------------------------------------- looking once

    def look(self, wanted: Wanted, *, urgent: bool = False) -> list[Delivery]:
        """Lend what is due now."""

        def claim(work: Work) -> tuple[list[Any], list[Any]]:
            if asked is None:
                return [], work.rows("claim", **parameters)
            with pipelined(work.connection):
                found, claimed = work.run("survey", **asked.parameters()), work.run("claim", **parameters)
            return found.fetchall(), claimed.fetchall()

        asked, parameters = self._prepared(wanted, urgent=urgent)
        found, claimed = self._ask(claim, "claiming", sweep=parameters["sweep"])
        deliveries = self._claimed(claimed, wanted)
        if self._learn(asked, found) and len(deliveries) < wanted.limit:
            return deliveries or self.look(wanted)
        return deliveries

    def look_and_run(self, name: str, values: dict[str, Any], wanted: Wanted) -> tuple[list[Any], list[Delivery]]:
        """Run a statement that settles, and lend what is due, in one round trip; return the statement's rows too."""

        def both(work: Work) -> tuple[list[Any], list[Any], list[Any]]:
            with pipelined(work.connection):
                found = None if asked is None else work.run("survey", **asked.parameters())
                settled, claimed = work.run(name, **values), work.run("claim", **parameters)
            return [] if found is None else found.fetchall(), settled.fetchall(), claimed.fetchall()

        asked, parameters = self._prepared(wanted)
        found, settled, claimed = self._ask(both, "settling and claiming", sweep=parameters["sweep"])
        self._learn(asked, found)  # what lies below floors that fell is lent by the next claim
        return settled, self._claimed(claimed, wanted)

    def _prepared(self, wanted: Wanted, *, urgent: bool = False) -> tuple[Asked | None, dict[str, Any]]:
        """Return what a survey asks for, if there is to be one, and the parameters of the claim."""
        self._floors.trust(self._run.connections.broken)
        parameters = self.parameters_of(wanted)
        return self._floors.survey(wanted.queues, self._clock.monotonic(), urgent=urgent), parameters

    def parameters_of(self, wanted: Wanted) -> dict[str, Any]:
        """Return the parameters of `claim.sql`."""
        now = self._clock.monotonic()
        virtual = self._run.virtual is not None
        sweep = wanted.recover and (virtual or now - self._swept >= self._sweep_pause)
        if sweep:
            self._swept = now
        return lending.claim_parameters(
            wanted.queues,
            self._floors.known,
            limit=wanted.limit,
            places=wanted.places,
            lease=wanted.lease,
            sweep=sweep,
        )

    def _ask(self, claim: Callable[[Work], T], doing: str, *, sweep: bool) -> T:
        """Claim; whatever was known about floors is forgotten when there is no answer."""
        begin = self._clock.monotonic()
        try:
            answer = self._run.statement(claim, doing)
        except BaseException:
            self._floors.failed()
            raise
        if sweep:
            took = self._clock.monotonic() - begin
            self._sweep_pause = min(SWEEP_MOST, max(SWEEP_EVERY, SWEEP_SHARE * took))
        return answer

    def _learn(self, asked: Asked | None, found: list[Any]) -> bool:
        """Take in a survey; whether it turned out that claims must read more than they did."""
        fell = asked is not None and self._floors.learn(asked, found[0], self._clock.monotonic())
        return not self._floors.trust(self._run.connections.broken) or fell

    def _claimed(self, rows: list[Any], wanted: Wanted) -> list[Delivery]:
        """Return what one statement lent; where time, keys or limits have to be asked, it lent nothing."""
        deliveries, flags = lending.fast(rows, wanted.queues)
        if flags & lending.SURPLUS:
            self._ring(wanted.queues)
        if flags & lending.AGAIN:
            late = bool(flags & lending.LATE)
            deliveries = self._run.transaction(lambda work: self._slow(work, wanted, late=late), "claiming")
        self._floors.lent(deliveries)
        return deliveries

    def _slow(self, work: Work, wanted: Wanted, *, late: bool) -> list[Delivery]:
        lent = lending.slow(
            work,
            wanted.queues,
            late=late,
            limit=wanted.limit,
            places=wanted.places,
            lease=wanted.lease,
            recover=wanted.recover,
        )
        sending.ring(work, work.left, self._channel)
        return lent

    def _ring(self, queues: Sequence[str]) -> None:
        """Let others look again who passed over what was locked here for a moment."""
        if self._channel is not None:
            self._run.statement(lambda work: sending.ring(work, queues, self._channel), "ringing")
        self._bell.ring()
