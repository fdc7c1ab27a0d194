"""Changing jobs from outside: cancel, retry, delete, purge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuekit.contract import Message, State
from queuekit_postgres.looking import read_whole_tables
from queuekit_postgres.records import gates_of, options_of
from queuekit_postgres.settling import Finishing, finish, let_go, wake
from queuekit_postgres.work import Work, listed

WAITING = ("pending", "scheduled")


def cancel(work: Work, ids: Sequence[str]) -> dict[str, State]:
    """Cancel what waits, flag what runs; return the states before."""
    rows = _locked(work, ids)
    running = [row[0] for row in rows if row[2] == "running"]
    if running:
        work.run("flag", ids=listed(running))
    finish(work, [Finishing(row, "cancelled", "cancelled", settled=False) for row in rows if row[2] in WAITING])
    return _states(work, ids, rows)


def delete(work: Work, ids: Sequence[str]) -> dict[str, State]:
    """Remove what does not run; return the states before."""
    rows = _locked(work, ids)
    waiting = [row for row in rows if row[2] in WAITING]
    if waiting:
        work.run("delete_jobs", ids=listed([row[0] for row in waiting]))
        let_go(work, waiting)
    ended = work.rows("delete_ended", ids=listed(ids))
    return {**{row[0]: row[2] for row in rows}, **dict(ended)}


def retry(work: Work, ids: Sequence[str]) -> dict[str, State]:
    """Start failed and cancelled jobs over; return the states before."""
    rows = work.rows("lock_ended", ids=listed(ids))
    again = [(id, _gates(extra)) for id, state, extra in rows if state in {"failed", "cancelled"}]
    if again:
        work.run(
            "restart",
            ids=[id for id, _ in again],
            gateds=[gates["gated"] for _, gates in again],
            keys=[gates["key"] for _, gates in again],
            limit_keys=[gates["limit_key"] for _, gates in again],
            rate_keys=[gates["rate_key"] for _, gates in again],
        )
    before: dict[str, State] = {id: state for id, state, _ in rows}
    missing = [id for id in ids if id not in before]
    before.update({row[0]: row[2] for row in work.rows("held_rows", ids=listed(missing))})
    return before


def purge(work: Work, queue: str) -> int:
    """Delete what waits in a queue; return how many jobs."""
    read_whole_tables(work)
    [(count, keys)] = work.rows("purge", queue=queue)
    freed = [bytes(key) for key in keys or ()]
    work.lock(freed)
    wake(work, keys=freed, limits=())
    return int(count)


def _locked(work: Work, ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """Lock unfinished jobs, the locks of their keys and limits first."""
    work.lock([name for row in work.rows("keys_of", ids=listed(ids)) for name in row])
    return work.rows("held_rows", ids=listed(ids))


def _states(work: Work, ids: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, State]:
    states: dict[str, State] = {row[0]: row[2] for row in rows}
    missing = [id for id in ids if id not in states]
    if missing:
        states.update({row[0]: row[2] for row in work.rows("ended_rows", ids=listed(missing))})
    return states


def _gates(extra: str | None) -> dict[str, Any]:
    return gates_of(Message("", "", "", "") if extra is None else options_of(extra))
