"""A transport and an engine's store as one driver.

The store keeps the job and decides; the transport carries a ticket with its id to a worker. The order of writes, and
what a crash between two of them leaves behind:

    dispatch    the store accepts the job, then the ticket is published: a job without ticket is in the outbox after a while
    claim       the transport hands the ticket over, the store lends the job, the ticket is acknowledged: a ticket that is
                handed over again finds its job leased or finished and is dropped; a lease that runs out puts the job into
                the outbox
    settle      the store commits the outcome with its follow-ups, then the follow-ups' tickets are published: as for dispatch

So the ticket is acknowledged early, the store's lease protects the job, and no limit of the transport (visibility,
`consumer_timeout`, receive counts) bounds a handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from queuekit.contract import (
    Browse,
    Clock,
    Control,
    Count,
    Delivery,
    Diagnose,
    Done,
    Driver,
    DriverError,
    Extension,
    Finding,
    Limits,
    Message,
    Outcome,
    Page,
    Patience,
    Pause,
    Progress,
    Purge,
    Query,
    QueueCounts,
    Receipt,
    Record,
    Records,
    Registry,
    Released,
    Settlement,
    State,
    Store,
    UniqueSend,
    Wakeup,
    WorkerInfo,
    enter,
    namespace_of,
)
from queuekit.pairing.acknowledging import Acknowledging
from queuekit.pairing.reach import Reach
from queuekit.pairing.relay import INTERVAL, WITHIN, Relay
from queuekit.pairing.tickets import is_ticket, known

__all__ = ["Engine", "Paired"]

_log = logging.getLogger("queuekit.pairing")

CARRY = 5.0
"""Seconds for which a ticket is leased from the transport: it is acknowledged within a round trip of the store, and if that
takes longer it comes back and is dropped."""


class Engine(Driver, Store, Count, Browse, Control, Pause, Purge, UniqueSend, Records, Registry, Protocol):
    """What the store's side has: every engine does."""


