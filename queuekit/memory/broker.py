"""The memory broker: all state of one namespace, and every transition of the contract under one lock.

This is the executable specification. Where a driver for a server is in doubt about what a verb means, the answer is
what this file does. Each public method is one transition; it takes the lock once for a whole batch.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from queuekit.contract import (
    FAILED_RETAIN,
    MAX_ERRORS,
    RETAIN,
    Again,
    Clock,
    Dead,
    Delivery,
    Done,
    Extension,
    Failure,
    Message,
    Namespace,
    Outcome,
    Page,
    Progress,
    Query,
    QueueCounts,
    Receipt,
    Record,
    Released,
    Settlement,
    State,
    Wakeup,
    WorkerInfo,
    place_of,
)
from queuekit.memory.job import TERMINAL, Job
from queuekit.memory.lines import ConcurrencyGate, KeyLines, Line, RateGate

MAX_FINISHED = 100_000
"""Finished jobs kept per queue, oldest forgotten first: memory must not grow with the number of jobs done."""
PROMOTE_BATCH = 1_000
"""Due jobs moved per claim: a bound on how long one claim can hold the lock."""


class Broker:
    """Jobs of one namespace in this process's memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.namespace = Namespace()
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._lines: dict[str, Line] = {}
        self._due: list[tuple[float, int, Job]] = []
        self._struck = 0
        self._running: dict[str, Job] = {}
        self._expired: deque[Job] = deque()
        self._expiry = float("inf")
        self._keys = KeyLines()
        self._gates: dict[str, ConcurrencyGate] = {}
        self._rates: dict[str, RateGate] = {}
        self._uniques: dict[str, tuple[Job, float]] = {}
        self._paused: set[str] = set()
        self._cancels: set[str] = set()
        self._finished: dict[tuple[str, float], deque[Job]] = {}
        self._kept: dict[str, int] = {}
        self._workers: dict[str, tuple[WorkerInfo, float]] = {}
        self._waiters: set[Wakeup] = set()
        self._seq = 0
        self._token = 0

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, messages: Sequence[Message]) -> None:
        """Store messages; those with a known id are dropped."""
        with self._lock:
            now, wall = self.clock.monotonic(), self.clock.time()
            jobs = self._jobs
            for message in messages:
                if message.id not in jobs:
                    self._store(message, now, wall)
        self._wake()

    def send_unique(self, messages: Sequence[Message]) -> list[Receipt]:
        """Store messages unless an unfinished job holds their scope."""
        with self._lock:
            receipts = [self._send_one(message) for message in messages]
        self._wake()
        return receipts

    def _send_one(self, message: Message) -> Receipt:
        now = self.clock.monotonic()
        if message.id in self._jobs:
            return Receipt(message.id, created=False)
        holder = self._holder(message, now)
        if holder is not None:
            return self._conflict(holder, message, now)
        job = self._store(message, now, self.clock.time())
        unique = message.unique
        if unique is not None:
            self._uniques[unique.scope] = (job, float("inf") if unique.ttl is None else now + unique.ttl)
        return Receipt(message.id, created=True)

    def _holder(self, message: Message, now: float) -> Job | None:
        held = None if message.unique is None else self._uniques.get(message.unique.scope)
        if held is None or held[1] <= now or held[0].state in TERMINAL:
            return None
        return held[0]

    def _conflict(self, holder: Job, message: Message, now: float) -> Receipt:
        unique = message.unique
        untouched = holder.state in {"pending", "scheduled"} and holder.attempt == 0
        if unique is None or unique.on_conflict != "replace" or not untouched:
            return Receipt(holder.message.id, created=False)
        self._unplace(holder)
        holder.message = msgspec.structs.replace(message, id=holder.message.id, unique=holder.message.unique)
        holder.due = self._due_time(message, now, self.clock.time())
        if message.key is not None:
            self._keys.join(message.key, holder)
        self._place(holder, now)
        return Receipt(holder.message.id, created=False, replaced=True)

    def _store(self, message: Message, now: float, wall: float) -> Job:
        self._seq += 1
        delayed = message.delay > 0 or message.at is not None
        job = Job(message, self._seq, wall, self._due_time(message, now, wall) if delayed else now)
        self._jobs[message.id] = job
        if message.key is not None:
            self._keys.join(message.key, job)
        if delayed or message.key is not None:
            self._place(job, now)
        else:
            self._line(message.queue).push(job)
        return job

    @staticmethod
    def _due_time(message: Message, now: float, wall: float) -> float:
        instant = now if message.at is None else now + (message.at - wall)
        return max(now + message.delay, instant)

    # ----------------------------------------------------------------------------------------- where a job waits

    def _line(self, queue: str) -> Line:
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = Line()
        return line

    def _place(self, job: Job, now: float) -> None:
        """Put a job that does not run where it belongs: on the clock, held behind its key, or in its queue's line."""
        job.held = None
        if job.due > now:
            job.state = "scheduled"
            heapq.heappush(self._due, (job.due, job.seq, job))
            return
        job.state = "pending"
        key = job.message.key
        if key is not None and not self._keys.is_head(key, job):
            job.held = "key"
        elif job.recovered:
            self._expired.append(job)
        else:
            self._line(job.message.queue).push(job)

    def _unplace(self, job: Job) -> None:
        """Take a waiting job away from wherever it waits; a turn it held goes to the next."""
        self._strike_off(job)
        self._free_held(job)
        job.ready = False
        job.held = None
        self._leave_key(job)

    def _strike_off(self, job: Job) -> None:
        """Count one more entry of the clock that stands for nothing."""
        if job.state == "scheduled" or job.held in {"rate", "published"}:
            self._struck += 1

    def _free_held(self, job: Job) -> None:
        rate = job.message.rate
        if job.held == "rate" and rate is not None:
            self._rates[rate.key].waiting -= 1

    def _leave_key(self, job: Job) -> None:
        key = job.message.key
        if key is not None:
            successor = self._keys.leave(key, job)
            if successor is not None and successor.held == "key":
                self._place(successor, self.clock.monotonic())

    def _leave_gate(self, job: Job) -> None:
        concurrency = job.message.concurrency
        if concurrency is None:
            return
        gate = self._gates[concurrency.key]
        successor = gate.leave()
        if successor is not None:
            self._place(successor, self.clock.monotonic())
        elif gate.running == 0:
            del self._gates[concurrency.key]

    # ------------------------------------------------------------------------------------------------------- lending

    def claim(
        self, queues: Sequence[str], *, limit: int, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery]:
        """Lend what is due now."""
        with self._lock:
            now = self.clock.monotonic()
            self._promote(now)
            if recover and now >= self._expiry:
                self._sweep(now)
            deliveries: list[Delivery] = []
            self._token += 1
            places = limit if free is None else min(free, limit)
            if self._expired and places > 0:
                self._lend_recovered(queues, places, now, lease, deliveries)
            self._lend_ready(queues, limit, now, lease, deliveries)
            return deliveries

    def _lend_recovered(
        self, queues: Sequence[str], places: int, now: float, lease: float, deliveries: list[Delivery]
    ) -> None:
        """Lend jobs whose lease ran out, in the order of a line, to slots that will start them at once."""
        for _ in range(len(self._expired)):
            job = self._expired.popleft()
            if job.state != "pending" or not job.recovered or job.held is not None or job.ready:
                continue
            mine = job.message.queue in queues and job.message.queue not in self._paused
            if mine and len(deliveries) < places and self._pass_gates(job, now):
                deliveries.append(self._lend(job, now, lease))
            elif job.held is None:
                self._expired.append(job)

    def _lend_ready(
        self, queues: Sequence[str], limit: int, now: float, lease: float, deliveries: list[Delivery]
    ) -> None:
        for queue in queues:
            line = self._lines.get(queue)
            if line is None or queue in self._paused:
                continue
            while len(deliveries) < limit:
                job = line.pop()
                if job is None:
                    break
                if self._pass_gates(job, now):
                    deliveries.append(self._lend(job, now, lease))

    def _pass_gates(self, job: Job, now: float) -> bool:
        """Whether the limits let a job go now; if not, it is held where it will be woken."""
        message = job.message
        if message.concurrency is None and message.rate is None:
            return True
        concurrency, rate = message.concurrency, message.rate
        gate = None
        if concurrency is not None:
            gate = self._gates.setdefault(concurrency.key, ConcurrencyGate())
            if gate.running >= concurrency.limit:
                gate.wait(job)
                return False
        if rate is not None:
            again = self._rates.setdefault(rate.key, RateGate()).take(rate.limit, rate.period, now)
            if again is not None:
                job.held, job.due = "rate", again
                heapq.heappush(self._due, (again, job.seq, job))
                return False
        if gate is not None:
            gate.running += 1
        return True

    def _lend(self, job: Job, now: float, lease: float) -> Delivery:
        end = now + lease
        job.state = "running"
        job.attempt += 1
        job.token = self._token
        job.settled = False
        job.lease_end = end
        job.started_at = self.clock.time()
        self._running[job.message.id] = job
        self._expiry = min(self._expiry, end)
        unique = job.message.unique
        if unique is not None and unique.until == "start":
            self._free_scope(job)
        return Delivery(job.message, job.token, job.attempt, job.generation, job.recovered, job)

    def _promote(self, now: float) -> None:
        due = self._due
        for _ in range(PROMOTE_BATCH):
            if not due or due[0][0] > now:
                return
            at, _seq, job = heapq.heappop(due)
            if at != job.due:
                continue
            if job.state == "scheduled":
                self._place(job, now)
            elif job.state == "pending" and job.held in {"rate", "published"}:
                self._free_held(job)
                self._place(job, now)

    def _sweep(self, now: float) -> None:
        """Take back what ran out, and note when the next lease will."""
        expired = [job for job in self._running.values() if job.lease_end <= now]
        for job in expired:
            del self._running[job.message.id]
            self._leave_gate(job)
            if job.cancel:
                self._finish(job, "cancelled", "cancelled")
                continue
            job.recovered = True
            job.state = "pending"
            job.held = None
            self._expired.append(job)
        if expired:
            self._expired = deque(sorted(self._expired, key=lambda job: (-job.message.priority, job.seq)))
        self._expiry = min((job.lease_end for job in self._running.values()), default=float("inf"))

    # ------------------------------------------------------------------------------------------------------ settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes whose lease still is the newest."""
        with self._lock:
            results = [self._settle_one(outcome) for outcome in outcomes]
        self._wake()
        return results

    def _settle_one(self, outcome: Outcome) -> Settlement:
        delivery = outcome.delivery
        job = self._jobs.get(delivery.message.id)
        if job is None:
            return "already_settled" if isinstance(delivery.receipt, Job) and delivery.receipt.settled else "lost"
        if job.token != delivery.token or job.generation != delivery.generation:
            return "lost"
        if job.state != "running":
            return self._settle_resting(job)
        del self._running[delivery.message.id]
        if job.message.concurrency is not None:
            self._leave_gate(job)
        self._apply(job, outcome)
        return "applied"

    def _settle_resting(self, job: Job) -> Settlement:
        """Judge an outcome for a job that does not run: settled before, or taken back by a sweep."""
        return "already_settled" if job.settled else "lost"

    def _apply(self, job: Job, outcome: Outcome) -> None:
        job.settled = True
        job.recovered = False
        match outcome:
            case Done():
                job.result = outcome.result
                job.result_error = outcome.result_error
                self._finish(job, "completed", None)
            case Again():
                self._note(job, outcome.error)
                self._return(job, outcome.delay, outcome.successor)
            case Released():
                job.attempt -= 1
                self._return(job, outcome.delay, outcome.successor)
            case Dead():
                self._note(job, outcome.error)
                self._finish(job, outcome.state, outcome.reason)
        if outcome.follow_ups:
            self.send_unique(outcome.follow_ups)

    @staticmethod
    def _note(job: Job, error: Failure | None) -> None:
        if error is not None:
            job.errors = (*job.errors, error)[-MAX_ERRORS:]

    def _return(self, job: Job, delay: float, successor: Message | None) -> None:
        if job.cancel:
            self._finish(job, "cancelled", "cancelled")
            return
        if successor is not None:
            job.message = msgspec.structs.replace(
                job.message, body=successor.body, concurrency=successor.concurrency, rate=successor.rate
            )
        now = self.clock.monotonic()
        job.due = now + delay
        self._place(job, now)

    def _finish(self, job: Job, state: State, reason: str | None) -> None:
        job.state = state
        job.reason = reason
        job.finished_at = self.clock.time()
        if job.cancel:
            self._cancels.discard(job.message.id)
            job.cancel = False
        if job.message.unique is not None:
            self._free_scope(job)
        if job.message.key is not None:
            self._leave_key(job)
        self._keep(job)

    def _free_scope(self, job: Job) -> None:
        unique = job.message.unique
        if unique is not None:
            held = self._uniques.get(unique.scope)
            if held is not None and held[0] is job:
                del self._uniques[unique.scope]

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases that have not run out."""
        with self._lock:
            now = self.clock.monotonic()
            return [self._extend_one(delivery, now, lease) for delivery in deliveries]

    def _extend_one(self, delivery: Delivery, now: float, lease: float) -> Extension:
        job = self._jobs.get(delivery.message.id)
        if not self._holds(job, delivery) or job is None or job.lease_end <= now:
            return Extension(held=False)
        job.lease_end = now + lease
        self._expiry = min(self._expiry, job.lease_end)
        return Extension(held=True, cancel=job.cancel, paused=job.message.queue in self._paused)

    @staticmethod
    def _holds(job: Job | None, delivery: Delivery) -> bool:
        return job is not None and job.state == "running" and job.token == delivery.token

    # ---------------------------------------------------------------------------------------------- finished records

    def _keep(self, job: Job) -> None:
        """Keep a finished job for its retention, and at most `MAX_FINISHED` of its queue."""
        retain = job.message.retain
        if retain is None:
            retain = RETAIN if job.state == "completed" else FAILED_RETAIN
        if retain <= 0:
            del self._jobs[job.message.id]
            return
        job.forget = self.clock.monotonic() + retain
        queue = job.message.queue
        shelf = self._finished.get((queue, retain))
        if shelf is None:
            shelf = self._finished[queue, retain] = deque()
        shelf.append(job)
        kept = self._kept.get(queue, 0) + 1
        self._kept[queue] = kept
        if kept > MAX_FINISHED:
            shelves = [s for (name, _), s in self._finished.items() if name == queue and s]
            self._forget_first(min(shelves, key=lambda s: s[0].forget))

    def _forget_first(self, shelf: deque[Job]) -> bool:
        """Drop the oldest entry of a shelf; False when the job had left it by other means (a retry, a deletion)."""
        job = shelf.popleft()
        self._kept[job.message.queue] -= 1
        stale = job.state not in TERMINAL or self._jobs.get(job.message.id) is not job
        if not stale:
            del self._jobs[job.message.id]
        return not stale

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget finished jobs past their retention."""
        with self._lock:
            now, wall = self.clock.monotonic(), self.clock.time()
            count = 0
            for shelf in list(self._finished.values()):
                while shelf and count < limit and self._is_past(shelf[0], older_than, now, wall):
                    count += self._forget_first(shelf)
            self._finished = {place: shelf for place, shelf in self._finished.items() if shelf}
            self._rates = {key: gate for key, gate in self._rates.items() if gate.waiting or gate.until > now}
            self._tidy()
            return count

    def _tidy(self) -> None:
        """Drop what was cancelled, removed or replaced before its time from the clock, once that is half of it."""
        if self._struck * 2 > len(self._due):
            self._due = [entry for entry in self._due if self._stands(*entry)]
            heapq.heapify(self._due)
            self._struck = 0

    def _stands(self, at: float, _seq: int, job: Job) -> bool:
        waits = job.state == "scheduled" or (job.state == "pending" and job.held in {"rate", "published"})
        return waits and at == job.due and self._jobs.get(job.message.id) is job

    @staticmethod
    def _is_past(job: Job, older_than: float | None, now: float, wall: float) -> bool:
        if job.state not in TERMINAL:
            return True
        if older_than is not None:
            return wall - (job.finished_at or 0.0) >= older_than
        return job.forget <= now

    # ---------------------------------------------------------------------------------------------- looking and changing

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by queue and state."""
        with self._lock:
            tally: dict[str, dict[str, int]] = {name: {} for name in queues or ()}
            oldest: dict[str, float] = {}
            for job in self._jobs.values():
                name = job.message.queue
                if queues is not None and name not in tally:
                    continue
                states = tally.setdefault(name, {})
                states[job.state] = states.get(job.state, 0) + 1
                if job.state == "pending" and job.held in {None, "published"}:
                    oldest[name] = min(oldest.get(name, job.accepted_at), job.accepted_at)
            wall = self.clock.time()
            return [
                QueueCounts(
                    queue=name,
                    oldest_ready_age=max(0.0, wall - oldest[name]) if name in oldest else None,
                    paused=name in self._paused,
                    **states,
                )
                for name, states in sorted(tally.items())
            ]

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records by id."""
        with self._lock:
            shift = self.clock.time() - self.clock.monotonic()
            found = [self._jobs.get(id) for id in ids]
            return [None if job is None else job.record(shift) for job in found]

    def browse(self, query: Query) -> Page:
        """Return one page in order of acceptance."""
        with self._lock:
            shift = self.clock.time() - self.clock.monotonic()
            after = place_of(query)
            found = sorted((job for job in self._matching(query) if job.seq > after), key=lambda job: job.seq)
            page = found[: query.limit]
            more = str(page[-1].seq) if len(found) > len(page) and page else None
            return Page(records=[job.record(shift) for job in page], next=more)

    def _matching(self, query: Query) -> Iterator[Job]:
        for job in self._jobs.values():
            message = job.message
            if (
                (not query.states or job.state in query.states)
                and (query.queue is None or message.queue == query.queue)
                and (query.type is None or message.type == query.type)
                and (query.tag is None or query.tag in message.tags)
                and (query.search is None or _mentions(message, query.search))
            ):
                yield job

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel what waits, flag what runs."""
        with self._lock:
            before = [self._cancel_one(id) for id in ids]
        self._wake()
        return before

    def _cancel_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is None:
            return None
        before = job.state
        if before in {"pending", "scheduled"}:
            self._strike_off(job)
            self._free_held(job)
            job.ready = False
            job.held = None
            self._finish(job, "cancelled", "cancelled")
        elif before == "running":
            job.cancel = True
            self._cancels.add(id)
        return before

    def requested(self) -> list[str]:
        """Return running jobs whose cancellation was asked for."""
        with self._lock:
            return sorted(self._cancels)

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start failed or cancelled jobs over."""
        with self._lock:
            before = [self._retry_one(id) for id in ids]
        self._wake()
        return before

    def _retry_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is None:
            return None
        before = job.state
        if before not in {"failed", "cancelled"}:
            return before
        now = self.clock.monotonic()
        job.generation += 1
        job.attempt = 0
        job.reason = job.finished_at = job.percent = job.step = None
        job.recovered = job.settled = False
        job.due = now
        if job.message.key is not None:
            self._keys.join(job.message.key, job)
        self._place(job, now)
        return before

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs that do not run."""
        with self._lock:
            before = [self._delete_one(id) for id in ids]
        self._wake()
        return before

    def _delete_one(self, id: str) -> State | None:
        job = self._jobs.get(id)
        if job is None or job.state == "running":
            return None if job is None else job.state
        if job.state not in TERMINAL:
            self._remove_waiting(job)
        else:
            del self._jobs[id]
        return job.state

    def _remove_waiting(self, job: Job) -> None:
        self._free_scope(job)
        self._unplace(job)
        job.due = -1.0
        job.recovered = False
        del self._jobs[job.message.id]

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue."""
        with self._lock:
            waiting = [
                job
                for job in self._jobs.values()
                if job.message.queue == queue and job.state in {"pending", "scheduled"}
            ]
            for job in waiting:
                self._remove_waiting(job)
        self._wake()
        return len(waiting)

    def pause(self, queue: str) -> None:
        """Stop lending from a queue."""
        with self._lock:
            self._paused.add(queue)

    def resume(self, queue: str) -> None:
        """Lend from a queue again."""
        with self._lock:
            self._paused.discard(queue)
        self._wake()

    def paused(self) -> list[str]:
        """Return the paused queues."""
        with self._lock:
            return sorted(self._paused)

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress of running jobs."""
        with self._lock:
            return [self._report_one(report) for report in reports]

    def _report_one(self, report: Progress) -> bool:
        job = self._jobs.get(report.delivery.message.id)
        if job is None or not self._holds(job, report.delivery):
            return False
        job.percent, job.step = report.percent, report.step
        return True

    # ------------------------------------------------------------------------------------------------------- workers

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker, or strike it off."""
        with self._lock:
            if ttl <= 0:
                self._workers.pop(worker.id, None)
                return
            seen = msgspec.structs.replace(worker, seen_at=self.clock.time())
            self._workers[worker.id] = (seen, self.clock.monotonic() + ttl)

    def workers(self) -> list[WorkerInfo]:
        """Return live workers."""
        with self._lock:
            now = self.clock.monotonic()
            self._workers = {id: entry for id, entry in self._workers.items() if entry[1] > now}
            return [worker for worker, _ in self._workers.values()]

    # -------------------------------------------------------------------------------------------- pairing (the store)

    def admit(self, messages: Sequence[Message], *, publish_within: float) -> list[Receipt]:
        """Store messages that a transport will carry."""
        with self._lock:
            receipts = [self._send_one(message) for message in messages]
            for receipt in receipts:
                if receipt.created:
                    self._set_aside(self._jobs[receipt.id], publish_within)
            return receipts

    def _set_aside(self, job: Job, seconds: float) -> None:
        """Keep a ready job out of the outbox for a while."""
        if job.ready:
            job.ready = False
            self._hold_published(job, seconds)

    def _hold_published(self, job: Job, seconds: float) -> None:
        job.held, job.due = "published", self.clock.monotonic() + seconds
        heapq.heappush(self._due, (job.due, job.seq, job))

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Keep jobs that wait out of the outbox for a while, unless they were set aside since."""
        with self._lock:
            now = self.clock.monotonic()
            for id, age in zip(ids, ages, strict=True):
                job = self._jobs.get(id)
                waits = job is not None and job.state == "pending" and job.held == "published"
                if job is not None and waits and (job.due or 0.0) <= now + publish_within - age:
                    self._hold_published(job, again_after)

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return ready jobs that nobody published in time."""
        with self._lock:
            now = self.clock.monotonic()
            self._promote(now)
            if recover and now >= self._expiry:
                self._sweep(now)
            jobs = [*self._take_expired(limit), *self._take_ready(limit)][:limit]
            for job in jobs:
                job.ready = True
                self._set_aside(job, again_after)
            return [job.message for job in jobs]

    def _take_expired(self, limit: int) -> Iterator[Job]:
        while self._expired and limit > 0:
            job = self._expired.popleft()
            if job.state == "pending" and job.recovered and not job.ready and job.held is None:
                limit -= 1
                yield job

    def _take_ready(self, limit: int) -> Iterator[Job]:
        for queue, line in self._lines.items():
            if queue in self._paused:
                continue
            while limit > 0 and (job := line.pop()) is not None:
                limit -= 1
                yield job

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend these jobs by name."""
        with self._lock:
            self._token += 1
            now = self.clock.monotonic()
            self._promote(now)
            if recover and now >= self._expiry:
                self._sweep(now)
            places = len(ids) if free is None else free
            answers = []
            for id in ids:
                answer = self._lend_by_id(id, now, lease, recovered=places > 0)
                places -= isinstance(answer, Delivery) and answer.recovered
                answers.append(answer)
            return answers

    def _lend_by_id(self, id: str, now: float, lease: float, *, recovered: bool) -> Delivery | State | None:
        job = self._jobs.get(id)
        if job is None:
            return None
        if job.state != "pending" or job.held not in {None, "rate", "published"}:
            return job.state
        if job.message.queue in self._paused or (job.recovered and not recovered):
            if job.held == "published":
                job.due = -1.0
                self._place(job, now)
            return job.state
        self._free_held_by_outbox(job)
        job.ready = False
        self._line(job.message.queue).trim(job.message.priority)
        job.held = None
        return self._lend(job, now, lease) if self._pass_gates(job, now) else job.state

    def _free_held_by_outbox(self, job: Job) -> None:
        if job.held in {"rate", "published"}:
            job.due = -1.0

    # ------------------------------------------------------------------------------------------------------- waiting

    def watch(self, wakeup: Wakeup) -> None:
        """Raise this flag from now on whenever something may have become due."""
        with self._lock:
            self._waiters.add(wakeup)

    def unwatch(self, wakeup: Wakeup) -> None:
        """Leave this flag alone again."""
        with self._lock:
            self._waiters.discard(wakeup)

    def _wake(self) -> None:
        if self._waiters:
            with self._lock:
                for wakeup in self._waiters:
                    wakeup.set()

    def next_change(self, default: float, *, recover: bool) -> float:
        """Return the seconds until time alone makes something due for a claim, at most `default`.

        To one that takes nothing back (`recover=False`) the ends of leases are nothing.
        """
        with self._lock:
            now = self.clock.monotonic()
            first = self._due[0][0] if self._due else float("inf")
            expiry = self._expiry if recover else float("inf")
            return max(0.0, min(default, first - now, expiry - now))

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Give back leases whose holder goes away in good order."""
        self.settle([Released(delivery) for delivery in deliveries])


def _mentions(message: Message, text: str) -> bool:
    return text in message.id or text in message.type or text in message.body
