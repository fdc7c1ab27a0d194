"""Random histories of transactions and surveys: nothing that a survey could see is ever below a floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit.contract import Delivery, Message
from queuekit_postgres import floors
from queuekit_postgres.floors import LONG, Floors

LINE = ("q", 5)
LENT = Delivery(Message("", "q", "", ""), 1, 1)
STEPS = ["number", "store", "commit", "roll back", "lend", "survey", "survey", "wait"]


@pytest.fixture(autouse=True, scope="module")
def surveys_at_any_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BUSY_EVERY", "EXEMPT_EVERY", "IDLE_EVERY"):
            patch.setattr(floors, name, 0.0)
        yield


class World:
    """A server with one line: transactions get a number, store jobs at new places, and end in any order."""

    def __init__(self) -> None:
        self.number = self.place = 0
        self.newest_ended = 0
        self.now = 0.0
        self.stored: dict[int, list[int]] = {}
        """What open transactions have stored, by their number."""
        self.waiting: set[int] = set()
        self.floors = Floors()

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def next_place(self) -> int:
        self.place += 1
        return self.place

    def end(self, number: int, *, commit: bool) -> None:
        places = self.stored.pop(number)
        self.newest_ended = max(self.newest_ended, number)
        if commit:
            self.waiting.update(places)

    def step(self, what: str, which: int) -> None:
        open = sorted(self.stored)
        self.now += 0.001
        match what:
            case "number":
                self.stored[self.next_number()] = []
            case "wait":
                self.now += LONG
            case "survey":
                self.survey()
            case "lend" if self.waiting:
                self.waiting.remove(sorted(self.waiting)[which % len(self.waiting)])
            case "store" if open:
                self.stored[open[which % len(open)]].append(self.next_place())
            case "commit" | "roll back" if open:
                self.end(open[which % len(open)], commit=what == "commit")

    def survey(self) -> None:
        asked = self.floors.survey(["q"], self.now)
        assert asked is not None
        floor = asked.known.lines.get(LINE, -1)
        head = min((place for place in self.waiting if place > floor), default=None)
        self.floors.lent([LENT])
        self.floors.learn(asked, self.answer(asked.lines, head), self.now)
        floor = self.floors.known.lines.get(LINE, -1)
        assert all(place > floor for place in self.waiting), (floor, self.waiting)

    def answer(self, lines: list[tuple[str, int]], head: int | None) -> list[Any]:
        """Return what the server says: a snapshot names nobody who is open with a number above all that have ended."""
        open = [number for number in self.stored if number <= self.newest_ended]
        snapshot = f"1:{self.newest_ended + 1}:{','.join(map(str, open))}"
        number = self.next_number()
        self.newest_ended = max(self.newest_ended, number)
        heads = [head if line == LINE else None for line in lines]
        return [snapshot, str(number), self.next_place(), self.now, None, None, heads]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=80))
def test_nothing_that_a_survey_could_see_is_below_a_floor(history):
    world = World()
    for what, which in history:
        world.step(what, which)
    for number in sorted(world.stored):
        world.end(number, commit=True)
        world.survey()


def test_a_floor_rises_to_the_head_and_past_what_is_gone():
    world = World()
    for _ in range(3):
        world.step("number", 0)
        world.step("store", 0)
        world.step("commit", 0)
    for _ in range(3):
        world.survey()
    assert world.floors.known.lines[LINE] == 0
    world.step("lend", 0)
    world.step("lend", 0)
    for _ in range(3):
        world.survey()
    assert world.floors.known.lines[LINE] == min(world.waiting) - 1


def test_a_transaction_that_stays_open_is_passed_over_until_it_ends():
    world = World()
    world.step("number", 0)
    world.step("store", 0)
    for _ in range(3):
        world.step("number", 0)
        world.step("store", 1)
        world.step("commit", 1)
        world.step("lend", 0)
        world.survey()
        world.step("wait", 0)
    world.waiting.add(world.next_place())
    world.survey()
    world.survey()
    assert world.floors.known.lines[LINE] > 1
    world.end(1, commit=True)
    world.survey()
    assert world.floors.known.lines.get(LINE, -1) < 1


def test_another_server_or_a_clock_set_back_is_begun_anew_with():
    world = World()
    world.waiting.add(world.next_place())
    for _ in range(4):
        world.survey()
    asked = world.floors.survey(["q"], world.now + 2)
    assert asked is not None
    assert world.floors.learn(asked, ["1:1:", "1", 1, world.now + 2, None, None, [None] * 10], world.now + 2)
    assert not world.floors.known.lines


def test_a_short_transaction_is_waited_for():
    world = World()
    for step, which in [("number", 0), ("store", 0), ("number", 0), ("store", 1), ("commit", 1)]:
        world.step(step, which)
    for _ in range(4):
        world.survey()
    assert world.floors.known.lines.get(LINE, -1) < 1
    world.end(1, commit=True)
    world.survey()
