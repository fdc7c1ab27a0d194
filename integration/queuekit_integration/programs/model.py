"""A plain model of the contract: what an engine must answer, written for reading and not for speed.

It knows one clock in whole seconds, keeps every job in one dictionary, and finds what is next by sorting. Time does its
work at `claim` alone: a delay that has passed shows as *scheduled*, a lease that has passed as *running*, until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from queuekit.contract import (
    Again,
    Dead,
    Delivery,
    Done,
    Message,
    Outcome,
    QueueCounts,
    Receipt,
    Released,
    Settlement,
    State,
)

__all__ = ["ModelJob", "ModelLease", "ModelQueue"]


@dataclass(eq=False)
class ModelJob:
    """One job."""

    message: Message
    place: int
    accepted: float
    due: float
    state: State = "pending"
    reason: str | None = None
    attempt: int = 0
    generation: int = 0
    lease: ModelLease | None = None
    settled: bool = False
    recovered: bool = False
    cancel: bool = False
    errors: int = 0
    progress: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in {"completed", "failed", "cancelled"}


@dataclass(eq=False)
class ModelLease:
    """One hand-out, and what each driver under test calls it."""

    job: ModelJob
    attempt: int
    generation: int
    recovered: bool
    end: float
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass
class ModelQueue:
    """All queues of one namespace."""

    now: float = 0.0
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    lines: dict[str, list[ModelJob]] = field(default_factory=dict)
    """Per key its unfinished jobs: only the first may be lent."""
    scopes: dict[str, tuple[ModelJob, float]] = field(default_factory=dict)
    accepted: int = 0

    # ------------------------------------------------------------------------------------------------------ sending

    def send(self, message: Message, *, unique: bool) -> Receipt:
        """Accept a message, or drop it."""
        if message.id in self.jobs:
            return Receipt(message.id, created=False)
        scope = message.unique if unique else None
        if scope is not None:
            holder, until = self.scopes.get(scope.scope, (None, 0.0))
            if holder is not None and until > self.now:
                return self._conflict(holder, message, replace=scope.on_conflict == "replace")
        self.accepted += 1
        job = ModelJob(message, self.accepted, self.now, 0.0)
        self.jobs[message.id] = job
        self._stand(job, message.delay)
        if scope is not None:
            self.scopes[scope.scope] = (job, float("inf") if scope.ttl is None else self.now + scope.ttl)
        return Receipt(message.id, created=True)

    def _conflict(self, holder: ModelJob, message: Message, *, replace: bool) -> Receipt:
        if not replace or holder.state not in {"pending", "scheduled"} or holder.attempt > 0:
            return Receipt(holder.message.id, created=False)
        self._leave_line(holder)
        holder.message = msgspec.structs.replace(message, id=holder.message.id, unique=holder.message.unique)
        self._stand(holder, message.delay)
        return Receipt(holder.message.id, created=False, replaced=True)

    def _stand(self, job: ModelJob, delay: float) -> None:
        """Wait from now on, at the end of the key's line."""
        if job.message.key is not None:
            self.lines.setdefault(job.message.key, []).append(job)
        self._wait(job, delay)

    def _wait(self, job: ModelJob, delay: float) -> None:
        job.due = self.now + delay
        job.state = "scheduled" if delay > 0 else "pending"

    def _leave_line(self, job: ModelJob) -> None:
        if job.message.key is not None:
            self.lines[job.message.key].remove(job)

    # ------------------------------------------------------------------------------------------------------ lending

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None,
        recover: bool,
        chosen: Sequence[str] | None = None,
    ) -> list[ModelLease]:
        """Lend: first what was recovered, to free slots; then each queue by priority and acceptance.

        Or, where a driver promises no order but that of keys and priorities, the jobs that it has `chosen`: as many as that, and
        each one that may be lent.
        """
        self._let_time_work(recover=recover)
        open_queues = [queue for queue in queues if queue not in self.paused]
        places = limit if free is None else min(limit, free)
        first = self._ready(open_queues, recovered=True)[:places]
        for queue in open_queues:
            first += self._ready([queue], recovered=False)[: limit - len(first)]
        jobs = first if chosen is None else self._chosen(chosen, open_queues, len(first), places)
        return [self._lend(job, lease) for job in jobs]

    def _chosen(self, ids: Sequence[str], queues: Sequence[str], count: int, places: int) -> list[ModelJob]:
        """Return the jobs of a driver's choice; raises `AssertionError` for one that it was not free to make."""
        back = self._ready(queues, recovered=True)
        may = {job.message.id: job for job in [*back, *self._ready(queues, recovered=False)]}
        assert set(ids) <= set(may), f"lent {ids}, and only {sorted(may)} may be"
        assert len(ids) == len(set(ids)) == count, f"lent {ids} of {sorted(may)}, and {count} were to be"
        jobs = [may.pop(id) for id in ids]
        assert sum(job.recovered for job in jobs) <= places, f"lent {ids}, with more that came back than {places}"
        for job in jobs:
            passed = [other for other in may.values() if other not in back and self._precedes(other, job)]
            assert not passed, f"lent {job.message.id} before {passed[0].message.id}, which has a higher priority"
        return jobs

    @staticmethod
    def _precedes(job: ModelJob, other: ModelJob) -> bool:
        return job.message.queue == other.message.queue and job.message.priority > other.message.priority

    def _let_time_work(self, *, recover: bool) -> None:
        for job in list(self.jobs.values()):
            if job.state == "scheduled" and job.due <= self.now:
                job.state = "pending"
            if recover and job.state == "running" and job.lease is not None and job.lease.end <= self.now:
                self._take_back(job)

    def _take_back(self, job: ModelJob) -> None:
        if job.cancel:
            self._finish(job, "cancelled", "cancelled")
        else:
            job.state, job.recovered = "pending", True

    def _ready(self, queues: Sequence[str], *, recovered: bool) -> list[ModelJob]:
        found = [
            job
            for job in self.jobs.values()
            if job.state == "pending"
            and job.recovered == recovered
            and job.message.queue in queues
            and self.has_turn(job)
        ]
        return sorted(found, key=lambda job: (-job.message.priority, job.place))

    def has_turn(self, job: ModelJob) -> bool:
        """Whether its key lets it go."""
        return job.message.key is None or self.lines[job.message.key][0] is job

    def _lend(self, job: ModelJob, lease: float) -> ModelLease:
        job.state, job.settled = "running", False
        job.attempt += 1
        job.lease = ModelLease(job, job.attempt, job.generation, job.recovered, self.now + lease)
        if job.message.unique is not None and job.message.unique.until == "start":
            self._free_scope(job)
        return job.lease

    # ----------------------------------------------------------------------------------------------------- settling

    def is_live(self, lease: ModelLease) -> bool:
        """Whether its holder may still extend it."""
        return self._is_newest(lease) and lease.job.state == "running" and lease.end > self.now

    def _is_newest(self, lease: ModelLease) -> bool:
        job = self.jobs.get(lease.job.message.id)
        return job is lease.job and job.lease is lease and job.generation == lease.generation

    def extend(self, lease: ModelLease, seconds: float) -> tuple[bool, bool, bool]:
        """Return held, cancel, paused."""
        if not self.is_live(lease):
            return False, False, False
        lease.end = self.now + seconds
        return True, lease.job.cancel, lease.job.message.queue in self.paused

    def report(self, lease: ModelLease, percent: float) -> bool:
        """Note progress; whether the lease still is the newest of a running job."""
        holds = self._is_newest(lease) and lease.job.state == "running"
        if holds:
            lease.job.progress = percent
        return holds

    def settle(self, lease: ModelLease, outcome: Outcome) -> set[Settlement]:
        """Apply an outcome; return the answers that are right: who forgot the job cannot know why it is gone."""
        job = lease.job
        if self.jobs.get(job.message.id) is not job:
            return {"lost", "already_settled"}
        if not self._is_newest(lease):
            return {"lost"}
        if job.state != "running":
            return {"already_settled" if job.settled else "lost"}
        job.settled, job.recovered = True, False
        match outcome:
            case Done():
                self._finish(job, "completed", None)
            case Dead():
                job.errors += outcome.error is not None
                self._finish(job, outcome.state, outcome.reason)
            case Again():
                job.errors += outcome.error is not None
                self._return(job, outcome)
            case Released():
                job.attempt -= 1
                self._return(job, outcome)
        for message in outcome.follow_ups:
            self.send(message, unique=True)
        return {"applied"}

    def _return(self, job: ModelJob, outcome: Again | Released) -> None:
        if job.cancel:
            self._finish(job, "cancelled", "cancelled")
            return
        if outcome.successor is not None:
            job.message = msgspec.structs.replace(job.message, body=outcome.successor.body)
        self._wait(job, outcome.delay)

    def _finish(self, job: ModelJob, state: State, reason: str | None) -> None:
        job.state, job.reason, job.cancel, job.recovered = state, reason, False, False
        self._free_scope(job)
        self._leave_line(job)
        if job.message.retain == 0:
            del self.jobs[job.message.id]

    def _free_scope(self, job: ModelJob) -> None:
        self.scopes = {scope: held for scope, held in self.scopes.items() if held[0] is not job}

    # -------------------------------------------------------------------------------------------- changed from outside

    def cancel(self, id: str) -> State | None:
        """End what waits, flag what runs."""
        job = self.jobs.get(id)
        before = None if job is None else job.state
        if job is not None and before in {"pending", "scheduled"}:
            self._finish(job, "cancelled", "cancelled")
        elif job is not None and before == "running":
            job.cancel = True
        return before

    def retry(self, id: str) -> State | None:
        """Start over, as the last of its key."""
        job = self.jobs.get(id)
        before = None if job is None else job.state
        if job is not None and before in {"failed", "cancelled"}:
            job.generation += 1
            job.attempt, job.reason, job.settled, job.progress = 0, None, False, None
            self._stand(job, 0)
        return before

    def delete(self, id: str) -> State | None:
        """Remove what does not run."""
        job = self.jobs.get(id)
        if job is None or job.state == "running":
            return None if job is None else job.state
        if not job.finished:
            self._free_scope(job)
            self._leave_line(job)
        del self.jobs[id]
        return job.state

    def purge(self, queue: str) -> int:
        """Remove what waits."""
        waiting = [
            id for id, job in self.jobs.items() if job.message.queue == queue and job.state in {"pending", "scheduled"}
        ]
        for id in waiting:
            self.delete(id)
        return len(waiting)

    # ------------------------------------------------------------------------------------------------------ looking

    def count(self) -> list[QueueCounts]:
        """Count jobs by queue and state."""
        return [self._count(queue) for queue in sorted({job.message.queue for job in self.jobs.values()})]

    def _count(self, queue: str) -> QueueCounts:
        jobs = [job for job in self.jobs.values() if job.message.queue == queue]
        states = [job.state for job in jobs]
        ages = [self.now - job.accepted for job in jobs if job.state == "pending" and self.has_turn(job)]
        return QueueCounts(
            queue=queue,
            pending=states.count("pending"),
            scheduled=states.count("scheduled"),
            running=states.count("running"),
            completed=states.count("completed"),
            failed=states.count("failed"),
            cancelled=states.count("cancelled"),
            oldest_ready_age=max(ages, default=None),
            paused=queue in self.paused,
        )
