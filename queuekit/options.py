"""A job's options: one description for the decorator, `using`, `Job` and `register`, checked once where they are set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from msgspec import Struct, structs

from queuekit.backoff import Backoff, BackoffFunction, checked_backoff
from queuekit.contract import Concurrency
from queuekit.durations import Duration, checked_name, instant, rate, refuse, seconds, whole
from queuekit.errors import ConfigurationError
from queuekit.ids import checked_id

__all__ = ["NO_OPTIONS", "HandlerOptions", "JobOptions", "Options"]

Delivery_ = Literal["at_least_once", "at_most_once"]
Settle = Literal["batch", "sync", "transaction"]
BLOCKS = (
    'settle="transaction" takes a connection that blocks, and neither an event loop nor another process can use it: '
    "register a plain function that runs in a thread"
)
MAX_UNIQUE_KEY = 65_536
"""Characters of a unique key: it is hashed before it is stored, so only good sense bounds it."""
MAX_KEY = 512
"""Characters of a key: a backend's index or message group has to hold it."""


class HandlerOptions(TypedDict, total=False):
    """Options that may be set where a handler is registered; `semantics.md` of the docs has their exact meanings."""

    queue: str | None
    retries: int | None
    backoff: Backoff | BackoffFunction | None
    timeout: Duration | None
    deadline: Duration | datetime | None
    priority: int | None
    key: str | None
    concurrency: tuple[str, int] | None
    rate_limit: str | None
    unique_for: Duration | None
    unique_key: str | None
    until: Literal["end", "start"] | None
    on_conflict: Literal["return", "raise", "replace"] | None
    delivery: Delivery_ | None
    settle: Settle | None
    retain: Duration | None
    tags: Sequence[str] | None
    headers: Mapping[str, str] | None
    executor: Literal["thread", "process"] | None


class JobOptions(TypedDict, total=False):
    """Options of one job."""

    queue: str | None
    delay: Duration | None
    at: datetime | None
    retries: int | None
    backoff: Backoff | None
    timeout: Duration | None
    deadline: Duration | datetime | None
    priority: int | None
    key: str | None
    concurrency: tuple[str, int] | None
    rate_limit: str | None
    unique_for: Duration | None
    unique_key: str | None
    until: Literal["end", "start"] | None
    on_conflict: Literal["return", "raise", "replace"] | None
    id: str | UUID | None
    delivery: Delivery_ | None
    settle: Settle | None
    retain: Duration | None
    tags: Sequence[str] | None
    headers: Mapping[str, str] | None


class Options(Struct, frozen=True, kw_only=True):
    """Checked options; None means: not set here."""

    queue: str | None = None
    delay: float | None = None
    at: float | None = None
    retries: int | None = None
    backoff: Backoff | Any = None
    timeout: float | None = None
    deadline: float | None = None
    """Seconds from dispatch."""
    deadline_at: float | None = None
    priority: int | None = None
    key: str | None = None
    concurrency: Concurrency | None = None
    rate_limit: tuple[int, float] | None = None
    unique_for: float | None = None
    unique_key: str | None = None
    until: Literal["end", "start"] | None = None
    on_conflict: Literal["return", "raise", "replace"] | None = None
    id: str | None = None
    delivery: Delivery_ | None = None
    settle: Settle | None = None
    retain: float | None = None
    tags: tuple[str, ...] | None = None
    headers: dict[str, str] | None = None
    executor: Literal["thread", "process"] | None = None

    @classmethod
    def build(
        cls, options: Mapping[str, Any], *, where: str, allowed: frozenset[str], base: Options | None = None
    ) -> Options:
        """Check options as a caller gave them; raises `ConfigurationError` that names the option at fault.

        `base` is what they will stand over: `on_conflict` alone makes sense where the base is unique.
        """
        checked: dict[str, Any] = {}
        for name, value in options.items():
            if name not in allowed:
                raise _unknown(name, where, allowed)
            if value is not None:
                checked.update(_CHECKS[name](name, value))
        built = cls(**checked)
        (built if base is None else built.over(base)).refuse_contradictions()
        return built

    def over(self, base: Options) -> Options:
        """Return these options with what they leave unset taken from `base`."""
        if base is NO_OPTIONS:
            return self
        if self is NO_OPTIONS:
            return base
        own = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        others = {other: None for name, other in _EXCLUSIVE.items() if name in own}
        merged = structs.replace(base, **{**others, **own})
        merged.refuse_contradictions()
        return merged

    @property
    def unique(self) -> bool:
        """Whether the job must be the only unfinished one of its scope."""
        return self.unique_for is not None or self.unique_key is not None

    def refuse_contradictions(self) -> None:
        """Raise `ConfigurationError` for options that cannot hold together."""
        for first, second, remedy in (
            ("delay", "at", "give one of them"),
            ("deadline", "deadline_at", "give one of them"),
        ):
            if getattr(self, first) is not None and getattr(self, second) is not None:
                message = f"{first} and {second} contradict each other: {remedy}"
                raise ConfigurationError(message)
        if self.delivery == "at_most_once" and self.retries:
            message = (
                f'delivery="at_most_once" never runs a job again, so retries={self.retries} is refused: use retries=0'
            )
            raise ConfigurationError(message)
        if self.settle == "transaction" and self.executor == "process":
            raise ConfigurationError(BLOCKS)
        if not self.unique and (self.until is not None or self.on_conflict is not None):
            name = "until" if self.until is not None else "on_conflict"
            message = f"{name} says nothing without unique_for or unique_key: set one of those as well"
            raise ConfigurationError(message)
        if self.deadline is not None and self.delay is not None and self.deadline < self.delay:
            message = f"deadline={self.deadline} ends before delay={self.delay} has passed: the job could never start"
            raise ConfigurationError(message)


