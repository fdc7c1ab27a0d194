"""A pair whose transport pushes: what has finished is settled and what has arrived is lent in one transaction of the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from queuekit.contract import (
    Carry,
    Delivery,
    DriverError,
    DriverUnavailable,
    Outcome,
    Released,
    SettleAndLend,
    Settlement,
    State,
    Wakeup,
)
from queuekit.pairing.paired import Paired
from queuekit.pairing.tickets import known

__all__ = ["Exchanging"]

_log = logging.getLogger("queuekit.pairing")


class Exchanging(Paired):
    """Lends without a question to the transport: its tickets lie here already, and more arrive while these are worked off."""

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery]]:
        """Settle, and lend the jobs whose tickets have arrived; see the contract. Trouble of the transport is no trouble here.

        Where no claim has waited lately, nothing arrives by itself: then it asks for tickets once it has settled.
        """
        places = limit if free is None else free
        if not self._relay.sweeps:
            return self.settle(outcomes), self._claim_if_possible(queues, limit, lease, places, recover=recover)
        with self._relay.awake(recover=recover):
            tickets = known(self._take(queues, limit=min(limit, self._transport.limits.batch)))
            if not tickets:
                return self.settle(outcomes), []
            try:
                self._adopt(tickets)
                settlements, answers = self._settle_and_lend(outcomes, tickets, lease, places, recover=recover)
            except DriverError:
                self._acknowledging.soon([Released(ticket) for ticket in tickets])
                raise
            self._let_go(tickets)
        self._see_to(outcomes)
        return settlements, self._in_turn(tickets, answers)

    def _claim_if_possible(
        self, queues: Sequence[str], limit: int, lease: float, places: int, *, recover: bool
    ) -> list[Delivery]:
        """Claim; what was settled is to be told, and the next claim meets the trouble again."""
        try:
            return self.claim(queues, limit=limit, lease=lease, free=places, recover=recover)
        except DriverUnavailable as error:
            _log.info("nothing was claimed: %s", error)
            return []

    def _take(
        self, queues: Sequence[str], *, limit: int, ahead: int = 0, wait: float = 0.0, wakeup: Wakeup | None = None
    ) -> list[Delivery]:
        return cast("Carry", self._transport).take(queues, limit=limit, ahead=ahead, wait=wait, wakeup=wakeup)

    def _let_go(self, tickets: Sequence[Delivery]) -> None:
        cast("Carry", self._transport).let_go(tickets)

    def _settle_and_lend(
        self, outcomes: Sequence[Outcome], tickets: Sequence[Delivery], lease: float, places: int, *, recover: bool
    ) -> tuple[list[Settlement], list[Delivery | State | None]]:
        ids = [ticket.message.id for ticket in tickets]
        if isinstance(self._store, SettleAndLend):
            return self._store.settle_and_lend(outcomes, ids, lease=lease, free=places, recover=recover)
        return self._store.settle(outcomes), self._store.lend(ids, lease=lease, free=places, recover=recover)

    def _before_waiting(self) -> None:
        """Wait for nothing: acknowledgements leave in order, ahead of whatever is asked later."""

    def _await(self, queues: Sequence[str], limit: int, places: int, *, wait: float, wakeup: Wakeup) -> list[Delivery]:
        """Return the tickets that arrive; as many jobs as lie in wait here may have theirs on the way meanwhile."""
        self._reach.now()
        most = min(limit, self._transport.limits.batch)
        return self._take(queues, limit=most, ahead=max(0, limit - places), wait=wait, wakeup=wakeup)
