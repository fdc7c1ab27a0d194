"""Random programs of the whole contract, every answer of each driver compared with the model's, and so with each other's."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from queuekit.contract import Again, Dead, Done, Failure, Message, Outcome, Progress, Released, Unique
from queuekit_integration.harness import Harness, cell
from queuekit_integration.programs.model import ModelLease, ModelQueue

__all__ = ["QueueMachine", "machine_of"]

QUEUES = ["a", "b"]
ENDED = {"failed", "cancelled"}
DELAYS = st.sampled_from([0, 0, 0, 5, 20])
LEASES = st.sampled_from([10, 10, 30])
PICK = st.integers(0, 99)


@st.composite
def drafts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a message without its id: keys, priorities and scopes are few, so that they meet."""
    queue = draw(st.sampled_from(QUEUES))
    unique = None
    if draw(st.integers(0, 2)) < 2:
        unique = Unique(
            f"{queue}/{draw(st.sampled_from('st'))}",
            ttl=draw(st.sampled_from([None, None, 15])),
            until=draw(st.sampled_from(["end", "end", "start"])),
            on_conflict=draw(st.sampled_from(["return", "replace"])),
        )
    return {
        "queue": queue,
        "delay": draw(DELAYS),
        "priority": draw(st.sampled_from([4, 4, 4, 9, 1])),
        "key": draw(st.sampled_from([None, None, None, "k", "l"])),
        "retain": draw(st.sampled_from([None, None, None, None, 0])),
        "unique": unique,
    }


