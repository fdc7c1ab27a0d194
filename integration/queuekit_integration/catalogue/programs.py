"""Random programs, on every driver: the model's answers, limits, races."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test

from queuekit_integration.harness import Harness, cell
from queuekit_integration.programs import nightly, ordinary
from queuekit_integration.programs.limits import limits_of
from queuekit_integration.programs.machine import machine_of
from queuekit_integration.programs.races import Program, programs, race
from queuekit_integration.registry import scenario

EVERYTHING = (
    "browse", "control", "count", "delay", "exchange", "fenced", "key", "lease", "pause", "priority", "purge", "records",
    "unique", "unique_ids",
)  # fmt: skip


def within_a_cell(h: Harness, wanted: settings) -> settings:
    """Return settings with which a failure is told as it was found where a server answers: making it smaller takes hundreds of programs more.

    Hypothesis would go on with that for minutes, past the time limit of the cell, whose end it takes for one more failure.
    """
    return wanted if nightly() or h.server is None else settings(wanted, phases=[Phase.generate])


@scenario("MODEL", suite="contract", needs=EVERYTHING)
def scenario_model_answers_random_programs_alike(h: Harness) -> None:
    """Run random programs of the whole contract here and on the plain model: every answer, record and count agrees."""
    machine = machine_of(type(h))
    assert machine.kinds == (type(h),)
    run_state_machine_as_test(machine, settings=within_a_cell(h, ordinary(10)))


@scenario("LIMITS", suite="contract", needs=("concurrency", "rate_limit", "control", "count", "delay", "lease"))
def scenario_limits_hold_in_random_programs(h: Harness) -> None:
    """Run random programs of jobs with limits and rates: none is exceeded, and all that was held comes in the end."""
    machine = limits_of(type(h))
    assert machine.kind is type(h)
    run_state_machine_as_test(machine, settings=within_a_cell(h, ordinary(6, 25)))


@scenario(
    "RACES", suite="contract", needs=("concurrency", "count", "delay", "exchange", "fenced", "key", "lease", "pause")
)
def scenario_races_of_random_programs_leave_a_valid_history(h: Harness) -> None:
    """Run three random programs at the same time, again and again: the history of each race is valid."""
    kind, raced = type(h), 0

    @settings(
        ordinary(6), phases=[Phase.generate]
    )  # what comes of threads does not repeat, so there is nothing to shrink
    @given(programs(3))
    def run(drawn: list[Program]) -> None:
        nonlocal raced
        with cell(kind) as harness:
            race(harness, drawn)
        raced += 1

    run()
    assert raced >= 6
