"""What a column says beforehand of a scenario that it does not simply hold: data, run and asserted like everything else.

A harness declares them by scenario id:

    expectations = {
        "LSE-07": Weaker("a receipt handle that is over may still delete", anomalies=("stale_settle_accepted",)),
        "FLT-19": Gap("the client resolves the name only once", since="2026-11-21"),
    }

Whatever is not declared must hold, or be refused because the driver lacks what the scenario needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from queuekit_integration.harness import Harness

__all__ = ["GRAVE", "Expectation", "Gap", "Stronger", "Weaker"]

GRAVE = frozenset({"lost", "stale_settle_accepted", "double_terminal"})
"""Anomalies that no column may allow by itself: a decision record names each column and scenario that does."""


@dataclass(frozen=True)
class Weaker:
    """A weaker promise, in an exact sentence; the run must show that it is weaker, and no weaker than that."""

    sentence: str
    anomalies: tuple[str, ...] = ()
    """What the history of the scenario may hold; each must be seen."""
    shown_by: Callable[[Harness], None] | None = None
    """Asserts the sentence, where no history does; then the scenario itself must fail."""

    def __post_init__(self) -> None:
        if not self.sentence or bool(self.anomalies) == (self.shown_by is not None):
            message = "a weaker promise has a sentence, and either anomalies to be seen or a function that shows it"
            raise ValueError(message)

    def __str__(self) -> str:
        return f"weaker: {self.sentence}"


@dataclass(frozen=True)
class Stronger:
    """More than a scenario supposes: what it does to the backend does not have the effect that it waits for, so it must fail."""

    sentence: str
    shown_by: Callable[[Harness], None]
    """Asserts the sentence."""

    def __str__(self) -> str:
        return f"stronger: {self.sentence}"


@dataclass(frozen=True)
class Gap:
    """A promise that should hold and does not yet: the scenario is run, and must fail until somebody closes the gap."""

    reason: str
    since: str
    """The day from which on it is known, as 2026-11-21."""

    def __post_init__(self) -> None:
        date.fromisoformat(self.since)

    def __str__(self) -> str:
        return f"gap: {self.reason} (since {self.since})"


Expectation: TypeAlias = Weaker | Stronger | Gap
