"""Lending jobs: plain ones in one statement; when time has work to do, or keys and limits decide, with more questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuekit.contract import Delivery, Message, Rate
from queuekit_postgres.connections import pipelined
from queuekit_postgres.floors import Known
from queuekit_postgres.records import delivery_of, digest, options_of
from queuekit_postgres.settling import Finishing, finish, wake
from queuekit_postgres.work import Work, listed, quoted

LATE, GATED, SURPLUS = 1, 2, 4
"""Flags of `claim.sql`: time has work to do; a gated job stands at the head; more was locked than lent."""
AGAIN = LATE | GATED
"""Flags with which nothing was lent."""
MORE = 100
"""Jobs looked at beyond those wanted, once some were held back by their key or limit."""


def claim_parameters(
    queues: Sequence[str], known: Known, *, limit: int, places: int, lease: float, sweep: bool
) -> dict[str, Any]:
    """Return the parameters of `claim.sql`."""
    stretches = [(queue, n, *found) for n, queue in enumerate(queues, 1) for found in known.stretches(queue)]
    names, numbers, ranks, floors, belows = zip(*stretches, strict=True) if stretches else ((),) * 5
    return {
        "queues": quoted(queues),
        "limit": limit,
        "places": places,
        "lease": lease,
        "sweep": sweep,
        "names": quoted(names),
        "places_of": listed(numbers),
        "ranks": listed(ranks),
        "floors": listed(floors),
        "belows": listed(belows),
        **known.times(),
    }


def fast(rows: list[tuple[Any, ...]], queues: Sequence[str]) -> tuple[list[Delivery], int]:
    """Return what `claim.sql` lent, queue by queue in the order of a line, and its flags."""
    place = {queue: number for number, queue in enumerate(queues)}
    flags: int = next(row[7] for row in reversed(rows) if row[2] is None)
    lent = [row for row in rows if row[2] is not None]
    lent.sort(key=lambda row: (place[row[3]], row[0], row[1]))
    return [delivery_of(row) for row in lent], flags


def slow(
    work: Work, queues: Sequence[str], *, late: bool, limit: int, places: int, lease: float, recover: bool
) -> list[Delivery]:
    """Let time do its work if there is some (`late`), then lend what keys and limits let go."""
    taken: dict[bytes, int] = {}
    chosen: list[str] = []
    if late:
        promote(work, recover=recover)
        chosen += _recovered(work, _unpaused(work, queues), min(places, limit), taken)
    for queue in queues:
        if len(chosen) < limit:
            chosen += _ready(work, queue, limit - len(chosen), taken)
    return lend(work, chosen, lease=lease)


def promote(work: Work, *, recover: bool) -> None:
    """Let due jobs stand in line, and take expired leases back."""
    work.run("promote", due_floor=work.known.due)
    if recover:
        _sweep(work)


def _sweep(work: Work) -> None:
    rows = work.rows("expired", started_floor=work.known.started)
    if not rows:
        return
    back = [id for id, cancel, _limit in rows if not cancel]
    if back:
        work.run("take_back", ids=back)
    ended = [id for id, cancel, _limit in rows if cancel]
    limits = {limit for _id, _cancel, limit in rows if limit is not None}
    if ended:
        held = work.rows("held_rows", ids=ended)
        work.lock([row[5] for row in held])
        finish(work, [Finishing(row, "cancelled", "cancelled", settled=False) for row in held])
    work.lock(limits)
    wake(work, keys=(), limits=limits)


def _unpaused(work: Work, queues: Sequence[str]) -> list[str]:
    paused = {row[0] for row in work.rows("paused")}
    return [queue for queue in queues if queue not in paused]


def _recovered(work: Work, queues: Sequence[str], places: int, taken: dict[bytes, int]) -> list[str]:
    if places <= 0 or not queues:
        return []
    rows = work.rows("pick_recovered", queues=list(queues), limit=places)
    return pass_gates(work, rows, taken, most=places)


def _ready(work: Work, queue: str, limit: int, taken: dict[bytes, int]) -> list[str]:
    """Pick the head of a line; jobs that are held back leave it, and later ones take their place."""
    chosen: list[str] = []
    more = 0
    ranks, floors, belows = map(listed, zip(*work.known.stretches(queue), strict=True))
    where = {"queue": queue, "ranks": ranks, "floors": floors, "belows": belows}
    while len(chosen) < limit:
        known = set(chosen)
        rows = [row for row in work.rows("pick_ready", limit=limit + more, **where) if row[0] not in known]
        passed = pass_gates(work, rows, taken, most=limit - len(chosen))
        chosen += passed
        if len(passed) == len(rows):
            break
        more = MORE
    if more:  # others passed over what was locked here, and not all of it was lent or held back
        work.left.add(queue)
    return chosen


def lend(work: Work, ids: list[str], *, lease: float) -> list[Delivery]:
    """Count the hand-outs, begin the leases, and free the scopes that end with the start."""
    if not ids:
        return []
    place = {id: number for number, id in enumerate(ids)}
    rows = sorted(work.rows("lend", ids=ids, lease=lease), key=lambda row: place[row[2]])
    deliveries = [delivery_of(row) for row in rows]
    started = [m for m in (d.message for d in deliveries) if m.unique is not None and m.unique.until == "start"]
    if started:
        scopes = [digest(m.unique.scope) for m in started if m.unique is not None]
        work.run("free_scopes", scopes=scopes, ids=[m.id for m in started])
    return deliveries


# ----------------------------------------------------------------------------------------------------------- gates


def pass_gates(work: Work, rows: Sequence[tuple[Any, ...]], taken: dict[bytes, int], *, most: int) -> list[str]:
    """Return the ids of up to `most` jobs, in order, that keys and limits let go; hold back those that they do not.

    A row has id, queue, options (None for a plain job) and whether it holds its key. Jobs beyond `most` are left as they are.
    `taken` counts, per limit, those that earlier calls of the same claim let go.
    """
    gated = {row[0]: options_of(row[2]) for row in rows if row[2] is not None}
    if not gated:
        return [row[0] for row in rows[:most]]
    return Gates(work, gated, taken).choose([row[0] for row in rows], most)


def hold_behind_keys(work: Work, keys: dict[str, str]) -> set[str]:
    """Take jobs (by id, with their keys) out of the line that stand behind another of their key; return their ids."""
    if not keys:
        return set()
    work.lock([digest(key) for key in keys.values()])
    behind = {row[0] for row in work.rows("blocked_by_key", ids=list(keys))}
    if behind:
        work.run("hold", held="key", ids=sorted(behind), wait=None)
    return behind


class Gates:
    """What keys, concurrency limits and rates allow at this moment; their locks are held until the transaction ends."""

    def __init__(self, work: Work, gated: dict[str, Message], taken: dict[bytes, int]) -> None:
        self._work = work
        self._taken = taken
        self._gated = gated
        messages = gated.values()
        limits = {digest(m.concurrency.key) for m in messages if m.concurrency is not None}
        rates = {digest(m.rate.key) for m in messages if m.rate is not None}
        keys = {digest(m.key) for m in messages if m.key is not None}
        work.lock([*limits, *rates, *keys])
        keyed = [id for id, m in gated.items() if m.key is not None]
        with pipelined(work.connection):
            blocked = work.run("blocked_by_key", ids=keyed) if keyed else None
            running = work.run("running_of_limits", keys=sorted(limits)) if limits else None
        self._blocked = {row[0] for row in blocked.fetchall()} if blocked else set[str]()
        rows = running.fetchall() if running else []
        self._running: dict[bytes, int] = {bytes(key): count for key, count in rows}

    def choose(self, ids: Sequence[str], most: int) -> list[str]:
        """Return who may go."""
        chosen: list[str] = []
        behind: list[str] = []
        full: list[str] = []
        for id in ids:
            if len(chosen) == most:
                break
            message = self._gated.get(id)
            if message is None or self._passes(id, message, behind, full):
                chosen.append(id)
        for held, kept in (("key", behind), ("limit", full)):
            if kept:
                self._work.run("hold", held=held, ids=kept, wait=None)
        return chosen

    def _passes(self, id: str, message: Message, behind: list[str], full: list[str]) -> bool:
        if id in self._blocked:
            behind.append(id)
            return False
        limit = message.concurrency
        place = None if limit is None else digest(limit.key)
        if limit is not None and place is not None and self._occupied(place) >= limit.limit:
            full.append(id)
            return False
        if message.rate is not None and not self._take_grant(id, message.rate):
            return False
        if place is not None:
            self._taken[place] = self._taken.get(place, 0) + 1
        return True

    def _occupied(self, place: bytes) -> int:
        return self._running.get(place, 0) + self._taken.get(place, 0)

    def _take_grant(self, id: str, rate: Rate) -> bool:
        """Take one grant of a sliding window, or hold the job until the next one that may be its own."""
        key = digest(rate.key)
        self._work.run("forget_grants", key=key, period=rate.period)
        [(count, age, waiting)] = self._work.rows("grants_of", key=key)
        if count < rate.limit:
            self._work.run("take_grant", key=key, period=rate.period)
            return True
        wait = rate.period * (1 + waiting // rate.limit) - (age or 0.0)
        self._work.run("hold", held="rate", ids=[id], wait=wait)
        return False
