"""Looking without claiming: counts, records, pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from queuekit.contract import Page, Query, QueueCounts, Record, place_of
from queuekit_postgres.records import record_of
from queuekit_postgres.work import Work, listed


def read_whole_tables(work: Work) -> None:
    """Let the planner read tables from end to end in this transaction: that is what reports are."""
    work.connection.execute(
        "SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_hashjoin = on; "
        "SET LOCAL plan_cache_mode = auto"
    )


def count(work: Work, queues: Sequence[str] | None) -> list[QueueCounts]:
    """Count jobs by queue and state."""
    read_whole_tables(work)
    paused = {row[0] for row in work.rows("paused")}
    rows = work.rows("count", queues=None if queues is None else list(queues))
    tally: dict[str, dict[str, Any]] = {name: {} for name in queues or ()}
    for queue, state, number, oldest in rows:
        counts = tally.setdefault(queue, {})
        counts[state] = counts.get(state, 0) + number
        if oldest is not None:
            counts["oldest_ready_age"] = max(0.0, oldest)
    return [QueueCounts(queue=name, paused=name in paused, **counts) for name, counts in sorted(tally.items())]


def get(work: Work, ids: Sequence[str]) -> dict[str, Record]:
    """Return the records by id."""
    records = map(record_of, work.rows("records_by_id", ids=listed(ids)))
    return {record.id: record for record in records}


def browse(work: Work, query: Query) -> Page:
    """Return one page in order of acceptance."""
    read_whole_tables(work)
    conditions, values = _conditions(query)
    text = f"{work.sql['records']} WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT %(most)s"
    values = {**work.base, **values, "most": query.limit + 1}
    rows = work.connection.execute(text, values, binary=True).fetchall()
    page = rows[: query.limit]
    following = str(page[-1][0]) if len(rows) > query.limit and page else None
    return Page(records=[record_of(row) for row in page], next=following)


def _conditions(query: Query) -> tuple[list[str], dict[str, Any]]:
    """Return the WHERE clause of a query."""
    conditions = ["seq > %(after)s"]
    values: dict[str, Any] = {"after": place_of(query)}
    if query.states:
        conditions.append("state::text = ANY(%(states)s)")
        values["states"] = list(query.states)
    for column, value in (("queue", query.queue), ("type", query.type)):
        if value is not None:
            conditions.append(f"{column} = %({column})s")
            values[column] = value
    if query.tag is not None:
        # Compared as JSON texts, which the same encoder wrote: a tag may hold what a text of PostgreSQL cannot.
        conditions.append(
            "EXISTS (SELECT 1 FROM json_array_elements(extra::json -> 'tags') AS t(tag) WHERE t.tag::text = %(tag)s)"
        )
        values["tag"] = msgspec.json.encode(query.tag).decode()
    if query.search is not None:
        conditions.append(
            "(strpos(id, %(search)s) > 0 OR strpos(type, %(search)s) > 0 OR position(%(bytes)s::bytea IN body) > 0)"
        )
        values["search"] = query.search.replace("\0", "\ufffd")
        values["bytes"] = query.search.encode("utf-8", "surrogateescape")
    return conditions, values
