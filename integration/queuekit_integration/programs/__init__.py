"""Random programs for drivers: the model and its machine, limits, races; and how many of them are run."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

__all__ = ["HUNT", "NIGHTLY", "nightly", "ordinary"]

NIGHTLY = "nightly"
"""The profile under which there are many more programs, and other ones each time: `pytest --hypothesis-profile=nightly`."""
MORE = 40
"""How many times as many."""

# Registered here, not where a test run is configured: every driver's author has it. Where CI is set, Hypothesis loads a
# profile of its own that repeats the same programs; this one overrides it.
settings.register_profile(NIGHTLY, max_examples=2000, deadline=None, derandomize=False, print_blob=True)


def nightly() -> bool:
    """Whether the nightly profile is loaded."""
    return settings.get_current_profile_name() == NIGHTLY


def ordinary(examples: int, steps: int = 30) -> settings:
    """Return settings for so many programs: always the same ones, unless the nightly profile is loaded."""
    many = nightly()
    return settings(
        max_examples=examples * MORE if many else examples,
        stateful_step_count=steps * 2 if many else steps,
        derandomize=not many,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


HUNT = settings(ordinary(300, 40), phases=[Phase.generate])
"""For mutants: stop at the first difference, whatever it looks like."""