NO_OPTIONS = Options()
_EXCLUSIVE = {"delay": "at", "at": "delay", "deadline": "deadline_at", "deadline_at": "deadline"}
"""Two ways to say one thing: the one that is set takes the place of either."""


def _unknown(name: str, where: str, allowed: frozenset[str]) -> ConfigurationError:
    near = difflib.get_close_matches(name, sorted(allowed), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (it knows: {', '.join(sorted(allowed))})"
    return ConfigurationError(f"{where} has no option {name!r}{hint}")


def _one_of(*values: str) -> Any:
    def check(name: str, value: object) -> dict[str, Any]:
        if value not in values:
            raise refuse(name, value, f"give one of {', '.join(map(repr, values))}")
        return {name: value}

    return check


def _long_text(name: str, value: object) -> dict[str, Any]:
    return _text(name, value, most=MAX_UNIQUE_KEY)


def _text(name: str, value: object, *, most: int = MAX_KEY) -> dict[str, Any]:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise refuse(name, value, f"give a text of 1 to {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse(name, value, "the text has a lone surrogate, which no backend can carry") from None
    return {name: value}


def _queue(name: str, value: str) -> dict[str, Any]:
    return {name: checked_name(name, value)} if value != "" else {}


def _deadline(name: str, value: Duration | datetime) -> dict[str, Any]:
    if isinstance(value, datetime):
        return {"deadline_at": instant(name, value)}
    return {name: seconds(name, value)}


def _concurrency(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Concurrency):
        return {name: value}
    if not isinstance(value, tuple) or len(value) != 2:
        raise refuse(name, value, 'give a pair of a key and a limit, such as ("customer-42", 2)')
    key, limit = value
    return {name: Concurrency(_text("concurrency key", key)["concurrency key"], whole("concurrency", limit, least=1))}


def _tags(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str) or not isinstance(value, Sequence | frozenset | set):
        raise refuse(name, value, 'give a list of texts, such as ["nightly"]')
    return {name: tuple(dict.fromkeys(checked_name("tags", tag) for tag in value))}


def _headers(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise refuse(name, value, "give a mapping from text to text")
    try:
        "".join((*value.keys(), *value.values())).encode()
    except UnicodeEncodeError:
        raise refuse(name, value, "a text has a lone surrogate, which no backend can carry") from None
    return {name: dict(value)}


def _backoff(name: str, value: Any) -> dict[str, Any]:
    return {name: checked_backoff(value)}


_CHECKS: dict[str, Any] = {
    "queue": _queue,
    "delay": lambda name, value: {name: seconds(name, value)},
    "at": lambda name, value: {name: instant(name, value)},
    "retries": lambda name, value: {name: whole(name, value, least=0, most=1_000_000)},
    "backoff": _backoff,
    "timeout": lambda name, value: {name: seconds(name, value, zero=False)},
    "deadline": _deadline,
    "priority": lambda name, value: {name: whole(name, value, least=0, most=9)},
    "key": _text,
    "concurrency": _concurrency,
    "rate_limit": lambda name, value: {name: rate(name, value)},
    "unique_for": lambda name, value: {name: seconds(name, value, zero=False)},
    "unique_key": _long_text,
    "until": _one_of("end", "start"),
    "on_conflict": _one_of("return", "raise", "replace"),
    "id": lambda name, value: {name: checked_id(value)},
    "delivery": _one_of("at_least_once", "at_most_once"),
    "settle": _one_of("batch", "sync", "transaction"),
    "retain": lambda name, value: {name: seconds(name, value)},
    "tags": _tags,
    "headers": _headers,
    "executor": _one_of("thread", "process"),
}

JOB_OPTIONS = frozenset(JobOptions.__annotations__)
HANDLER_OPTIONS = frozenset(HandlerOptions.__annotations__)
