"""Races: a random program for each of several actors, run at the same time, and the whole history judged afterwards."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from queuekit.contract import Again, Concurrency, Dead, Delivery, Done, Outcome, Released
from queuekit.ids import new_id
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness

__all__ = ["Program", "programs", "race"]

Fate: TypeAlias = Literal["done", "again", "released", "dead", "hold"]
QUEUES = ["a", "b"]
LONG, SHORT = 30.0, 0.1
"""Seconds of a lease that is kept, and of one whose holder crashes."""
PATIENCE = 20.0
"""Seconds for working everything off at the end."""
LIMIT = 2


@dataclass(frozen=True)
class Send:
    """Dispatch some jobs at once."""

    queue: str
    key: Literal["k", "l", "limited"] | None
    count: int
    delay: float


@dataclass(frozen=True)
class Work:
    """Claim, and bring each job to a fate; one that is held is extended, and settled at the program's end."""

    limit: int
    fates: tuple[Fate, ...]
    exchange: bool


@dataclass(frozen=True)
class Crash:
    """Claim with a short lease, and never come back; or, as a zombie, once another has taken the job over."""

    limit: int
    zombie: bool


@dataclass(frozen=True)
class Switch:
    """Pause a queue and resume it."""

    queue: str


Step: TypeAlias = Send | Work | Crash | Switch
Program: TypeAlias = list[Step]

_FATES: tuple[Fate, ...] = ("done", "done", "again", "released", "dead", "hold")
_STEPS = st.one_of(
    st.builds(
        Send,
        st.sampled_from(QUEUES),
        st.sampled_from([None, "k", "l", "limited"]),
        st.integers(1, 6),
        st.sampled_from([0.0, 0.0, 0.02]),
    ),
    st.builds(Work, st.integers(1, 6), st.tuples(*[st.sampled_from(_FATES)] * 6), st.booleans()),
    st.builds(Work, st.integers(1, 6), st.tuples(*[st.sampled_from(_FATES)] * 6), st.booleans()),
    st.builds(Crash, st.integers(1, 2), st.booleans()),
    st.builds(Switch, st.sampled_from(QUEUES)),
)


def programs(actors: int) -> st.SearchStrategy[list[Program]]:
    """Draw a program for each actor."""
    return st.lists(st.lists(_STEPS, min_size=3, max_size=12), min_size=actors, max_size=actors)


