"""Judges a history: valid, invalid with the anomalies, or unknown because the run proved nothing.

Each anomaly is one small function over what was gathered in one pass; the table at the end lists them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from queuekit_integration.history import History, Record

__all__ = ["ANOMALIES", "Anomaly", "Plan", "Verdict", "check"]

NS = 1_000_000_000
ENDS = frozenset({"done", "failed", "cancelled"})
"""Outcomes that are terminal."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One contradiction between what was promised and what happened."""

    name: str
    job: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the scenario set out to do: a run that did less proves nothing."""

    dispatches: int = 0
    redelivery: bool = False
    faults: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    drained: bool = True
    allowed: frozenset[str] = frozenset()
    """Anomalies that a *weaker* sentence names."""
    key_limits: Mapping[str, int] = field(default_factory=dict)
    """At most so many of a key at once; a key not named here is FIFO, one at a time."""
    concurrent_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the history says."""

    anomalies: tuple[Anomaly, ...] = ()
    unknown: tuple[str, ...] = ()
    recovered: int = 0
    """Dispatches without an answer whose jobs ran all the same."""
    redelivered: int = 0

    @property
    def valid(self) -> bool:
        """Whether it proves the promise."""
        return not self.anomalies and not self.unknown

    def __str__(self) -> str:
        shown = [f"{a.name} {a.job}: {a.detail}" for a in self.anomalies[:10]] + [f"unknown: {u}" for u in self.unknown]
        return "; ".join(shown) or "valid"


