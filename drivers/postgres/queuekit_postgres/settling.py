"""Settling outcomes: fenced by their token, plain successes in one statement, the others in a few for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from queuekit.contract import (
    MAX_ERRORS,
    Again,
    Dead,
    Delivery,
    Done,
    Extension,
    Failure,
    Outcome,
    Released,
    Settlement,
)
from queuekit_postgres import sending
from queuekit_postgres.records import (
    bytes_of,
    digest,
    errors_of,
    errors_text,
    extra_of,
    gates_of,
    has_extra,
    message_of,
    retain_of,
    storable,
)
from queuekit_postgres.work import Work, listed


@dataclass(slots=True)
class Finishing:
    """A job (a row of `held_rows`) that reaches its end."""

    row: tuple[Any, ...]
    state: str
    reason: str | None = None
    settled: bool = True
    result: str | None = None
    result_error: str | None = None
    error: Failure | None = None
    refund: int = 0
    """1 when the hand-out is not to be counted."""


@dataclass(slots=True)
class Returning:
    """A job (a row of `held_rows`) that comes back."""

    row: tuple[Any, ...]
    outcome: Again | Released
    used: int
    error: Failure | None = None


@dataclass(slots=True)
class Decisions:
    """What a batch of outcomes comes to."""

    answers: list[Settlement | None]
    finishing: list[Finishing] = field(default_factory=list)
    returning: list[Returning] = field(default_factory=list)


def plain_ones(outcomes: Sequence[Outcome]) -> list[tuple[int, Done]]:
    """Return those that one statement for many may complete, with their places, in the order in which rows are locked."""
    seen: set[str] = set()
    found: list[tuple[int, Done]] = []
    for number, outcome in enumerate(outcomes):
        id = outcome.delivery.message.id
        if (
            type(outcome) is Done
            and not outcome.follow_ups
            and id not in seen
            and not has_extra(outcome.delivery.message)
        ):
            found.append((number, outcome))
        seen.add(id)
    found.sort(key=lambda entry: entry[1].delivery.message.id)
    return found


def complete_parameters(plain: Sequence[tuple[int, Done]]) -> tuple[str, dict[str, Any]]:
    """Return the statement that completes these, and its parameters."""
    outcomes = [outcome for _, outcome in plain]
    values: dict[str, Any] = {
        "ids": listed([outcome.delivery.message.id for outcome in outcomes]),
        "tokens": listed([outcome.delivery.token for outcome in outcomes]),
    }
    if all(outcome.result is None and outcome.result_error is None for outcome in outcomes):
        return "complete", values
    values["results"] = [None if outcome.result is None else bytes_of(outcome.result) for outcome in outcomes]
    values["result_errors"] = [storable(outcome.result_error) for outcome in outcomes]
    return "complete_with_results", values


def applied(
    answers: list[Settlement | None], plain: Sequence[tuple[int, Done]], rows: Iterable[tuple[Any, ...]]
) -> bool:
    """Note which were completed; whether all outcomes have their answer."""
    done = {row[0] for row in rows}
    for number, outcome in plain:
        if outcome.delivery.message.id in done:
            answers[number] = "applied"
    return None not in answers


def settle_all(work: Work, outcomes: Sequence[Outcome]) -> bool:
    """Apply outcomes inside the caller's transaction; whether every one of them counted."""
    answers: list[Settlement | None] = [None] * len(outcomes)
    if plain := plain_ones(outcomes):
        name, values = complete_parameters(plain)
        applied(answers, plain, work.rows(name, **values))
    return set(settle_rest(work, outcomes, answers) if None in answers else answers) == {"applied"}


def settle_rest(work: Work, outcomes: Sequence[Outcome], answers: list[Settlement | None]) -> list[Settlement]:
    """Judge and apply the outcomes that have no answer yet, in one transaction."""
    rest = [number for number, answer in enumerate(answers) if answer is None]
    work.lock(_locks(outcomes[number] for number in rest))
    ids = sorted({outcomes[number].delivery.message.id for number in rest})
    rows = {row[0]: row for row in work.rows("held_rows", ids=listed(ids))}
    gone = [id for id in ids if id not in rows]
    ended = {row[0]: row for row in work.rows("ended_rows", ids=listed(gone))} if gone else {}
    decisions = Decisions(answers)
    settled = {outcomes[n].delivery.message.id for n, answer in enumerate(answers) if answer == "applied"}
    for number in rest:
        _decide(decisions, number, outcomes[number], rows, ended, settled)
    give_back(work, decisions.returning)
    finish(work, decisions.finishing)
    for number in rest:
        if answers[number] == "applied" and outcomes[number].follow_ups:
            sending.send_unique(work, outcomes[number].follow_ups)
    return [answer for answer in answers if answer is not None]


def _locks(outcomes: Iterable[Outcome]) -> set[bytes]:
    """Return the digests of the keys and limits that these jobs may let go."""
    found: set[bytes] = set()
    for outcome in outcomes:
        message = outcome.delivery.message
        if message.key is not None:
            found.add(digest(message.key))
        if message.concurrency is not None:
            found.add(digest(message.concurrency.key))
    return found


