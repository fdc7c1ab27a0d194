"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from queuekit.durations import Duration, refuse, seconds
from queuekit.errors import ConfigurationError

__all__ = ["DEFAULT_BACKOFF", "Backoff", "BackoffFunction"]

BackoffFunction = Callable[[int, BaseException], float]
"""Takes the number of the attempt that failed (from 1) and its error; returns seconds."""


class Backoff(Struct, frozen=True, omit_defaults=True):
    """A wait that grows by rule. Build one with `constant`, `linear` or `exponential`.

    Jitter only adds (`wait × U(1, 1 + jitter)`), so "not before" always holds; `max` bounds the wait before jitter.
    """

    kind: Literal["constant", "linear", "exponential"] = "exponential"
    base: float = 2.0
    factor: float = 2.0
    max: float = 3600.0
    jitter: float = 0.0

    @classmethod
    def constant(cls, base: Duration, *, jitter: float = 0.0) -> Backoff:
        """Wait `base` after every failure."""
        wait = seconds("base", base)
        return cls("constant", wait, 1.0, wait, _jitter(jitter))

    @classmethod
    def linear(cls, base: Duration, *, max: Duration = 3600.0, jitter: float = 0.0) -> Backoff:
        """Wait `base × n` after the n-th failure, at most `max`."""
        return cls("linear", seconds("base", base), 1.0, seconds("max", max), _jitter(jitter))

    @classmethod
    def exponential(
        cls, base: Duration = 2.0, *, factor: float = 2.0, max: Duration = 3600.0, jitter: float = 0.0
    ) -> Backoff:
        """Wait `base × factor ** (n - 1)` after the n-th failure, at most `max`."""
        if seconds("factor", factor) < 1:
            raise refuse("factor", factor, "an exponential backoff grows: give 1 or more")
        return cls("exponential", seconds("base", base), float(factor), seconds("max", max), _jitter(jitter))

    def wait(self, attempt: int, rng: random.Random | None = None) -> float:
        """Return the seconds to wait after the attempt of this number (from 1) has failed."""
        bare = min(self.max, self._bare(attempt))
        if not self.jitter:
            return bare
        return bare * (rng or _rng).uniform(1.0, 1.0 + self.jitter)

    def _bare(self, attempt: int) -> float:
        match self.kind:
            case "constant":
                return self.base
            case "linear":
                return self.base * attempt
            case "exponential":
                try:
                    return self.base * self.factor ** (attempt - 1)
                except OverflowError:
                    return self.max if self.base else 0.0


_rng = random.Random()  # noqa: S311 - spreads retries, guards nothing


def _jitter(value: float) -> float:
    jitter = seconds("jitter", value)
    if jitter > 10:
        raise refuse("jitter", value, "it is a share of the wait; give 0 to 10, usually 0.1 to 0.5")
    return jitter


def checked_backoff(value: Backoff | BackoffFunction | None) -> Backoff | BackoffFunction | None:
    """Return a backoff, or refuse what is none."""
    if isinstance(value, Backoff):
        for name in ("base", "factor", "max"):
            seconds(f"backoff.{name}", getattr(value, name))
        _jitter(value.jitter)
        if value.kind not in {"constant", "linear", "exponential"}:
            raise refuse("backoff.kind", value.kind, "use Backoff.constant, linear or exponential")
        return value
    if value is None or callable(value):
        return value
    message = f"backoff={value!r} ({type(value).__name__}) is refused: use Backoff.exponential(base=1) and the like"
    raise ConfigurationError(message)


DEFAULT_BACKOFF = Backoff(jitter=0.1)
"""From 2 s, doubling, at most 1 h; a tenth of jitter, so that jobs which failed together do not come back together."""
