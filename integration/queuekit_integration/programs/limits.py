"""Random programs of jobs with limits and rates: never more than allowed at once or in a window, and nothing left waiting."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from queuekit.contract import Again, Concurrency, Dead, Delivery, Done, Outcome, Rate, Released
from queuekit_integration.harness import Harness, cell

__all__ = ["LimitMachine", "limits_of"]

LIMITS = {"one": 1, "two": 2}
PER_WINDOW, WINDOW = 3, 10.0
LEASE = 15.0


@dataclass
class Held:
    """A hand-out that nobody settled."""

    delivery: Delivery
    end: float


class LimitMachine(RuleBasedStateMachine):
    """One program on one driver."""

    kind: ClassVar[type[Harness]]

    def __init__(self) -> None:
        super().__init__()
        with ExitStack() as stack:  # what fails here is closed here: nobody calls `teardown` then
            self.harness = stack.enter_context(cell(self.kind))
            self.driver: Any = self.harness.driver()
            self.stack = stack.pop_all()
        self.held: list[Held] = []
        self.sent: set[str] = set()
        self.granted: list[float] = []

    def teardown(self) -> None:
        """Work everything off: what a limit or a rate held must come in the end."""
        try:
            self.work_off()
        finally:
            self.stack.close()

    def work_off(self) -> None:
        for _ in range(3 * len(self.sent) + 10):
            self.harness.advance(WINDOW / 2)
            self.claim(limit=50)
            self.driver.settle([Done(held.delivery) for held in self.held])
            self.held.clear()
        [counts] = self.driver.count(["default"])
        left = (counts.pending, counts.scheduled, counts.running)
        assert left == (0, 0, 0), f"{self.harness.name} never lent (pending, scheduled, running) = {left}"

    @property
    def now(self) -> float:
        """The time."""
        return self.harness.clock.monotonic()

    def claim(self, limit: int) -> None:
        found = self.driver.claim(["default"], limit=limit, lease=LEASE)
        again = {delivery.message.id for delivery in found}
        self.held = [held for held in self.held if held.delivery.message.id not in again]
        self.held += [Held(delivery, self.now + LEASE) for delivery in found]
        self.granted += [self.now for delivery in found if delivery.message.rate is not None]
        self.judge()

    def judge(self) -> None:
        for key, most in LIMITS.items():
            running = [held for held in self.held if self.limit_of(held) == key and held.end > self.now]
            assert len(running) <= most, f"{self.harness.name}: {len(running)} of {key} at once"
        window = [at for at in self.granted if at > self.now - WINDOW]
        assert len(window) <= PER_WINDOW, f"{self.harness.name}: {len(window)} grants in one window"

    @staticmethod
    def limit_of(held: Held) -> str | None:
        limit = held.delivery.message.concurrency
        return None if limit is None else limit.key

    @rule(
        key=st.sampled_from([None, "one", "two", "two"]),
        rated=st.booleans(),
        priority=st.sampled_from([4, 4, 9]),
        delay=st.sampled_from([0, 0, 3]),
        count=st.integers(1, 4),
    )
    def dispatch(self, key: str | None, rated: bool, priority: int, delay: int, count: int) -> None:
        limit = None if key is None else Concurrency(key, LIMITS[key])
        rate = Rate("r", PER_WINDOW, WINDOW) if rated else None
        jobs = [
            self.harness.message(concurrency=limit, rate=rate, priority=priority, delay=delay) for _ in range(count)
        ]
        self.sent |= {job.id for job in jobs}
        self.driver.send(jobs)

    @rule(limit=st.integers(1, 6))
    def claim_some(self, limit: int) -> None:
        self.claim(limit)

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99), fate=st.sampled_from(["done", "done", "again", "released", "dead"]))
    def settle(self, pick: int, fate: str) -> None:
        held = self.held.pop(pick % len(self.held))
        outcomes: dict[str, Outcome] = {
            "done": Done(held.delivery),
            "again": Again(held.delivery, delay=2.0),
            "released": Released(held.delivery),
            "dead": Dead(held.delivery, "error"),
        }
        assert self.driver.settle([outcomes[fate]]) == ["applied"]

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, LEASE]))
    def tick(self, seconds: float) -> None:
        self.harness.advance(seconds)

    @precondition(lambda self: self.sent)
    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        ids = sorted(self.sent)
        self.driver.cancel([ids[pick % len(ids)]])


def limits_of(kind: type[Harness]) -> type[LimitMachine]:
    """Return the machine for a column."""
    return type("Limits", (LimitMachine,), {"kind": kind})