class Paired:
    """Implements the verbs and every feature of the store; see this module's text."""

    def __init__(
        self, transport: Driver, store: Engine, *, clock: Clock, interval: float = INTERVAL, within: float = WITHIN
    ) -> None:
        self._transport = transport
        self._store = store
        self._clock = clock
        self._reach = Reach(transport)
        self._relay = Relay(transport, store, clock=clock, interval=interval, within=within, before=self._reach.now)
        self._acknowledging = Acknowledging(transport)
        self._within = within
        self.limits = merged(transport.limits, store.limits, interval)

    @property
    def namespace(self) -> str:
        """The namespace that both halves work in."""
        return namespace_of(self._transport, self._store)

    def work_in(self, namespace: str) -> None:
        """Let both halves work there; see the contract."""
        for half in (self._transport, self._store):
            enter(half, namespace)

    @property
    def transport(self) -> Driver:
        """The side that carries tickets."""
        return self._transport

    # ------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Open both; see the contract. While the transport is away, the store accepts jobs, and claims raise `DriverUnavailable`."""
        self._store.open()
        self._reach.open()

    def close(self) -> None:
        """Close both, the transport first; idempotent."""
        try:
            self._relay.close()
            self._acknowledging.close()
        finally:
            self._transport.close()
            self._store.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Make the queues exist on both sides, on the transport as soon as it answers."""
        self._store.prepare(queues)
        self._reach.prepare(queues)

    # ------------------------------------------------------------------------------------------------------ verbs

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Accept jobs: they are in the store when this returns, and on the transport unless that does not answer."""
        self.send_unique(messages, patience=patience)

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Accept jobs, one receipt each; see the contract."""
        if patience is not None:
            patience.check()
        receipts = self._store.admit(messages, publish_within=self._within, patience=patience)
        self._relay.publish(to_publish(messages, receipts, self._clock.time()), patience=patience)
        return receipts

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
        wait: float = 0.0,
        wakeup: Wakeup | None = None,
    ) -> list[Delivery]:
        """Lend the jobs whose tickets arrive; see the contract.

        One that waits takes what the transport has at that moment: more arrives while that is being worked off. Between lending
        and returning it asks the transport nothing, for it may take long to answer, and nobody renews these leases yet; and
        what became due is published by a thread.
        """
        places = limit if free is None else free
        if wait <= 0:
            self._relay.turn(recover=recover)
            return self._collect(queues, limit, lease, places, recover)
        flag = wakeup or Wakeup()
        end = self._clock.monotonic() + wait
        self._before_waiting()
        with self._relay.awake(recover=recover):
            while True:
                left = max(0.0, end - self._clock.monotonic())
                carried = self._await(queues, limit, places, wait=left, wakeup=flag)
                lent = self._lend(carried, lease=lease, free=places, recover=recover, let_go=self._let_go)
                if lent or (not carried and (flag.is_set() or self._clock.monotonic() >= end)):
                    return lent
                self._relay.raise_trouble()

    def _collect(self, queues: Sequence[str], limit: int, lease: float, free: int, recover: bool) -> list[Delivery]:
        """Lend what the transport has at this moment, in pieces of the size that it takes; trouble after the first ends it early."""
        found: list[Delivery] = []
        while len(found) < limit:
            try:
                carried = self._carry(queues, limit - len(found), wait=0.0, wakeup=None)
                left = max(0, free - len(found))
                found += self._lend(carried, lease=lease, free=left, recover=recover, let_go=self._let_go_now)
            except DriverError as error:
                if not found:
                    raise
                _log.info("a further part of a claim failed (%s); the first is lent", error)
                break
            if not carried:
                break
        return found

    def _carry(self, queues: Sequence[str], limit: int, *, wait: float, wakeup: Wakeup | None) -> list[Delivery]:
        self._reach.now()
        most = min(limit, self._transport.limits.batch)
        return self._transport.claim(queues, limit=most, lease=CARRY, wait=wait, wakeup=wakeup)

    def _before_waiting(self) -> None:
        """Let the transport know first what is acknowledged: it counts what is not."""
        self._acknowledging.catch_up()

    def _await(self, queues: Sequence[str], limit: int, places: int, *, wait: float, wakeup: Wakeup) -> list[Delivery]:
        """Return the tickets that arrive; of the jobs, so many will start at once."""
        del places
        return self._carry(queues, limit, wait=wait, wakeup=wakeup)

    def _let_go(self, tickets: Sequence[Delivery]) -> None:
        """Acknowledge soon: whoever waits for it keeps leases from being renewed."""
        self._acknowledging.soon([Done(ticket) for ticket in tickets])

    def _let_go_now(self, tickets: Sequence[Delivery]) -> None:
        self._acknowledging.now([Done(ticket) for ticket in tickets])

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Commit outcomes with their follow-ups in the store, then see to what became ready by that."""
        settlements = self._store.settle(outcomes)
        self._see_to(outcomes)
        return settlements

    def _see_to(self, outcomes: Sequence[Outcome]) -> None:
        if any(_frees(outcome) for outcome in outcomes):
            self._relay.soon()

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew the store's leases; the transport's side is long settled."""
        return self._store.extend(deliveries, lease=lease)

    # --------------------------------------------------------------------------------------------- tickets to jobs

    def _lend(
        self,
        carried: Sequence[Delivery],
        *,
        lease: float,
        free: int,
        recover: bool,
        let_go: Callable[[Sequence[Delivery]], None],
    ) -> list[Delivery]:
        if not carried:
            return []
        carried = known(carried)
        try:
            self._adopt(carried)
            ids = [ticket.message.id for ticket in carried]
            answers = self._store.lend(ids, lease=lease, free=free, recover=recover)
        except DriverError:
            self._acknowledging.now([Released(ticket) for ticket in carried])
            raise
        let_go(carried)
        return self._in_turn(carried, answers)

    def _adopt(self, tickets: Sequence[Delivery]) -> None:
        """Take what somebody else wrote to the transport into the store, where it ends as undecodable, bytes intact."""
        strange = [ticket.message for ticket in tickets if not is_ticket(ticket.message)]
        if strange:
            self._store.admit(strange, publish_within=self._within)

    def _in_turn(self, carried: Sequence[Delivery], answers: Sequence[Delivery | State | None]) -> list[Delivery]:
        """Return what was lent; a job whose priority was lowered since its ticket was written waits for the newer ticket."""
        lent: list[Delivery] = []
        early: list[Delivery] = []
        for ticket, answer in zip(carried, answers, strict=True):
            if isinstance(answer, Delivery):
                overtakes = self.limits.priorities and answer.message.priority < ticket.message.priority
                (early if overtakes else lent).append(answer)
        if early:
            self._give_back(early)
        return lent

    def _give_back(self, early: Sequence[Delivery]) -> None:
        try:
            self._store.settle([Released(delivery) for delivery in early])
        except DriverError as error:
            _log.warning("%d jobs come back when their leases end: %s", len(early), error)
        self._relay.soon()

    # --------------------------------------------------------------------------------- features: those of the store

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count the store's jobs."""
        return self._store.count(queues)

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return the store's records."""
        return self._store.get(ids)

    def browse(self, query: Query) -> Page:
        """Return a page of the store's records."""
        return self._store.browse(query)

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel in the store; a ticket that is on its way is dropped when it arrives."""
        return self._store.cancel(ids)

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start over in the store, and publish."""
        states = self._store.retry(ids)
        self._relay.soon()
        return states

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove from the store; a ticket that is on its way is dropped when it arrives."""
        return self._store.delete(ids)

    def requested(self) -> list[str]:
        """Return the running jobs whose cancellation was asked for."""
        return self._store.requested()

    def pause(self, queue: str) -> None:
        """Lend nothing more from the queue; tickets that arrive meanwhile are dropped, and published again afterwards."""
        self._store.pause(queue)

    def resume(self, queue: str) -> None:
        """Lend again, and publish what waits."""
        self._store.resume(queue)
        self._relay.soon()

    def paused(self) -> list[str]:
        """Return the paused queues."""
        return self._store.paused()

    def purge(self, queue: str) -> int:
        """Empty the queue in the store; its tickets are dropped as they arrive."""
        return self._store.purge(queue)

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress."""
        return self._store.report(reports)

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget finished records."""
        return self._store.prune(older_than=older_than, limit=limit)

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker."""
        self._store.beat(worker, ttl=ttl)

    def workers(self) -> list[WorkerInfo]:
        """Return the live workers."""
        return self._store.workers()

    def diagnose(self) -> list[Finding]:
        """Return what either side finds, each named."""
        return [
            msgspec.structs.replace(finding, setting=f"{side.limits.name}: {finding.setting}")
            for side in (self._transport, self._store)
            if isinstance(side, Diagnose)
            for finding in side.diagnose()
        ]

    def native(self) -> Any:
        """Return both drivers: the transport and the store."""
        return self._transport, self._store


