"""Options that people give, as values or as an address's text, checked: each error names the option, the kind of the value and the remedy."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from queuekit.errors import ConfigurationError

__all__ = [
    "Duration",
    "checked_name",
    "flag",
    "instant",
    "rate",
    "read_flag",
    "read_number",
    "read_whole",
    "refuse",
    "seconds",
    "whole",
]

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""

SHOWN = 80
"""Characters shown of a refused value."""
LONGEST = 100 * 365.25 * 86400
"""Seconds: a century. What lies beyond overflows calendars and the operating system's timers."""
LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""The last instant that can be shown in every time zone."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}\Z")
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{1,9}(?:\.\d{1,9})?)?\s*(s|m|h|d|sec|min|hour|day)\s*\Z")
_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")
_FLAGS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}


def refuse(option: str, value: object, remedy: str) -> ConfigurationError:
    """Return the error for a bad option value."""
    shown = _repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    return ConfigurationError(f"{option}={shown} ({type(value).__name__}) is refused: {remedy}")


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a value may be too large to print, or its class broken: the refusal is what matters
        return f"<{type(value).__name__}>"


def seconds(option: str, value: Duration, *, zero: bool = True, most: float = LONGEST) -> float:
    """Return a duration in seconds; refuses what is negative, NaN, infinite, above `most` or no duration."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(option, value, "give seconds as a number, or a timedelta")
    if not 0 <= value <= most or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        bound = "100 years" if most == LONGEST else f"{most:,g}"
        raise refuse(option, value, f"give a finite number of seconds, {least} and at most {bound}")
    return float(value)


def instant(option: str, value: datetime) -> float:
    """Return an aware instant as seconds since the epoch."""
    if not isinstance(value, datetime):
        raise refuse(option, value, "give an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)")
    if value.tzinfo is None or value.utcoffset() is None:
        raise refuse(option, value, "the datetime has no time zone; use an aware one, such as datetime.now(UTC)")
    stamp = value.timestamp()
    if stamp >= LATEST:
        raise refuse(option, value, "give an instant before the year 9999")
    return stamp


def whole(option: str, value: int, *, least: int, most: int | None = None) -> int:
    """Return a whole number within bounds."""
    bounds = f"give a whole number from {least}" + (" up" if most is None else f" to {most}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(option, value, bounds)
    if value < least or (most is not None and value > most):
        raise refuse(option, value, bounds)
    return value


def flag(option: str, value: bool) -> bool:
    """Return a switch; refuses a text such as "false", which would count as true."""
    if not isinstance(value, bool):
        raise refuse(option, value, "give True or False")
    return value


def read_flag(option: str, text: str) -> bool:
    """Return the switch that an address's text states."""
    if text not in _FLAGS:
        raise refuse(option, text, "give true or false")
    return _FLAGS[text]


def read_whole(option: str, text: str) -> int:
    """Return the whole number that an address's text states; its bounds are `whole`'s business."""
    if not _WHOLE.match(text):
        raise refuse(option, text, "give a whole number")
    return int(text)


def read_number(option: str, text: str) -> float:
    """Return the number that an address's text states; its bounds are `seconds`' business."""
    try:
        return float(text)
    except ValueError:
        raise refuse(option, text, "give a number") from None


def checked_name(option: str, value: str) -> str:
    """Return a name that every backend can carry."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise refuse(option, value, "names are 1 to 60 of the characters A-Z a-z 0-9 . _ - (case counts)")
    return value


def rate(option: str, value: str) -> tuple[int, float]:
    """Return `(limit, period in seconds)` of a rate such as "10/s" or "100/15m"."""
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None:
        raise refuse(option, value, 'give a count per time, such as "10/s", "100/m" or "5/10s"')
    limit, period = int(match[1]), float(match[2] or 1) * _UNITS[match[3]]
    if limit < 1 or period <= 0:
        raise refuse(option, value, "the count must be at least 1, and the time more than 0")
    return limit, period