def _decide(
    decisions: Decisions,
    number: int,
    outcome: Outcome,
    rows: dict[str, tuple[Any, ...]],
    ended: dict[str, tuple[Any, ...]],
    settled: set[str],
) -> None:
    delivery = outcome.delivery
    id = delivery.message.id
    row = rows.get(id)
    answer = _judge(row or ended.get(id), delivery, again=id in settled)
    decisions.answers[number] = answer
    if answer != "applied" or row is None:
        return
    settled.add(id)
    match outcome:
        case Done():
            decisions.finishing.append(
                Finishing(row, "completed", None, result=outcome.result, result_error=outcome.result_error)
            )
        case Dead():
            decisions.finishing.append(Finishing(row, outcome.state, outcome.reason, error=outcome.error))
        case Again() if row[8]:
            decisions.finishing.append(Finishing(row, "cancelled", "cancelled", error=outcome.error))
        case Again():
            decisions.returning.append(Returning(row, outcome, 1, outcome.error))
        case Released() if row[8]:
            decisions.finishing.append(Finishing(row, "cancelled", "cancelled", refund=1))
        case Released():
            decisions.returning.append(Returning(row, outcome, 0))


def _judge(row: tuple[Any, ...] | None, delivery: Delivery, *, again: bool) -> Settlement:
    """Decide by the token alone whether an outcome counts."""
    if row is None or row[1] != delivery.token or row[4] != delivery.generation:
        return "lost"
    if again:
        return "already_settled"
    if row[2] == "running":
        return "applied"
    return "already_settled" if row[3] else "lost"


def give_back(work: Work, returning: Sequence[Returning]) -> None:
    """Let jobs stand in line or wait again."""
    if not returning:
        return
    columns = [_returned(entry) for entry in returning]
    work.run("give_back", **{name: [column[name] for column in columns] for name in columns[0]})
    limits = {entry.row[6] for entry in returning if entry.row[6] is not None}
    wake(work, keys=(), limits=limits)


def _returned(entry: Returning) -> dict[str, Any]:
    successor = entry.outcome.successor
    extra, gates = None, dict[str, Any]()
    if successor is not None:
        message = entry.outcome.delivery.message
        old = message_of(message.id, message.queue, message.type, b"", entry.row[9], entry.row[14])
        new = msgspec.structs.replace(old, concurrency=successor.concurrency, rate=successor.rate)
        extra, gates = extra_of(new), gates_of(new)
    return {
        "ids": entry.row[0],
        "delays": float(entry.outcome.delay),
        "useds": entry.used,
        "errorss": None if entry.error is None else _errors(entry.row[10], entry.error),
        "bodies": None if successor is None else bytes_of(successor.body),
        "extras": extra,
        "gateds": gates.get("gated"),
        "limit_keys": gates.get("limit_key"),
        "rate_keys": gates.get("rate_key"),
    }


def _errors(text: str | None, error: Failure) -> str:
    return errors_text((*errors_of(text), error)[-MAX_ERRORS:])


def finish(work: Work, finishing: Sequence[Finishing]) -> None:
    """End jobs; who waited for that goes on. The locks of their keys and limits are held."""
    if not finishing:
        return
    rows = [entry.row for entry in finishing]
    work.run(
        "finish",
        ids=[row[0] for row in rows],
        states=[entry.state for entry in finishing],
        reasons=[storable(entry.reason) for entry in finishing],
        refunds=[entry.refund for entry in finishing],
        settleds=[entry.settled for entry in finishing],
        results=[None if entry.result is None else bytes_of(entry.result) for entry in finishing],
        result_errors=[storable(entry.result_error) for entry in finishing],
        errorss=[None if entry.error is None else _errors(entry.row[10], entry.error) for entry in finishing],
        retains=[float(retain_of(entry.row[9], entry.state)) for entry in finishing],
    )
    let_go(work, rows)


def let_go(work: Work, rows: Sequence[tuple[Any, ...]]) -> None:
    """Free what unfinished jobs (rows of `held_rows`) held: unique scopes, their keys' turns, their places in limits."""
    scoped = [row for row in rows if row[7] is not None]
    if scoped:
        work.run("free_scopes", scopes=[row[7] for row in scoped], ids=[row[0] for row in scoped])
    keys = {row[5] for row in rows if row[5] is not None}
    wake(work, keys=keys, limits={row[6] for row in rows if row[6] is not None})


def wake(work: Work, *, keys: Iterable[bytes], limits: Iterable[bytes]) -> None:
    """Put the next job of each key and limit back into its line."""
    for name, found in (("next_of_key", sorted(keys)), ("next_of_limit", sorted(limits))):
        if found:
            work.run(name, keys=found)


def extend(work: Work, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
    """Renew the leases that have not run out."""
    ordered = sorted(deliveries, key=lambda delivery: delivery.message.id)
    ids = listed([delivery.message.id for delivery in ordered])
    tokens = listed([delivery.token for delivery in ordered])
    held = {row[0]: row for row in work.rows("extend", ids=ids, tokens=tokens, lease=lease)}
    return [_extension(held.get(delivery.message.id)) for delivery in deliveries]


def _extension(row: tuple[Any, ...] | None) -> Extension:
    return Extension(held=False) if row is None else Extension(held=True, cancel=row[1], paused=row[2])


def queues_of(outcomes: Sequence[Outcome]) -> set[str]:
    """Return the queues in which these outcomes may have put something."""
    queues = {outcome.delivery.message.queue for outcome in outcomes}
    return queues.union(message.queue for outcome in outcomes for message in outcome.follow_ups)
