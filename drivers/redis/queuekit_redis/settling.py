"""Settling: outcomes cut into scripts, each with its follow-ups; a full server can still be drained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from queuekit.contract import Outcome, Settlement
from queuekit_redis import codec
from queuekit_redis.calls import CHUNK, HEAVY, Calls
from queuekit_redis.codec import pack

__all__ = ["Settler"]

ANSWERS: dict[str, Settlement] = {"a": "applied", "s": "already_settled", "l": "lost"}


class Settler:
    """Applies outcomes, alone or with the next claim in one script."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; each and its follow-ups are in one script."""
        answers: list[Settlement] = []
        for part in _portions(outcomes):
            packed = Packed(part)
            marks, elsewhere = self._calls.run("settle", *packed.arguments, queues=packed.queues, doing="settling")
            answers += packed.answers(marks)
            self._calls.ring(elsewhere)
        return answers

    def exchange(
        self, outcomes: Sequence[Outcome], queues: Sequence[str], wanted: bytes
    ) -> tuple[list[Settlement], Any]:
        """Apply outcomes, and claim in the last script of theirs; return what that lent as it was answered."""
        *before, last = [*_portions(outcomes)] or [()]
        answers = [answer for part in before for answer in self.settle(part)]
        packed = Packed(last)
        marks, elsewhere, lent = self._calls.run(
            "exchange", *packed.arguments, wanted, queues=packed.queues.union(queues), doing="settling and claiming"
        )
        answers += packed.answers(marks)
        self._calls.ring(elsewhere)
        return answers, lent


class Packed:
    """Outcomes as the scripts take them: plain successes by queue and state, all others one by one."""

    __slots__ = ("arguments", "count", "places", "queues")

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        groups: dict[tuple[str, str, bool], tuple[list[str], list[int]]] = {}
        others: list[int] = []
        seen: set[str] = set()
        self.queues: set[str] = set()
        for number, outcome in enumerate(outcomes):
            delivery = outcome.delivery
            message = delivery.message
            self.queues.add(message.queue)
            if message.id not in seen and codec.is_plain_success(outcome):
                ids, numbers = groups.setdefault((message.queue, delivery.receipt, message.retain == 0), ([], []))
                ids.append(message.id)
                numbers.append(number)
            else:
                others.append(number)
                self.queues.update(follow_up.queue for follow_up in outcome.follow_ups)
            seen.add(message.id)
        self.count = len(outcomes)
        self.places = [*(numbers for _, numbers in groups.values()), others]
        plain = [[*group, ids] for group, (ids, _) in groups.items()]
        self.arguments = (pack(plain), pack([codec.packed_outcome(outcomes[number]) for number in others]))

    def answers(self, marks: Sequence[bytes]) -> list[Settlement]:
        """Return the scripts' answers in the outcomes' order."""
        if len(marks) == 2 and not self.places[-1] and marks[0] == b"a" * self.count:
            return ["applied"] * self.count
        answers: list[Settlement] = ["lost"] * self.count
        for numbers, group in zip(self.places, marks, strict=True):
            for number, mark in zip(numbers, group.decode(), strict=True):
                answers[number] = ANSWERS[mark]
        return answers


def _portions(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Cut a batch of outcomes in the same way."""
    start = cost = 0
    for number, outcome in enumerate(outcomes):
        weight = HEAVY * (1 + len(outcome.follow_ups)) if outcome.follow_ups or not codec.is_bare(outcome) else 1
        if cost + weight > CHUNK and number > start:
            yield outcomes[start:number]
            start, cost = number, 0
        cost += weight
    if start < len(outcomes):
        yield outcomes[start:]
