"""Judges a history: valid, invalid with the anomalies, or unknown because the run proved nothing.

Each anomaly is one small function over what was gathered in one pass; the table at the end lists them.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from queuekit_integration.history import OUTCOMES, History, Record

__all__ = ["ANOMALIES", "Anomaly", "Plan", "Verdict", "check"]

NS = 1_000_000_000
ENDS = frozenset({"done", "failed", "cancelled"})
"""Outcomes that are terminal."""
GRACE = NS // 2
"""A process that wrote something so long after a handler's end has had its time to hear that the lease was lost."""


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
    workers: tuple[str | int, ...] = ()
    """Roles or process ids, each of which must have started something."""
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
    tolerated: frozenset[str] = frozenset()
    """Anomalies that were seen and that the plan allows."""
    unknown: tuple[str, ...] = ()
    recovered: int = 0
    """Dispatches without an answer whose jobs ran all the same."""
    redelivered: int = 0

    @property
    def state(self) -> Literal["valid", "invalid", "unknown"]:
        """An anomaly is final, whatever else the run failed to prove."""
        if self.anomalies:
            return "invalid"
        return "unknown" if self.unknown else "valid"

    @property
    def valid(self) -> bool:
        """Whether it proves the promise."""
        return self.state == "valid"

    def __str__(self) -> str:
        shown = [f"{a.name} {a.job}: {a.detail}" for a in self.anomalies[:10]] + [f"unknown: {u}" for u in self.unknown]
        return "; ".join(shown) or "valid"