def merged(transport: Limits, store: Limits, interval: float) -> Limits:
    """Return the facts of a pair: the store's, but for what a ticket's way decides."""
    return msgspec.structs.replace(
        store,
        name=f"{transport.name}+{store.name}",
        resolution=store.resolution + interval,
        priorities=transport.priorities and store.priorities,
        shared=transport.shared and store.shared,
        push_window=transport.push_window,
        ordered=False,
    )


def to_publish(messages: Sequence[Message], receipts: Sequence[Receipt], now: float) -> list[Message]:
    """Return what is due of the jobs that are new or have another message's options, under the ids that they have.

    And of those that were sent before, under the same id: their sender does not know what became of the first attempt, which may
    have ended before its ticket left.
    """
    return [
        message if receipt.id == message.id else msgspec.structs.replace(message, id=receipt.id)
        for message, receipt in zip(messages, receipts, strict=True)
        if (receipt.replaced or receipt.id == message.id)
        and message.delay <= 0
        and (message.at is None or message.at <= now)
    ]


def _frees(outcome: Outcome) -> bool:
    """Whether something may be ready to be published now: the job itself, its follow-ups, the next of its key or limit."""
    message = outcome.delivery.message
    held = message.key is not None or message.concurrency is not None
    return held or bool(outcome.follow_ups) or not isinstance(outcome, Done)
