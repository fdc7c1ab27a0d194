"""Deliberately broken memory drivers, one promise broken in each, and the scenario that must notice.

A mutant that no scenario kills is a defect of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from queuekit import SystemClock
from queuekit.contract import (
    Delivery,
    Extension,
    Failure,
    Message,
    Outcome,
    Page,
    Progress,
    Query,
    QueueCounts,
    Receipt,
    Released,
    Settlement,
    State,
)
from queuekit.memory.broker import Broker
from queuekit.memory.job import Job
from queuekit_integration.harnesses.embedded import MemoryHarness

__all__ = ["MUTANTS", "Mutant", "harness_of"]


@dataclass(frozen=True)
class Mutant:
    """A broken broker and who finds out."""

    broker: type[Broker]
    killed_by: str
    """The id of the scenario that fails because of exactly this."""

    @property
    def name(self) -> str:
        """The broken promise."""
        return self.broker.__name__

    @property
    def does(self) -> str:
        """The same in words."""
        return re.sub(r"(?<!^)(?=[A-Z])", " ", self.name).lower()


MUTANTS: list[Mutant] = []


def killed_by(scenario: str) -> Any:
    """Register a mutant with its killer."""

    def register(broker: type[Broker]) -> type[Broker]:
        MUTANTS.append(Mutant(broker, scenario))
        return broker

    return register


def harness_of(mutant: Mutant) -> type[MemoryHarness]:
    """Return the memory harness on this broken broker."""

    class MutantHarness(MemoryHarness):
        def broker(self, *, virtual: bool) -> Broker:
            if virtual not in self._brokers:
                self._brokers[virtual] = mutant.broker(self.clock if virtual else SystemClock())
            return self._brokers[virtual]

    return MutantHarness


@killed_by("LSE-02")
class AcknowledgesBeforeTheHandler(Broker):
    def _lend(self, job: Job, now: float, lease: float) -> Delivery:
        delivery = super()._lend(job, now, lease)
        job.lease_end = float("inf")
        return delivery


@killed_by("LSE-07")
class ForgetsTheToken(Broker):
    def _settle_one(self, outcome: Outcome) -> Settlement:
        job = self._jobs.get(outcome.delivery.message.id)
        if job is not None and job.state == "running":
            outcome = msgspec.structs.replace(
                outcome, delivery=msgspec.structs.replace(outcome.delivery, token=job.token)
            )
        return super()._settle_one(outcome)


@killed_by("SCH-01")
class RunsDelayedJobsEarly(Broker):
    @staticmethod
    def _due_time(message: Message, now: float, wall: float) -> float:
        due = Broker._due_time(message, now, wall)
        return now + (due - now) * 0.9


@killed_by("DEL-14")
class DropsEveryHundredthMessage(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([message for index, message in enumerate(messages, 1) if index % 100])


@killed_by("LSE-03")
class GivesALiveLeaseAway(Broker):
    def _lend(self, job: Job, now: float, lease: float) -> Delivery:
        return super()._lend(job, now, lease * 0.9)


@killed_by("DEL-FOLLOW-UPS")
class LosesFollowUps(Broker):
    def _apply(self, job: Job, outcome: Outcome) -> None:
        super()._apply(job, msgspec.structs.replace(outcome, follow_ups=()))


@killed_by("LSE-02")
class CountsNoAttemptForACrash(Broker):
    def _sweep(self, now: float) -> None:
        for job in self._running.values():
            if job.lease_end <= now:
                job.attempt -= 1
        super()._sweep(now)


@killed_by("LSE-06")
class RevivesALostLease(Broker):
    def _extend_one(self, delivery: Delivery, now: float, lease: float) -> Extension:
        job = self._jobs.get(delivery.message.id)
        if job is not None and job.state == "running":
            job.lease_end = now + lease
            return Extension(held=True)
        return Extension(held=False)


@killed_by("LSE-09")
class UsesATokenTwice(Broker):
    def _lend(self, job: Job, now: float, lease: float) -> Delivery:
        self._token = 1 + self._token % 3
        return super()._lend(job, now, lease)


@killed_by("DEL-RELEASED")
class ChargesAReleasedAttempt(Broker):
    def _apply(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Released):
            job.attempt += 1
        super()._apply(job, outcome)


@killed_by("DEL-20")
class IgnoresPriority(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([msgspec.structs.replace(message, priority=4) for message in messages])


@killed_by("ORD-03")
class IgnoresKeys(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([msgspec.structs.replace(message, key=None) for message in messages])


@killed_by("ORD-05")
class LetsARetryBeOvertakenInItsKey(Broker):
    def _return(self, job: Job, delay: float, successor: Message | None) -> None:
        if job.message.key is not None:
            self._leave_key(job)
            self._keys.join(job.message.key, job)
        super()._return(job, delay, successor)


@killed_by("ORD-09")
class LeaksALimitsPlaceOnACrash(Broker):
    def _sweep(self, now: float) -> None:
        for job in self._running.values():
            if job.lease_end <= now and job.message.concurrency is not None:
                self._gates[job.message.concurrency.key].running += 1
        super()._sweep(now)


@killed_by("ORD-11")
class LetsOneTooManyThroughARate(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        super().send(
            [
                message
                if message.rate is None
                else msgspec.structs.replace(
                    message, rate=msgspec.structs.replace(message.rate, limit=message.rate.limit + 1)
                )
                for message in messages
            ]
        )


@killed_by("UNQ-04")
class FreesAUniqueScopeByARetry(Broker):
    def _return(self, job: Job, delay: float, successor: Message | None) -> None:
        self._free_scope(job)
        super()._return(job, delay, successor)


@killed_by("UNQ-03")
class KeepsAUniqueScopeAfterTheEnd(Broker):
    def _holder(self, message: Message, now: float) -> Job | None:
        held = None if message.unique is None else self._uniques.get(message.unique.scope)
        return None if held is None or held[1] <= now else held[0]

    def _free_scope(self, job: Job) -> None:
        """Forget to."""


@killed_by("UNQ-07")
class NeverLetsAUniqueScopeExpire(Broker):
    def _holder(self, message: Message, now: float) -> Job | None:
        return super()._holder(message, float("-inf"))


@killed_by("ADM-01")
class IgnoresAPause(Broker):
    def pause(self, queue: str) -> None:
        """Forget it."""


@killed_by("CTX-01")
class RunsCancelledJobs(Broker):
    def _cancel_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        return None if job is None else job.state


@killed_by("DEL-22")
class StoresAnIdTwice(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        with self._lock:
            for message in messages:
                earlier = self._jobs.pop(message.id, None)
                if earlier is not None:
                    self._jobs[f"{message.id}-earlier"] = earlier
        super().send(messages)


@killed_by("LSE-RECOVER")
class PrefetchesRecoveredJobs(Broker):
    def claim(self, queues: Sequence[str], **options: Any) -> list[Delivery]:
        return super().claim(queues, **{**options, "free": None})


@killed_by("DEL-08")
class AppliesASettlementTwice(Broker):
    def _settle_resting(self, job: Job) -> Settlement:
        return "applied"


@killed_by("RECORDS-PROGRESS")
class AcceptsProgressOfALostLease(Broker):
    def _report_one(self, report: Progress) -> bool:
        return report.delivery.message.id in self._jobs


@killed_by("ADM-10")
class ForgetsRecordsTooEarly(Broker):
    @staticmethod
    def _is_past(job: Job, older_than: float | None, now: float, wall: float) -> bool:
        del job, older_than, now, wall
        return True


@killed_by("ADM-05")
class MiscountsItsQueues(Broker):
    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        return [msgspec.structs.replace(c, pending=c.pending + c.scheduled, scheduled=0) for c in super().count(queues)]


@killed_by("UNQ-01")
class IgnoresUniqueness(Broker):
    def send_unique(self, messages: Sequence[Message]) -> list[Receipt]:
        return super().send_unique([msgspec.structs.replace(message, unique=None) for message in messages])


@killed_by("LSE-OUTAGE")
class TakesBackAfterAnOutage(Broker):
    def claim(self, queues: Sequence[str], **options: Any) -> list[Delivery]:
        return super().claim(queues, **{**options, "recover": True})


@killed_by("LSE-SHORTEN")
class NeverShortensALease(Broker):
    def _extend_one(self, delivery: Delivery, now: float, lease: float) -> Extension:
        job = self._jobs.get(delivery.message.id)
        before = 0.0 if job is None else job.lease_end
        answer = super()._extend_one(delivery, now, lease)
        if job is not None and answer.held:
            job.lease_end = max(before, job.lease_end)
        return answer


@killed_by("LSE-13")
class GivesMoreThanWasAskedFor(Broker):
    def claim(self, queues: Sequence[str], **options: Any) -> list[Delivery]:
        more = options["limit"] + 1 if options["limit"] >= 1000 else options["limit"]
        return super().claim(queues, **{**options, "limit": more})


@killed_by("RTY-13")
class RestartsAJobWithItsOldAttempts(Broker):
    def _retry_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        attempts = 0 if job is None else job.attempt
        before = super()._retry_one(id)
        if job is not None and before in {"failed", "cancelled"}:
            job.attempt = attempts
        return before


@killed_by("RTY-17")
class RestartsWhatRuns(Broker):
    def _retry_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is not None and job.state == "running":
            return "failed"
        return super()._retry_one(id)


@killed_by("RTY-12")
class KeepsTwoErrorsAlone(Broker):
    @staticmethod
    def _note(job: Job, error: Failure | None) -> None:
        if error is not None:
            job.errors = (*job.errors[-1:], error)


@killed_by("ORD-RESTART")
class LetsARestartedJobGoFirst(Broker):
    def _retry_one(self, id: str) -> State | None:
        before = super()._retry_one(id)
        job = self._jobs.get(id)
        if job is not None and before == "failed" and job.message.key is not None:
            line = self._keys._lines[job.message.key]
            line.remove(job)
            line.appendleft(job)
        return before


@killed_by("UNQ-REPLACE")
class ReplacesWhatRuns(Broker):
    def _conflict(self, holder: Job, message: Message, now: float) -> Receipt:
        if holder.state == "running":
            holder.message = msgspec.structs.replace(holder.message, body=message.body)
        return super()._conflict(holder, message, now)


@killed_by("UNQ-11")
class KeepsTheFirstDelayOfAReplacedJob(Broker):
    def _conflict(self, holder: Job, message: Message, now: float) -> Receipt:
        due = holder.due
        answer = super()._conflict(holder, message, now)
        if answer.replaced:
            holder.due = due
            self._place(holder, now)
        return answer


@killed_by("ADM-02")
class ForgetsTheBacklogOfAPausedQueue(Broker):
    def resume(self, queue: str) -> None:
        super().resume(queue)
        for job in list(self._jobs.values()):
            if job.message.queue == queue and job.state == "pending" and job.seq % 5 == 0:
                job.ready = False


@killed_by("ADM-07")
class PurgesWhatRuns(Broker):
    def purge(self, queue: str) -> int:
        for job in list(self._jobs.values()):
            if job.message.queue == queue and job.state == "running":
                self._running.pop(job.message.id)
                del self._jobs[job.message.id]
        return super().purge(queue)


@killed_by("ADM-08")
class SkipsAJobBetweenPages(Broker):
    def browse(self, query: Query) -> Page:
        page = super().browse(query)
        return page if page.next is None else msgspec.structs.replace(page, next=str(int(page.next) + 1))


@killed_by("ADM-09")
class DeletesWhatRuns(Broker):
    def _delete_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is not None and job.state == "running":
            self._running.pop(id)
            del self._jobs[id]
            return "pending"
        return super()._delete_one(id)


@killed_by("ADM-CANCEL-BACK")
class ForgetsTheFailureOfACancelledJob(Broker):
    def _apply(self, job: Job, outcome: Outcome) -> None:
        super()._apply(job, outcome)
        if job.state == "cancelled":
            job.errors = ()


@killed_by("CTX-05")
class CancelsWhatHasEnded(Broker):
    def _cancel_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is not None and job.state == "completed":
            job.state = "cancelled"
            return "pending"
        return super()._cancel_one(id)


@killed_by("LIM-01")
class CutsALongBody(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        longest = (1 << 20) - 1
        super().send([msgspec.structs.replace(message, body=message.body[:longest]) for message in messages])


@killed_by("SAF-09")
class KeepsWhatWasCancelledOnItsClock(Broker):
    def _tidy(self) -> None:
        """Forget to."""


@killed_by("SAF-03")
class CountsAnotherQueue(Broker):
    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        return super().count(None if queues is None or len(queues) > 1 else [f"{queues[0]}0"])


@killed_by("STORE-ADMIT")
class NamesAJobOnce(Broker):
    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        return super().outbox(limit=limit, again_after=again_after * 1000, recover=recover)


@killed_by("STORE-UNIQUE")
class AdmitsWhatItsScopeForbids(Broker):
    def admit(self, messages: Sequence[Message], *, publish_within: float) -> list[Receipt]:
        free = [msgspec.structs.replace(message, unique=None) for message in messages]
        return super().admit(free, publish_within=publish_within)


@killed_by("STORE-LEND")
class LendsByIdBeforeItsTime(Broker):
    def _lend_by_id(self, id: str, now: float, lease: float, *, recovered: bool) -> Delivery | State | None:
        job = self._jobs.get(id)
        if job is not None and job.state == "scheduled":
            job.state, job.held = "pending", None
        return super()._lend_by_id(id, now, lease, recovered=recovered)


@killed_by("STORE-GATES")
class LendsByIdWhatIsPaused(Broker):
    def lend(self, ids: Sequence[str], **options: Any) -> list[Delivery | State | None]:
        paused, self._paused = self._paused, set()
        try:
            return super().lend(ids, **options)
        finally:
            self._paused = paused


@killed_by("STORE-RECOVER")
class NeverNamesWhatACrashLeft(Broker):
    def _take_expired(self, limit: int) -> Iterator[Job]:
        yield from ()


@killed_by("STORE-PUBLISHED")
class NamesWhatIsOnItsWay(Broker):
    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Forget it."""


@killed_by("STORE-LATE-NOTE")
class BelievesLateNotes(Broker):
    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        fresh = [0.0] * len(ages)
        super().published(ids, ages=fresh, publish_within=publish_within, again_after=again_after)


@killed_by("STORE-OUTAGE")
class NamesLeasesAfterAnOutage(Broker):
    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        return super().outbox(limit=limit, again_after=again_after, recover=True)


@killed_by("EXCHANGE-FREE")
class ExchangesForgetTheFreeSlots(Broker):
    def claim(self, queues: Sequence[str], **options: Any) -> list[Delivery]:
        return super().claim(queues, **{**options, "free": options.get("free") or None})


@killed_by("ORD-07")
class LetsOneTooManyRun(Broker):
    def send(self, messages: Sequence[Message]) -> None:
        super().send([_with_one_more(message) for message in messages])


def _with_one_more(message: Message) -> Message:
    limit = message.concurrency
    if limit is None or limit.limit < 2:
        return message
    return msgspec.structs.replace(message, concurrency=msgspec.structs.replace(limit, limit=limit.limit + 1))