class Story:
    """One job's records by what they say, and what follows from them; each list is in order of time."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.dispatched: list[Record] = []
        self.accepted: list[Record] = []
        self.refused: list[Record] = []
        self.starts: list[Record] = []
        self.finished: list[Record] = []
        self.settling: list[Record] = []
        self.settled: list[Record] = []
        self.rejected: list[Record] = []
        self.extended: list[Record] = []
        self.lost: list[Record] = []
        self.cancels: list[Record] = []
        self.events: list[Record] = []

    def derive(self) -> None:
        """Work out, once, who held the job how long, and which starts count."""
        self.told = {x.token for x in (*self.lost, *self.rejected)}
        self.settle_began: dict[int | None, int] = {}
        for x in (*self.settling, *self.finished, *self.settled):
            self.settle_began.setdefault(x.token, x.t)
        let_go: dict[int | None, int] = {}
        for x in (*self.settling, *self.lost, *self.rejected):
            let_go[x.token] = min(x.t, let_go.get(x.token, x.t))
        for x in (*self.finished, *self.settled):
            let_go.setdefault(x.token, x.t)
        ends = {s.token: s.t + int(s.lease * NS) for s in self.starts}
        for x in self.extended:
            ends[x.token] = max(ends.get(x.token, 0), x.t + int(x.lease * NS))
        self.held_until = {token: min(end, let_go.get(token, end)) for token, end in ends.items()}
        self.live = list(self._live())

    def _live(self) -> Iterator[Record]:
        """Leave out zombies that were frozen between claim and start: told, overtaken, their lease over before it."""
        highest = -1
        for start in self.starts:
            token = start.token or 0
            if token >= highest or start.lease > 0 or start.token not in self.told:
                yield start
            highest = max(highest, token)

    @property
    def unanswered(self) -> bool:
        """Whether a terminal settlement was sent off and nobody lived to read the answer: it may have been applied."""
        answered = {x.token for x in (*self.settled, *self.rejected)}
        return any(x.outcome in ENDS and x.token not in answered for x in self.settling)


PLACES = {
    ("dispatch", "invoke"): "dispatched",
    ("dispatch", "ok"): "accepted",
    ("dispatch", "fail"): "refused",
    ("start", "ok"): "starts",
    ("finish", "ok"): "finished",
    ("settle", "invoke"): "settling",
    ("settle", "ok"): "settled",
    ("settle", "fail"): "rejected",
    ("extend", "ok"): "extended",
    ("lease_lost", "ok"): "lost",
    ("cancel", "ok"): "cancels",
    ("event", "ok"): "events",
}
"""Where in a story a record belongs; one that is not here decides nothing by itself (a `dispatch info` above all)."""


class Gathered:
    """The history by job, gathered in one pass."""

    def __init__(self, history: History) -> None:
        self.stories: dict[str, Story] = {}
        self.rest: dict[str, list[Record]] = defaultdict(list)
        self.last_seen: dict[int, int] = {}
        self.roles: set[str | int] = set()
        self.watched: set[int] = set()
        for record in history.records:
            self.last_seen[record.pid] = record.t
            if record.job is None:
                self.rest[record.f].append(record)
            else:
                self._file(record, record.job)
        for story in self.stories.values():
            story.derive()

    def _file(self, record: Record, job: str) -> None:
        story = self.stories.get(job)
        if story is None:
            story = self.stories[job] = Story(job)
        place = PLACES.get((record.f, record.type))
        if place is not None:
            getattr(story, place).append(record)
        if record.f == "start":
            self.roles.update((record.role, record.pid))
        elif record.f == "event":
            self.watched.add(record.pid)

    def ran(self) -> Iterator[Story]:
        """Return every job that started at least once."""
        return (story for story in self.stories.values() if story.starts)

    def keys(self) -> dict[str, list[tuple[Record, Story]]]:
        """Return the jobs of every key with their first dispatches, in order of those invocations.

        A job whose dispatch was answered by nobody is dispatched again under its id, and is one job of its key.
        """
        keys: dict[str, list[tuple[Record, Story]]] = defaultdict(list)
        for story in self.stories.values():
            for dispatch in story.dispatched[:1]:
                if dispatch.key is not None:
                    keys[dispatch.key].append((dispatch, story))
        for dispatches in keys.values():
            dispatches.sort(key=lambda pair: pair[0].t)
        return keys


Found = Iterator[Anomaly]


def lost(g: Gathered, plan: Plan) -> Found:
    """Find an accepted job that never started and was not cancelled."""
    for story in g.stories.values() if plan.drained else ():
        ended = story.cancels or any(s.outcome in {"cancelled", "failed"} for s in story.settled)
        if story.accepted and not story.starts and not ended:
            yield Anomaly("lost", story.job, "accepted, and never started")


def stuck_never_settled(g: Gathered, plan: Plan) -> Found:
    """Find a job that started and never reached a terminal state although all was drained."""
    for story in g.ran() if plan.drained else ():
        if not story.unanswered and not any(s.outcome in ENDS for s in story.settled):
            yield Anomaly("stuck_never_settled", story.job, "started, and never settled for good")


def unexpected(g: Gathered, _: Plan) -> Found:
    """Find a start of a job that nobody dispatched."""
    for story in g.ran():
        if not story.dispatched:
            yield Anomaly("unexpected", story.job, "started, and never dispatched")


def ran_after_definite_failure(g: Gathered, _: Plan) -> Found:
    """Find a start although every dispatch of the job had provably failed."""
    for story in g.ran():
        if story.refused and len(story.refused) >= len(story.dispatched):
            yield Anomaly("ran_after_definite_failure", story.job, "its dispatch had provably failed")


def attempt_not_increasing(g: Gathered, _: Plan) -> Found:
    """Find attempts that do not grow from start to start; one that was given back may keep its number."""
    for story in g.ran():
        back = {s.token for s in (*story.settled, *story.settling) if s.outcome == "released"}
        before: dict[int, Record] = {}
        for later in story.live:
            earlier = before.get(later.generation)
            before[later.generation] = later
            if earlier is None:
                continue
            grown = (later.attempt or 0) - (earlier.attempt or 0)
            if grown < 0 or (grown == 0 and earlier.token not in back):
                yield Anomaly("attempt_not_increasing", story.job, f"{earlier.attempt} then {later.attempt}")


def token_not_increasing(g: Gathered, _: Plan) -> Found:
    """Find a token that is not higher than the one before."""
    for story in g.ran():
        for earlier, later in itertools.pairwise(story.live):
            if (later.token or 0) <= (earlier.token or 0):
                yield Anomaly("token_not_increasing", story.job, f"{earlier.token} then {later.token}")


def early_run(g: Gathered, _: Plan) -> Found:
    """Find a start before its dispatch's invocation plus its delay."""
    for story in g.ran():
        if story.dispatched:
            due = min(d.t + int(d.delay * NS) for d in story.dispatched)
            if story.starts[0].t < due:
                yield Anomaly("early_run", story.job, f"{(due - story.starts[0].t) / NS:.6f} s early")