class Gathered:
    """The history by job."""

    def __init__(self, history: History) -> None:
        self.by: dict[str, dict[tuple[str, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
        self.all: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in history.records:
            place = (record.f, record.type)
            self.all[place].append(record)
            if record.job is not None:
                self.by[record.job][place].append(record)

    def jobs(self) -> Iterator[tuple[str, dict[tuple[str, str], list[Record]]]]:
        """Return every job with its records."""
        yield from self.by.items()


Found = Iterator[Anomaly]
START, FINISH, SETTLED = ("start", "ok"), ("finish", "ok"), ("settle", "ok")
DISPATCH, ACCEPTED, REFUSED = ("dispatch", "invoke"), ("dispatch", "ok"), ("dispatch", "fail")
LOST = ("lease_lost", "ok")


def lost(g: Gathered, plan: Plan) -> Found:
    """Find an accepted job that never started and was not cancelled."""
    for job, r in g.jobs():
        ended_unstarted = any(s.outcome in {"cancelled", "failed"} for s in r[SETTLED]) or r[("cancel", "ok")]
        if r[ACCEPTED] and not r[START] and not ended_unstarted and plan.drained:
            yield Anomaly("lost", job, "accepted, and never started")


def stuck_never_settled(g: Gathered, plan: Plan) -> Found:
    """Find a job that started and never reached a terminal state although all was drained."""
    for job, r in g.jobs():
        if plan.drained and r[START] and not any(s.outcome in ENDS for s in r[SETTLED]):
            yield Anomaly("stuck_never_settled", job, "started, and never settled for good")


def unexpected(g: Gathered, _: Plan) -> Found:
    """Find a start of a job that nobody dispatched."""
    for job, r in g.jobs():
        if r[START] and not r[DISPATCH]:
            yield Anomaly("unexpected", job, "started, and never dispatched")


def ran_after_definite_failure(g: Gathered, _: Plan) -> Found:
    """Find a start although every dispatch of the job had provably failed."""
    for job, r in g.jobs():
        if r[START] and r[REFUSED] and len(r[REFUSED]) >= len(r[DISPATCH]):
            yield Anomaly("ran_after_definite_failure", job, "its dispatch had provably failed")


def _by_generation(starts: list[Record]) -> Iterator[list[Record]]:
    groups: dict[int, list[Record]] = defaultdict(list)
    for start in starts:
        groups[start.generation].append(start)
    yield from groups.values()


def attempt_not_increasing(g: Gathered, _: Plan) -> Found:
    """Find attempts that do not grow from start to start (a released hand-out was never started)."""
    for job, r in g.jobs():
        for starts in _by_generation(r[START]):
            for earlier, later in itertools.pairwise(starts):
                if (later.attempt or 0) <= (earlier.attempt or 0) and not _snoozed(r, earlier, later):
                    yield Anomaly("attempt_not_increasing", job, f"{earlier.attempt} then {later.attempt}")


def _snoozed(r: dict[tuple[str, str], list[Record]], earlier: Record, later: Record) -> bool:
    return any(s.outcome == "released" and earlier.t <= s.t <= later.t for s in r[SETTLED])


def token_not_increasing(g: Gathered, _: Plan) -> Found:
    """Find a token that is not higher than the one before."""
    for job, r in g.jobs():
        for earlier, later in zip(r[START], r[START][1:], strict=False):
            if (later.token or 0) <= (earlier.token or 0):
                yield Anomaly("token_not_increasing", job, f"{earlier.token} then {later.token}")


def early_run(g: Gathered, _: Plan) -> Found:
    """Find a start before its dispatch's invocation plus its delay."""
    for job, r in g.jobs():
        if r[START] and r[DISPATCH]:
            due = min(d.t + int(d.delay * NS) for d in r[DISPATCH])
            if r[START][0].t < due:
                yield Anomaly("early_run", job, f"{(due - r[START][0].t) / NS:.6f} s early")


def lease_overlap(g: Gathered, _: Plan) -> Found:
    """Find a start while an earlier holder's lease ran; legal only for a zombie that was told or whose lease had ended."""
    for job, r in g.jobs():
        for earlier, later in zip(r[START], r[START][1:], strict=False):
            until = _held_until(r, earlier)
            if later.t < until and not _told_lost(r, earlier):
                yield Anomaly("lease_overlap", job, f"token {later.token} started while {earlier.token} was held")


def _held_until(r: dict[tuple[str, str], list[Record]], start: Record) -> int:
    ends = [x.t for x in (*r[FINISH], *r[SETTLED]) if x.token == start.token]
    renewed = [x.t + int(x.lease * NS) for x in r[("extend", "ok")] if x.token == start.token]
    lease_end = max([start.t + int(start.lease * NS), *renewed])
    return min([lease_end, *ends])


def _told_lost(r: dict[tuple[str, str], list[Record]], start: Record) -> bool:
    return any(x.token == start.token for x in r[LOST])


def stale_settle_accepted(g: Gathered, _: Plan) -> Found:
    """Find a settlement accepted under a token after a newer one had started."""
    for job, r in g.jobs():
        for settled in r[SETTLED]:
            newer = [s for s in r[START] if (s.token or 0) > (settled.token or 0) and s.t < settled.t]
            if newer and settled.token is not None:
                yield Anomaly(
                    "stale_settle_accepted", job, f"token {settled.token} after {newer[-1].token} had started"
                )


def start_after_success(g: Gathered, _: Plan) -> Found:
    """Find a start after the job's success was accepted, in one generation."""
    for job, r in g.jobs():
        for done in (s for s in r[SETTLED] if s.outcome == "done"):
            if any(s.t > done.t and s.generation == done.generation for s in r[START]):
                yield Anomaly("start_after_success", job, "started again after its success was accepted")


def double_terminal(g: Gathered, _: Plan) -> Found:
    """Find two terminal states in one generation."""
    for job, r in g.jobs():
        seen: set[int] = set()
        for settled in (s for s in r[SETTLED] if s.outcome in ENDS):
            if settled.generation in seen:
                yield Anomaly("double_terminal", job, f"a second end ({settled.outcome})")
            seen.add(settled.generation)


def workflow_double_terminal(g: Gathered, _: Plan) -> Found:
    """Find a workflow that ended twice."""
    seen: set[str | None] = set()
    for record in g.all[("workflow_terminal", "ok")]:
        if record.name in seen:
            yield Anomaly("workflow_double_terminal", str(record.name), "ended twice")
        seen.add(record.name)


def _keyed(g: Gathered) -> dict[str, list[Record]]:
    keys: dict[str, list[Record]] = defaultdict(list)
    for dispatch in g.all[DISPATCH]:
        if dispatch.key is not None and dispatch.job is not None:
            keys[dispatch.key].append(dispatch)
    return keys


def fifo_violation(g: Gathered, plan: Plan) -> Found:
    """Find a later dispatch of a key that started first; concurrent dispatches are never compared."""
    for key, dispatches in _keyed(g).items():
        if key in plan.key_limits or key in plan.concurrent_keys:
            continue
        latest_start = 0
        waiting: list[tuple[int, Record]] = []
        for dispatch in dispatches:
            starts = g.by[str(dispatch.job)][START]
            accepted = g.by[str(dispatch.job)][ACCEPTED]
            while waiting and waiting[0][0] < dispatch.t:
                latest_start = max(latest_start, waiting.pop(0)[1].t)
            if starts and starts[0].t < latest_start:
                yield Anomaly("fifo_violation", str(dispatch.job), f"overtook an earlier job of key {key}")
            if starts and accepted:
                waiting.append((accepted[0].t, starts[0]))


def key_concurrency_exceeded(g: Gathered, plan: Plan) -> Found:
    """Find more handlers of a key at once than its limit, counting only attempts whose lease was alive."""
    for key, dispatches in _keyed(g).items():
        limit = plan.key_limits.get(key, 1)
        edges: list[tuple[int, int]] = []
        for dispatch in dispatches:
            r = g.by[str(dispatch.job)]
            for start in r[START]:
                edges += [(start.t, 1), (_held_until(r, start), -1)]
        running = 0
        for _t, step in sorted(edges):
            running += step
            if running > limit:
                yield Anomaly("key_concurrency_exceeded", key, f"{running} at once, and {limit} were allowed")
                break


def event_mismatch(g: Gathered, _: Plan) -> Found:
    """Find a terminal event without its settlement, or more of them than ends."""
    ends = {"completed": "done", "failed": "failed", "cancelled": "cancelled"}
    for job, r in g.jobs():
        for event, outcome in ends.items():
            told = sum(e.outcome == event for e in r[("event", "ok")])
            if told > sum(s.outcome == outcome for s in r[SETTLED]):
                yield Anomaly("event_mismatch", job, f"{told} × {event} was told")


ANOMALIES: tuple[Callable[[Gathered, Plan], Found], ...] = (
    lost,
    stuck_never_settled,
    unexpected,
    ran_after_definite_failure,
    attempt_not_increasing,
    token_not_increasing,
    early_run,
    lease_overlap,
    stale_settle_accepted,
    start_after_success,
    double_terminal,
    workflow_double_terminal,
    fifo_violation,
    key_concurrency_exceeded,
    event_mismatch,
)


def _unknown(g: Gathered, plan: Plan, redelivered: int) -> Iterator[str]:
    accepted = len(g.all[ACCEPTED])
    if accepted < plan.dispatches:
        yield f"{accepted} dispatches acknowledged, {plan.dispatches} planned"
    if plan.redelivery and not redelivered:
        yield "no redelivery was seen"
    fired = {r.name for r in g.all[("fault", "ok")] if r.outcome == "fired"}
    for fault in plan.faults:
        if fault not in fired:
            yield f"the fault {fault} never fired"
    roles = {r.role for r in g.all[START]}
    for worker in plan.workers:
        if worker not in roles:
            yield f"the worker {worker} started nothing"
    oracles = g.all[("oracle", "ok")]
    if plan.drained and oracles and (oracles[-1].ready or oracles[-1].in_flight):
        yield f"not drained: {oracles[-1].ready} ready, {oracles[-1].in_flight} in flight"
    if plan.drained and not oracles and not g.all[("drain", "ok")]:
        yield "nobody looked whether it was drained"


def check(history: History, plan: Plan) -> Verdict:
    """Judge a history against a plan."""
    gathered = Gathered(history)
    found = [a for judge in ANOMALIES for a in judge(gathered, plan) if a.name not in plan.allowed]
    redelivered = sum(max(0, len(r[START]) - 1) for _, r in gathered.jobs())
    recovered = sum(bool(r[("dispatch", "info")] and r[START] and not r[ACCEPTED]) for _, r in gathered.jobs())
    return Verdict(
        anomalies=tuple(found),
        unknown=tuple(_unknown(gathered, plan, redelivered)),
        recovered=recovered,
        redelivered=redelivered,
    )