@st.composite
def settlements(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an outcome without its lease."""
    return {
        "pick": draw(PICK),
        "kind": draw(st.sampled_from(["done", "again", "again", "released", "dead", "cancelled"])),
        "delay": draw(DELAYS),
        "error": draw(st.booleans()),
        "successor": draw(st.integers(0, 3)) == 0,
        "follow_ups": draw(st.one_of(st.just([]), st.just([]), st.lists(drafts(), max_size=2))),
    }


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a claim asks for."""
    return {
        "queues": draw(st.sampled_from([["a", "b"], ["a", "b"], ["b", "a"], ["a"], ["b"]])),
        "limit": draw(st.integers(1, 4)),
        "lease": draw(LEASES),
        "free": draw(st.sampled_from([None, None, None, 1, 0])),
        "recover": draw(st.sampled_from([True, True, True, True, False])),
    }


class QueueMachine(RuleBasedStateMachine):
    """One program, on every driver of `kinds` and on the model at once."""

    kinds: ClassVar[tuple[type[Harness], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        with ExitStack() as stack:  # what fails here is closed here: nobody calls `teardown` then
            self.cells = [stack.enter_context(cell(kind)) for kind in self.kinds]
            self.drivers: list[Any] = [harness.driver() for harness in self.cells]
            self.stack = stack.pop_all()
        self.ordered = all(driver.limits.ordered for driver in self.drivers)
        assert self.ordered or len(self.drivers) == 1, "the model follows one driver's choice, and not several"
        self.start = self.cells[0].clock.time()
        self.model = ModelQueue()
        self.leases: list[ModelLease] = []
        self.newest: list[dict[str, Any]] = [{} for _ in self.drivers]
        self.ids: list[str] = []

    def teardown(self) -> None:
        self.stack.close()

    # ------------------------------------------------------------------------------------------------------ helpers

    def message(self, draft: dict[str, Any]) -> Message:
        number = len(self.ids)
        self.ids.append(str(UUID(int=number)))
        return Message(
            self.ids[-1], draft["queue"], "t", f"body {number}", **{k: draft[k] for k in draft if k != "queue"}
        )

    def agree(self, expected: Any, verb: str, *arguments: Any, **options: Any) -> None:
        for harness, driver in zip(self.cells, self.drivers, strict=True):
            answer = getattr(driver, verb)(*arguments, **options)
            assert answer == expected, f"{harness.name}.{verb} said {answer}, the model {expected}"

    def fit(self, harness: Harness, answers: list[Any], right: list[set[Any]]) -> None:
        fits = len(answers) == len(right) and all(a in allowed for a, allowed in zip(answers, right, strict=True))
        assert fits, f"{harness.name} answered {answers}, the model {right}"

    def lease(self, pick: int) -> ModelLease:
        """Choose a lease, most often one that is live: dead ones answer alike whatever a driver does."""
        live = [lease for lease in self.leases if self.model.is_live(lease)]
        pool = live if live and pick < 85 else self.leases
        return pool[-1 - pick % len(pool)]

    def outcome(self, drawn: dict[str, Any]) -> tuple[ModelLease, list[Outcome]]:
        """Build one outcome for each driver: their tokens differ."""
        lease = self.lease(drawn["pick"])
        more = tuple(self.message(draft) for draft in drawn["follow_ups"])
        error = Failure(lease.attempt, self.model.now, "error") if drawn["error"] else None
        outcomes: list[Outcome] = []
        for delivery in lease.deliveries:
            successor = None
            if drawn["successor"]:
                successor = Message(delivery.message.id, delivery.message.queue, "t", f"after {lease.attempt}")
            kinds: dict[str, Outcome] = {
                "done": Done(delivery, follow_ups=more),
                "again": Again(delivery, drawn["delay"], error, successor, more),
                "released": Released(delivery, drawn["delay"], successor, more),
                "dead": Dead(delivery, "error", error, follow_ups=more),
                "cancelled": Dead(delivery, "cancelled", None, "cancelled", more),
            }
            outcomes.append(kinds[drawn["kind"]])
        return lease, outcomes

    def settled(self, drawn: list[dict[str, Any]]) -> tuple[list[list[Outcome]], list[set[Any]]]:
        """Return the outcomes for each driver, and the answers that are right."""
        pairs = [self.outcome(one) for one in drawn]
        right = [self.model.settle(lease, outcomes[0]) for lease, outcomes in pairs]
        return [[outcomes[i] for _, outcomes in pairs] for i in range(len(self.drivers))], right

    def right(self, found: list[list[Any]], options: dict[str, Any]) -> list[ModelLease]:
        """Let the model lend: what is first in order, or what a driver that promises no order chose from what may be lent."""
        chosen = None if self.ordered else [delivery.message.id for delivery in found[0]]
        return self.model.claim(**options, chosen=chosen)

    def lent(self, found: list[list[Any]], expected: list[ModelLease]) -> None:
        """Compare what was lent with the model's choice, and remember it."""
        names = [(lease.job.message.id, lease.attempt, lease.generation, lease.recovered) for lease in expected]
        for harness, deliveries, newest in zip(self.cells, found, self.newest, strict=True):
            seen = [(d.message.id, d.attempt, d.generation, d.recovered) for d in deliveries]
            assert seen == names, f"{harness.name} lent {seen}, the model {names}"
            for delivery, lease in zip(deliveries, expected, strict=True):
                message = delivery.message
                wanted = lease.job.message
                assert (message.body, message.priority, message.key) == (wanted.body, wanted.priority, wanted.key)
                assert delivery.token > newest.get("any", -1) or delivery.token == newest.get("claim")
                newest["claim"] = delivery.token
                lease.deliveries.append(delivery)
            newest["any"] = newest.pop("claim", newest.get("any", -1))
        self.leases += expected

    def pass_time(self, seconds: float) -> None:
        self.model.now += seconds
        for harness in self.cells:
            harness.advance(seconds)

    # -------------------------------------------------------------------------------------------------------- rules

    @rule(drawn=st.lists(drafts(), min_size=1, max_size=3))
    def dispatch(self, drawn: list[dict[str, Any]]) -> None:
        messages = [self.message({**draft, "unique": None}) for draft in drawn]
        for message in messages:
            self.model.send(message, unique=False)
        self.agree(None, "send", messages)

    @rule(drawn=st.lists(drafts(), min_size=1, max_size=2))
    def dispatch_unique(self, drawn: list[dict[str, Any]]) -> None:
        messages = [self.message(draft) for draft in drawn]
        self.agree([self.model.send(message, unique=True) for message in messages], "send_unique", messages)

    @precondition(lambda self: self.model.scopes)
    @rule(pick=PICK, replace=st.booleans(), draft=drafts())
    def dispatch_to_a_held_scope(self, pick: int, replace: bool, draft: dict[str, Any]) -> None:
        scopes = sorted(self.model.scopes)
        scope = scopes[pick % len(scopes)]
        unique = Unique(scope, on_conflict="replace" if replace else "return")
        message = self.message({**draft, "queue": scope.split("/")[0], "unique": unique})
        self.agree([self.model.send(message, unique=True)], "send_unique", [message])

    @precondition(lambda self: self.ids)
    @rule(pick=PICK, unique=st.booleans(), draft=drafts())
    def dispatch_a_known_id(self, pick: int, unique: bool, draft: dict[str, Any]) -> None:
        id = self.ids[pick % len(self.ids)]
        message = Message(id, draft["queue"], "t", "again", delay=draft["delay"], key=draft["key"])
        receipt = self.model.send(message, unique=unique)
        self.agree([receipt] if unique else None, "send_unique" if unique else "send", [message])

    def claim_now(self, options: dict[str, Any]) -> None:
        found = [driver.claim(**options) for driver in self.drivers]
        self.lent(found, self.right(found, options))

    def settle_now(self, drawn: list[dict[str, Any]]) -> None:
        outcomes, right = self.settled(drawn)
        for harness, driver, mine in zip(self.cells, self.drivers, outcomes, strict=True):
            self.fit(harness, driver.settle(mine), right)

    @precondition(lambda self: self.model.jobs)
    @rule(options=claims())
    def claim(self, options: dict[str, Any]) -> None:
        self.claim_now(options)

    @precondition(lambda self: self.leases)
    @rule(drawn=st.lists(settlements(), min_size=1, max_size=2))
    def settle(self, drawn: list[dict[str, Any]]) -> None:
        self.settle_now(drawn)

    @precondition(lambda self: self.model.jobs)
    @rule(limit=st.integers(1, 4), drawn=settlements())
    def work(self, limit: int, drawn: dict[str, Any]) -> None:
        """Claim whatever there is, and settle one: the path that most programs should take often."""
        self.claim_now({"queues": QUEUES, "limit": limit, "lease": 10, "free": None, "recover": True})
        if self.leases:
            self.settle_now([drawn])

    @precondition(lambda self: any(self.model.is_live(lease) for lease in self.leases))
    @rule(options=claims(), extra=st.sampled_from([0, 0, 1]))
    def crash(self, options: dict[str, Any], extra: int) -> None:
        """Let every lease run out, and claim."""
        ends = [lease.end for lease in self.leases if self.model.is_live(lease)]
        self.pass_time(max(ends) - self.model.now + extra)
        self.claim_now(options)

    @precondition(lambda self: self.leases)
    @rule(drawn=st.lists(settlements(), max_size=2), options=claims())
    def exchange(self, drawn: list[dict[str, Any]], options: dict[str, Any]) -> None:
        outcomes, right = self.settled(drawn)
        found = []
        for harness, driver, mine in zip(self.cells, self.drivers, outcomes, strict=True):
            answers, deliveries = driver.exchange(mine, **options)
            self.fit(harness, answers, right)
            found.append(deliveries)
        self.lent(found, self.right(found, options))

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, seconds=st.sampled_from([3, 10, 30]))
    def extend(self, pick: int, seconds: int) -> None:
        lease = self.lease(pick)
        expected = self.model.extend(lease, seconds)
        for i, (harness, driver) in enumerate(zip(self.cells, self.drivers, strict=True)):
            [answer] = driver.extend([lease.deliveries[i]], lease=seconds)
            seen = (answer.held, answer.cancel, answer.paused)
            assert seen == expected, f"{harness.name} extended {seen}, the model {expected}"

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, percent=st.integers(0, 100))
    def report(self, pick: int, percent: int) -> None:
        lease = self.lease(pick)
        expected = self.model.report(lease, percent)
        for i, driver in enumerate(self.drivers):
            assert driver.report([Progress(lease.deliveries[i], percent)]) == [expected]

    @rule(seconds=st.sampled_from([1, 4, 5, 9]))
    def tick(self, seconds: int) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: any(self.model.is_live(lease) for lease in self.leases))
    @rule(beyond=st.sampled_from([0, 0, 1, -1]))
    def expire(self, beyond: int) -> None:
        ends = [lease.end for lease in self.leases if self.model.is_live(lease)]
        self.pass_time(max(0, min(ends) - self.model.now + beyond))

    @precondition(lambda self: self.ids)
    @rule(pick=PICK, verb=st.sampled_from(["cancel waiting", "cancel running", "cancel running", "retry", "delete"]))
    def change_a_job(self, pick: int, verb: str) -> None:
        states = {
            "cancel waiting": {"pending", "scheduled"},
            "cancel running": {"running"},
            "retry": ENDED,
            "delete": ENDED,
        }
        fitting = [id for id, job in self.model.jobs.items() if job.state in states[verb]]
        pool = fitting if fitting and pick < 85 else self.ids
        id = pool[pick % len(pool)]
        name = verb.split(maxsplit=1)[0]
        self.agree([getattr(self.model, name)(id)], name, [id])

    @rule(
        queue=st.sampled_from(QUEUES),
        verb=st.sampled_from(["reconnect", "close", "pause", "resume", "resume", "purge"]),
    )
    def change_a_queue(self, queue: str, verb: str) -> None:
        match verb:
            case "pause":
                self.model.paused.add(queue)
                self.agree(None, "pause", queue)
            case "resume":
                self.model.paused.discard(queue)
                self.agree(None, "resume", queue)
            case "purge":
                self.agree(self.model.purge(queue), "purge", queue)
            case _:
                self.reconnect(close=verb == "close")
        self.agree(sorted(self.model.paused), "paused")

    def reconnect(self, *, close: bool) -> None:
        """Go on with another driver on the same state; what the first one lent stays lent."""
        for i, harness in enumerate(self.cells):
            if close:
                self.drivers[i].close()
            self.drivers[i] = harness.driver()

    # --------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def records_are_the_models(self) -> None:
        for harness, driver in zip(self.cells, self.drivers, strict=True):
            for id, record in zip(self.ids, driver.get(self.ids), strict=True):
                job = self.model.jobs.get(id)
                assert (record is None) == (job is None), f"{harness.name} has {record}, the model {job}"
                if record is None or job is None:
                    continue
                m = job.message
                due = self.start + job.due if job.state == "scheduled" else None
                seen = (
                    (record.state, record.reason, record.attempt, record.generation),
                    (record.queue, record.body, record.priority, record.key),
                    (record.cancel_requested, len(record.errors), record.due_at, record.progress),
                )
                expected = (
                    (job.state, job.reason, job.attempt, job.generation),
                    (m.queue, m.body, m.priority, m.key),
                    (job.cancel, job.errors, due, job.progress),
                )
                assert seen == expected, f"{harness.name} has {seen} of {id}, the model {expected}"

    @invariant()
    def counts_are_the_models(self) -> None:
        self.agree(self.model.count(), "count")
        flagged = sorted(id for id, job in self.model.jobs.items() if job.cancel)
        for driver in self.drivers:
            assert sorted(driver.requested()) == flagged


def machine_of(*kinds: type[Harness]) -> type[QueueMachine]:
    """Return the machine for these drivers."""
    return type("Machine", (QueueMachine,), {"kinds": kinds})