def lease_overlap(g: Gathered, _: Plan) -> Found:
    """Find a start while another's lease ran, or beside a zombie that ended in a living process and was never told."""
    for story in g.ran():
        for earlier, later in itertools.pairwise(story.live):
            if later.t < story.held_until[earlier.token]:
                detail = f"token {later.token} started while {earlier.token} was held"
                yield Anomaly("lease_overlap", story.job, detail)
        yield from _never_told(g, story)


def _never_told(g: Gathered, story: Story) -> Found:
    finished = {f.token: f for f in story.finished if f.token not in story.told}
    for earlier, later in itertools.pairwise(story.live):
        end = finished.get(earlier.token)
        if end is not None and end.t > later.t and g.last_seen[end.pid] > end.t + GRACE:
            yield Anomaly("lease_overlap", story.job, f"the zombie with token {earlier.token} was never told")


def stale_settle_accepted(g: Gathered, _: Plan) -> Found:
    """Find a settlement accepted under a token after a newer one had started.

    A retry may start elsewhere before the answer to its settlement is written down: what counts is when that was sent.
    An end, though, must never stand beside a newer start.
    """
    for story in g.ran():
        times = [s.t for s in story.starts]
        highest = list(itertools.accumulate((s.token or 0 for s in story.starts), max))
        for settled in story.settled:
            moment = settled.t if settled.outcome in ENDS else story.settle_began[settled.token]
            before = bisect_left(times, moment)
            if settled.token is not None and before and highest[before - 1] > settled.token:
                detail = f"token {settled.token} after {highest[before - 1]} had started"
                yield Anomaly("stale_settle_accepted", story.job, detail)


def start_after_success(g: Gathered, _: Plan) -> Found:
    """Find a start after the job's success was accepted, in one generation."""
    for story in g.ran():
        done: dict[int, int] = {}
        for settled in story.settled:
            if settled.outcome == "done":
                done.setdefault(settled.generation, settled.t)
        if any(s.generation in done and s.t > done[s.generation] for s in story.live):
            yield Anomaly("start_after_success", story.job, "started again after its success was accepted")


def double_terminal(g: Gathered, _: Plan) -> Found:
    """Find two terminal states in one generation."""
    for story in g.stories.values():
        seen: set[int] = set()
        for settled in story.settled:
            if settled.outcome in ENDS:
                if settled.generation in seen:
                    yield Anomaly("double_terminal", story.job, f"a second end ({settled.outcome})")
                seen.add(settled.generation)


def workflow_double_terminal(g: Gathered, _: Plan) -> Found:
    """Find a workflow that ended twice."""
    seen: set[str | None] = set()
    for record in g.rest["workflow_terminal"]:
        if record.type == "ok":
            if record.name in seen:
                yield Anomaly("workflow_double_terminal", str(record.name), "ended twice")
            seen.add(record.name)


