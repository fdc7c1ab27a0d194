"""Which jobs are meant: the filters of `jobs`, `cancel`, `retry` and `delete`, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, get_args

from queuekit.contract import Query, State
from queuekit.durations import refuse, whole
from queuekit.errors import ConfigurationError

__all__ = ["given", "query_of"]

FILTERS = ("state", "queue", "type", "tag", "search")
STATES: tuple[State, ...] = get_args(State)
LARGEST_PAGE = 1_000_000


def query_of(
    *,
    state: State | Sequence[State] | None,
    queue: str | None,
    type: str | None,
    tag: str | None,
    search: str | None,
    limit: int,
    after: str | None,
) -> Query:
    """Return what a driver is asked; raises `ConfigurationError` naming the filter that no job can match."""
    return Query(
        states=_states(state),
        queue=_text("queue", queue),
        type=_text("type", type),
        tag=_text("tag", tag),
        search=_text("search", search),
        limit=whole("limit", limit, least=1, most=LARGEST_PAGE),
        after=_text("after", after),
    )


def given(filters: Mapping[str, Any], *, id: object) -> dict[str, Any]:
    """Return the filters that say anything; without one, or an id in their place, a call could mean every job there is.

    Raises `ConfigurationError` for that, for both at once, and for a filter that does not exist.
    """
    for name in filters:
        if name not in FILTERS:
            message = f"there is no filter {name!r}; filters are: {', '.join(FILTERS)}"
            raise ConfigurationError(message)
    chosen = {name: value for name, value in filters.items() if value is not None}
    if (id is None) == (not chosen):
        what = "neither is given" if id is None else f"both are given: id and {', '.join(chosen)}"
        message = f"give a job's id, or at least one filter of {', '.join(FILTERS)} that is not None; {what}"
        raise ConfigurationError(message)
    return chosen


def _states(value: State | Sequence[State] | None) -> tuple[State, ...]:
    remedy = f"give {', '.join(STATES)}, or a list of several"
    if value is None:
        return ()
    if not isinstance(value, str | Sequence | AbstractSet) or not value:
        raise refuse("state", value, remedy)
    states: tuple[Any, ...] = (value,) if isinstance(value, str) else tuple(value)
    for state in states:
        if state not in STATES:
            raise refuse("state", state, remedy)
    return states


def _text(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise refuse(name, value, "give one text, or leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse(name, value, "the text has a lone surrogate, which no backend can carry") from None
    return value