class Actor:
    """Runs one program on a client of its own, and writes down what it does."""

    def __init__(self, harness: Harness, start: threading.Barrier) -> None:
        self._recorder = harness.recorder
        self._start = start
        self._harness = harness
        self.driver: Any = harness.make_driver(virtual=False)
        self.driver.open()
        self.driver.prepare(QUEUES)
        self._held: list[Delivery] = []
        self._late: list[Delivery] = []

    def run(self, program: Program) -> None:
        """Run all steps, then settle what was held."""
        self._start.wait()
        for step in program:
            match step:
                case Send():
                    self.send(step)
                case Work():
                    self.work(step)
                case Crash():
                    started = self.lent(self.claimed(step.limit, SHORT), SHORT)
                    self._late += started if step.zombie else []
                case Switch():
                    self.driver.pause(step.queue)
                    self.driver.resume(step.queue)
        self.settle([Done(delivery) for delivery in self._held])

    def send(self, step: Send) -> None:
        """Dispatch, with every invocation written before and every answer after."""
        concurrency = Concurrency(step.key, LIMIT) if step.key == "limited" else None
        key = None if concurrency else step.key
        jobs = [
            self._harness.message(id=new_id(), queue=step.queue, key=key, concurrency=concurrency, delay=step.delay)
            for _ in range(step.count)
        ]
        for job in jobs:
            self._recorder.dispatch("invoke", job.id, key=step.key, delay=step.delay)
        self.driver.send(jobs)
        for job in jobs:
            self._recorder.dispatch("ok", job.id)

    def work(self, step: Work) -> None:
        """Claim and settle; the last settlement may travel with the next claim."""
        found = self.lent(self.claimed(step.limit, LONG), LONG)
        outcomes = self.decided(found, step.fates)
        if step.exchange and outcomes:
            asked = time.monotonic()
            self.invoked(outcomes)
            answers, more = self.driver.exchange(outcomes, QUEUES, limit=step.limit, lease=LONG)
            self.answered(outcomes, answers)
            self.settle([Done(delivery) for delivery in self.lent((asked, more), LONG)])
        else:
            self.settle(outcomes)

    def claimed(self, limit: int, lease: float) -> tuple[float, list[Delivery]]:
        """Claim; return when that was asked, and what was lent."""
        return time.monotonic(), self.driver.claim(QUEUES, limit=limit, lease=lease)

    def lent(self, claimed: tuple[float, list[Delivery]], lease: float) -> list[Delivery]:
        """Write down what starts; what came so late that its lease is over does not."""
        asked, found = claimed
        started = []
        for delivery in found:
            left = lease - (time.monotonic() - asked) - 0.02
            if left > 0:
                token: Any = delivery.token
                self._recorder.start(delivery.message.id, token=token, attempt=delivery.attempt, lease=left)
                started.append(delivery)
        return started

    def decided(self, found: list[Delivery], fates: tuple[Fate, ...]) -> list[Outcome]:
        """Return the outcomes of what is not held; renew what is."""
        outcomes: list[Outcome] = []
        for delivery, fate in zip(found, fates, strict=False):
            match fate:
                case "done":
                    outcomes.append(Done(delivery))
                case "again":
                    outcomes.append(Again(delivery, delay=0.01))
                case "released":
                    outcomes.append(Released(delivery))
                case "dead":
                    outcomes.append(Dead(delivery, "error"))
                case "hold":
                    [answer] = self.driver.extend([delivery], lease=LONG)
                    assert answer.held, "a live lease was not renewed"
                    self._held.append(delivery)
        return outcomes

    def settle(self, outcomes: list[Outcome]) -> None:
        """Settle, with every attempt and every answer written down."""
        if outcomes:
            self.invoked(outcomes)
            self.answered(outcomes, self.driver.settle(outcomes))

    def invoked(self, outcomes: list[Outcome]) -> None:
        """Write down what is about to be settled."""
        for outcome in outcomes:
            self._recorder.settle("invoke", **_said(outcome))

    def answered(self, outcomes: list[Outcome], answers: list[str]) -> None:
        """Write down what the driver answered."""
        for outcome, answer in zip(outcomes, answers, strict=True):
            assert answer in {"applied", "lost"}, f"a first settlement was answered {answer}"
            self._recorder.settle("ok" if answer == "applied" else "fail", **_said(outcome))

    def take_over(self) -> list[Delivery]:
        """Wait until the crashed ones' leases are over, and claim what is left."""
        time.sleep(SHORT)
        return self.lent(self.claimed(50, LONG), LONG)

    def come_back(self) -> None:
        """Settle, as a zombie, what may be another's by now."""
        self.settle([Done(delivery) for delivery in self._late])

    def work_off(self) -> None:
        """Run all that is left."""
        end = time.monotonic() + PATIENCE
        while any(c.pending or c.scheduled or c.running for c in self.driver.count(QUEUES)):
            assert time.monotonic() < end, "not worked off in time"
            found = self.lent(self.claimed(50, LONG), LONG)
            self.settle([Done(delivery) for delivery in found])
            time.sleep(0 if found else 0.005)
        self._recorder.oracle(ready=0, in_flight=0)


def _said(outcome: Outcome) -> dict[str, Any]:
    kinds = {Done: "done", Again: "again", Released: "released", Dead: "failed"}
    delivery = outcome.delivery
    return {
        "job": delivery.message.id,
        "token": delivery.token,
        "attempt": delivery.attempt,
        "outcome": kinds[type(outcome)],
    }


def race(harness: Harness, drawn: list[Program]) -> None:
    """Run the programs at the same time, work off what is left, and judge the history."""
    start = threading.Barrier(len(drawn))
    actors = [Actor(harness, start) for _ in drawn]
    try:
        with ThreadPoolExecutor(len(drawn)) as pool:
            for ran in [pool.submit(actor.run, program) for actor, program in zip(actors, drawn, strict=True)]:
                ran.result(PATIENCE)
        taken = actors[0].take_over()
        for actor in actors:
            actor.come_back()
        actors[0].settle([Done(delivery) for delivery in taken])
        actors[0].work_off()
    finally:
        for actor in actors:
            actor.driver.close()
    sent = sum(step.count for program in drawn for step in program if isinstance(step, Send))
    harness.judge_history(Plan(dispatches=sent, key_limits={"limited": LIMIT}))