def fifo_violation(g: Gathered, plan: Plan) -> Found:
    """Find a job that started before the last start of one that its key had accepted before it was dispatched.

    Concurrent dispatches are never compared; nor is a job that was started over, which stands at the end of the line.
    """
    for key, dispatches in g.keys().items():
        if key in plan.key_limits or key in plan.concurrent_keys:
            continue
        earlier_start = 0
        accepted: list[tuple[int, int]] = []
        for dispatch, story in dispatches:
            while accepted and accepted[0][0] < dispatch.t:
                earlier_start = max(earlier_start, heapq.heappop(accepted)[1])
            starts = [s.t for s in story.live if s.generation == 0]
            if starts and starts[0] < earlier_start:
                yield Anomaly("fifo_violation", story.job, f"overtook an earlier job of key {key}")
            if starts and story.accepted:
                heapq.heappush(accepted, (story.accepted[0].t, starts[-1]))


def key_concurrency_exceeded(g: Gathered, plan: Plan) -> Found:
    """Find more handlers of a key at once than its limit, counting only attempts whose lease was alive."""
    for key, dispatches in g.keys().items():
        limit = plan.key_limits.get(key, 1)
        spans = ((s.t, story.held_until[s.token]) for _, story in dispatches for s in story.live)
        most = _most_at_once(spans)
        if most > limit:
            yield Anomaly("key_concurrency_exceeded", key, f"{most} at once, and {limit} were allowed")


def _most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    edges = [edge for start, end in spans if end > start for edge in ((start, 1), (end, -1))]
    return max(itertools.accumulate(step for _, step in sorted(edges)), default=0)


def event_mismatch(g: Gathered, _: Plan) -> Found:
    """Find an attempt whose end was told twice, told otherwise than it was settled, or not told to a listener."""
    for story in g.stories.values():
        told: dict[int | None, str | None] = {}
        for event in story.events:
            if event.token in told:
                yield Anomaly("event_mismatch", story.job, f"{told[event.token]} and {event.outcome} were told")
            told[event.token] = event.outcome
        started = {s.token for s in story.starts}
        for settled in story.settled:
            said = told.get(settled.token)
            silent = said is None and settled.pid in g.watched and settled.token in started
            if silent or (said is not None and OUTCOMES.get(said) != settled.outcome):
                yield Anomaly("event_mismatch", story.job, f"settled as {settled.outcome}, told as {said}")


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


def _unknown(g: Gathered, plan: Plan, history: History, redelivered: int) -> Iterator[str]:
    accepted = sum(len(story.accepted) for story in g.stories.values())
    if accepted < plan.dispatches:
        yield f"{accepted} dispatches acknowledged, {plan.dispatches} planned"
    if plan.redelivery and not redelivered:
        yield "no redelivery was seen"
    fired = {r.name for r in g.rest["fault"] if r.type == "ok" and r.outcome == "fired"}
    yield from (f"the fault {fault} never fired" for fault in plan.faults if fault not in fired)
    yield from (f"the worker {worker} started nothing" for worker in plan.workers if worker not in g.roles)
    if history.corrupt:
        yield f"{history.corrupt} lines could not be read"
    if plan.drained:
        yield from _undrained(g)


def _undrained(g: Gathered) -> Iterator[str]:
    oracles = [r for r in g.rest["oracle"] if r.type == "ok"]
    if oracles and (oracles[-1].ready or oracles[-1].in_flight):
        yield f"not drained: {oracles[-1].ready} ready, {oracles[-1].in_flight} in flight"
    if not oracles and not any(r.type == "ok" for r in g.rest["drain"]):
        yield "nobody looked whether it was drained"


def check(history: History, plan: Plan) -> Verdict:
    """Judge a history against a plan."""
    gathered = Gathered(history)
    found = [a for judge in ANOMALIES for a in judge(gathered, plan)]
    redelivered = sum(len(story.starts) - 1 for story in gathered.ran())
    answered = (len(story.accepted) + len(story.refused) for story in gathered.ran() if story.dispatched)
    return Verdict(
        anomalies=tuple(a for a in found if a.name not in plan.allowed),
        tolerated=frozenset(a.name for a in found if a.name in plan.allowed),
        unknown=tuple(_unknown(gathered, plan, history, redelivered)),
        recovered=sum(not answers for answers in answered),
        redelivered=redelivered,
    )
