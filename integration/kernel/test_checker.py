"""The checker is checked: one hand-made bad history for every anomaly, and legal look-alikes that it must accept."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from queuekit_integration.checker import ANOMALIES, Plan, check
from queuekit_integration.history import History, Record

NS = 1_000_000_000


def history(*steps: tuple[Any, ...]) -> History:
    """Each step: time in seconds, function, type, job, and further fields."""
    records = []
    for seq, (t, f, type_, job, *rest) in enumerate(steps):
        fields = {"pid": 1, "role": "w1", **(rest[0] if rest else {})}
        records.append(Record(t=int(t * NS), seq=seq, f=f, type=type_, job=job, **fields))
    return History(tuple(sorted(records, key=lambda r: (r.t, r.seq))))


def sent(job: str = "a", t: float = 0.0, **fields: Any) -> list[tuple[Any, ...]]:
    return [(t, "dispatch", "invoke", job, dict(fields)), (t + 0.1, "dispatch", "ok", job, {})]


def ran(
    job: str = "a", t: float = 1.0, token: int = 1, attempt: int = 1, outcome: str = "done", **more: Any
) -> list[Any]:
    return [
        (t, "start", "ok", job, {"token": token, "attempt": attempt, "lease": 10.0, **more}),
        (t + 0.5, "finish", "ok", job, {"token": token}),
        (t + 0.6, "settle", "ok", job, {"token": token, "outcome": outcome, **more}),
    ]


DRAINED = [(99.0, "oracle", "ok", None, {})]

BAD: dict[str, list[tuple[Any, ...]]] = {
    "lost": [*sent()],
    "stuck_never_settled": [*sent(), *ran(outcome="again")],
    "unexpected": [*ran()],
    "ran_after_definite_failure": [(0, "dispatch", "invoke", "a", {}), (0.1, "dispatch", "fail", "a", {}), *ran()],
    "attempt_not_increasing": [*sent(), *ran(outcome="again"), *ran(t=3, token=2, attempt=1)],
    "token_not_increasing": [*sent(), *ran(outcome="again", token=5), *ran(t=3, token=5, attempt=2)],
    "early_run": [*sent(delay=5.0), *ran(t=4)],
    "lease_overlap": [
        *sent(),
        (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 10.0}),
        *ran(t=2, token=2, attempt=2),
    ],
    "stale_settle_accepted": [
        *sent(),
        (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
        (3, "start", "ok", "a", {"token": 2, "attempt": 2, "lease": 9.0}),
        (4, "settle", "ok", "a", {"token": 1, "outcome": "done"}),
    ],
    "start_after_success": [*sent(), *ran(), (3, "start", "ok", "a", {"token": 2, "attempt": 2, "lease": 1.0})],
    "double_terminal": [*sent(), *ran(), (2, "settle", "ok", "a", {"token": 1, "outcome": "failed"})],
    "workflow_double_terminal": [(1, "workflow_terminal", "ok", None, {"name": "w"})] * 2,
    "fifo_violation": [*sent("a", key="k"), *sent("b", t=1, key="k"), *ran("b", t=2), *ran("a", t=4, token=2)],
    "key_concurrency_exceeded": [
        *sent("a", key="k"),
        *sent("b", t=1, key="k"),
        *ran("a", t=2),
        *ran("b", t=2.2, token=2),
    ],
    "event_mismatch": [*sent(), *ran(), *[(2, "event", "ok", "a", {"outcome": "completed"})] * 2],
}

LEGAL: dict[str, tuple[list[tuple[Any, ...]], Plan]] = {
    "a plain success": ([*sent(), *ran()], Plan(dispatches=1)),
    "a job of a key that was dispatched twice under its id": (
        [
            (0, "dispatch", "invoke", "a", {"key": "k"}),
            (0.1, "dispatch", "info", "a"),
            *sent("a", t=0.2, key="k"),
            *ran(),
        ],
        Plan(dispatches=1),
    ),
    "a retry": ([*sent(), *ran(outcome="again"), *ran(t=3, token=2, attempt=2)], Plan(redelivery=True)),
    "a snooze keeps the attempt": ([*sent(), *ran(outcome="released"), *ran(t=3, token=2)], Plan()),
    "a zombie after its lease": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            *ran(t=3, token=2, attempt=2),
            (9, "finish", "ok", "a", {"token": 1}),
            (9, "lease_lost", "ok", "a", {"token": 1}),
        ],
        Plan(redelivery=True),
    ),
    "a zombie that was told": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 10.0}),
            (2, "lease_lost", "ok", "a", {"token": 1}),
            *ran(t=3, token=2, attempt=2),
        ],
        Plan(),
    ),
    "a manual retry is another generation": ([*sent(), *ran(), *ran(t=5, token=2, generation=1)], Plan()),
    "concurrent dispatches have no order": (
        [
            (0, "dispatch", "invoke", "a", {"key": "k"}),
            (0.1, "dispatch", "invoke", "b", {"key": "k"}),
            (0.2, "dispatch", "ok", "a", {}),
            (0.3, "dispatch", "ok", "b", {}),
            *ran("b", t=1),
            *ran("a", t=3, token=2),
        ],
        Plan(),
    ),
    "cancelled before it started": ([*sent(), (1, "cancel", "ok", "a", {})], Plan()),
    "two of a key with a limit of two": (
        [*sent("a", key="k"), *sent("b", t=1, key="k"), *ran("a", t=2), *ran("b", t=2.2, token=2)],
        Plan(key_limits={"k": 2}),
    ),
    "a zombie killed at the end of its handler could not be told": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0, "pid": 7}),
            *ran(t=3, token=2, attempt=2),
            (9, "finish", "ok", "a", {"token": 1, "pid": 7}),
        ],
        Plan(redelivery=True),
    ),
    "a zombie whose settlement was refused": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            *ran(t=3, token=2, attempt=2),
            (9, "finish", "ok", "a", {"token": 1}),
            (9.1, "event", "ok", "a", {"token": 1, "outcome": "completed", "pid": 7}),
            (9.2, "settle", "fail", "a", {"token": 1, "outcome": "done"}),
        ],
        Plan(redelivery=True),
    ),
    "a zombie frozen between claim and start": (
        [
            *sent(),
            *ran(t=3, token=2, attempt=2),
            (4, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 0.0}),
            (4.1, "lease_lost", "ok", "a", {"token": 1}),
        ],
        Plan(),
    ),
    "a retry starts elsewhere before its settlement's answer is written": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 10.0}),
            (1.5, "finish", "ok", "a", {"token": 1}),
            (1.6, "settle", "invoke", "a", {"token": 1, "outcome": "again"}),
            (1.7, "start", "ok", "a", {"token": 2, "attempt": 2, "lease": 10.0}),
            (1.8, "settle", "ok", "a", {"token": 1, "outcome": "again"}),
            (2.0, "settle", "ok", "a", {"token": 2, "outcome": "done"}),
        ],
        Plan(redelivery=True),
    ),
    "killed between a settlement and its answer": (
        [*sent(), *ran()[:2], (1.6, "settle", "invoke", "a", {"token": 1, "outcome": "done"})],
        Plan(dispatches=1),
    ),
    "a lease renewed, and then lost": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            (1.5, "extend", "ok", "a", {"token": 1, "lease": 1.0}),
            *ran(t=2.6, token=2, attempt=2),
        ],
        Plan(redelivery=True),
    ),
    "started exactly when it is due": ([*sent(delay=1.0), *ran(t=1.0)], Plan()),
    "a dispatch that failed, and then one that did not": (
        [(0, "dispatch", "invoke", "a", {}), (0.1, "dispatch", "fail", "a", {}), *sent(t=0.2), *ran()],
        Plan(dispatches=1),
    ),
    "never ran, since it expired": (
        [*sent(), (2, "settle", "ok", "a", {"token": 1, "outcome": "failed"})],
        Plan(dispatches=1),
    ),
    "two workflows end once each": (
        [(1, "workflow_terminal", "ok", None, {"name": "v"}), (1, "workflow_terminal", "ok", None, {"name": "w"})],
        Plan(),
    ),
    "told once, as it was settled": (
        [*sent(), *ran(), (1.55, "event", "ok", "a", {"token": 1, "outcome": "completed"})],
        Plan(),
    ),
    "another key goes ahead": (
        [*sent("a", key="k"), *sent("b", t=1, key="l"), *ran("b", t=2), *ran("a", t=2, token=2)],
        Plan(),
    ),
    "one of a key after the other, and a zombie beside them whose lease is over": (
        [
            *sent("a", key="k"),
            *sent("b", t=1, key="k"),
            (2, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            *ran("a", t=4, token=2, attempt=2),
            *ran("b", t=5, token=3),
            (9, "lease_lost", "ok", "a", {"token": 1}),
        ],
        Plan(),
    ),
    "a key without order": (
        [*sent("a", key="k"), *sent("b", t=1, key="k"), *ran("b", t=2), *ran("a", t=4, token=2)],
        Plan(concurrent_keys=frozenset({"k"})),
    ),
    "dispatched without an answer, and never seen again": ([(0, "dispatch", "invoke", "a", {})], Plan()),
}

SUBTLE: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "told only after the second holder had started under a live lease": (
        "lease_overlap",
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 10.0}),
            *ran(t=2, token=2, attempt=2),
            (3, "lease_lost", "ok", "a", {"token": 1}),
        ],
    ),
    "a zombie in a living process was never told": (
        "lease_overlap",
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            *ran(t=3, token=2, attempt=2),
            (9, "finish", "ok", "a", {"token": 1}),
        ],
    ),
    "renewed, and handed out all the same": (
        "lease_overlap",
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            (1.9, "extend", "ok", "a", {"token": 1, "lease": 5.0}),
            *ran(t=3, token=2, attempt=2),
        ],
    ),
    "an attempt that goes down though it was given back": (
        "attempt_not_increasing",
        [*sent(), *ran(outcome="released", attempt=3), *ran(t=3, token=2, attempt=2)],
    ),
    "a retry sent off by a zombie": (
        "stale_settle_accepted",
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            (3, "start", "ok", "a", {"token": 2, "attempt": 2, "lease": 9.0}),
            (4, "settle", "invoke", "a", {"token": 1, "outcome": "again"}),
            (4.1, "settle", "ok", "a", {"token": 1, "outcome": "again"}),
        ],
    ),
    "overtaken, and a concurrent dispatch is answered late": (
        "fifo_violation",
        [
            (0, "dispatch", "invoke", "z", {"key": "k"}),
            *sent("a", t=1, key="k"),
            *sent("b", t=2, key="k"),
            (3, "dispatch", "ok", "z", {}),
            *ran("b", t=4, token=1),
            *ran("a", t=6, token=2),
            *ran("z", t=8, token=3),
        ],
    ),
    "overtaken while the head waits for its retry": (
        "fifo_violation",
        [
            *sent("a", key="k"),
            *sent("b", t=1, key="k"),
            *ran("a", t=2, outcome="again"),
            *ran("b", t=4, token=2),
            *ran("a", t=6, token=3, attempt=2),
        ],
    ),
    "three of a key with a limit of two": (
        "key_concurrency_exceeded",
        [step for n, job in enumerate("abc") for step in (*sent(job, key="two"), *ran(job, t=2 + n / 10))],
    ),
    "told as completed, settled as failed": (
        "event_mismatch",
        [*sent(), *ran(outcome="failed"), (1.55, "event", "ok", "a", {"token": 1, "outcome": "completed"})],
    ),
    "not told to one who listens": (
        "event_mismatch",
        [*sent(), *ran(), *sent("b"), *ran("b"), (1.55, "event", "ok", "b", {"token": 1, "outcome": "completed"})],
    ),
    "a refused settlement is no end": (
        "stuck_never_settled",
        [*sent(), *ran()[:2], *[(1.6, "settle", k, "a", {"token": 1, "outcome": "done"}) for k in ("invoke", "fail")]],
    ),
    "a retry sent off and never answered is no end": (
        "stuck_never_settled",
        [*sent(), *ran()[:2], (1.6, "settle", "invoke", "a", {"token": 1, "outcome": "again"})],
    ),
    "cancelled and then completed": (
        "double_terminal",
        [*sent(), (0.5, "settle", "ok", "a", {"token": 1, "outcome": "cancelled"}), *ran(token=2)],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found_out(name: str) -> None:
    verdict = check(history(*BAD[name], *DRAINED), Plan())
    assert name in {a.name for a in verdict.anomalies}, str(verdict)


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_history_is_accepted(name: str) -> None:
    steps, plan = LEGAL[name]
    verdict = check(history(*steps, *DRAINED), plan)
    assert verdict.valid, str(verdict)


@pytest.mark.parametrize("name", SUBTLE)
def test_a_bad_history_that_looks_legal_is_found_out(name: str) -> None:
    anomaly, steps = SUBTLE[name]
    verdict = check(history(*steps, *DRAINED), Plan(key_limits={"two": 2}))
    assert anomaly in {a.name for a in verdict.anomalies}, str(verdict)


def test_every_anomaly_has_a_bad_history() -> None:
    assert {judge.__name__ for judge in ANOMALIES} == set(BAD)
    assert len(ANOMALIES) == 15


@pytest.mark.parametrize("judge", ANOMALIES, ids=lambda judge: judge.__name__)
def test_each_anomaly_is_found_by_its_own_judge_alone(judge: Any) -> None:
    others = frozenset(BAD) - {judge.__name__}
    verdict = check(history(*BAD[judge.__name__], *DRAINED), Plan(allowed=others))
    assert verdict.state == "invalid"
    assert {a.name for a in verdict.anomalies} == {judge.__name__}


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(dispatches=2), "1 dispatches acknowledged, 2 planned"),
        (Plan(redelivery=True), "no redelivery"),
        (Plan(faults=("kill",)), "never fired"),
        (Plan(workers=("w2",)), "started nothing"),
        (Plan(workers=("w1", 1, 2)), "the worker 2 started nothing"),
    ],
)
def test_a_run_that_proves_nothing_is_unknown(plan: Plan, reason: str) -> None:
    verdict = check(history(*sent(), *ran(), *DRAINED), plan)
    assert verdict.state == "unknown"
    assert not verdict.valid
    assert not verdict.anomalies
    assert any(reason in unknown for unknown in verdict.unknown)


def test_not_drained_is_unknown() -> None:
    verdict = check(history(*sent(), *ran(), (9, "oracle", "ok", None, {"ready": 1})), Plan())
    assert verdict.unknown == ("not drained: 1 ready, 0 in flight",)
    assert check(history(*sent(), *ran()), Plan()).unknown == ("nobody looked whether it was drained",)


def test_a_dispatch_without_answer_that_ran_is_counted() -> None:
    steps = [(0, "dispatch", "invoke", "a", {}), (1, "dispatch", "info", "a", {}), *ran()]
    verdict = check(history(*steps, *DRAINED), Plan())
    assert (verdict.valid, verdict.recovered) == (True, 1)


def test_an_allowed_anomaly_is_let_pass() -> None:
    assert check(history(*BAD["early_run"], *DRAINED), Plan(allowed=frozenset({"early_run"}))).valid


def test_a_fault_that_was_only_armed_did_not_fire() -> None:
    armed, fired = ((1, "fault", "ok", None, {"name": "cut", "outcome": phase}) for phase in ("on", "fired"))
    plan = Plan(faults=("cut",))
    assert check(history(*sent(), *ran(), armed, *DRAINED), plan).state == "unknown"
    assert check(history(*sent(), *ran(), armed, fired, *DRAINED), plan).valid


def test_an_anomaly_is_final_whatever_else_is_unknown() -> None:
    assert check(history(*BAD["double_terminal"]), Plan(dispatches=9)).state == "invalid"


def test_lines_that_could_not_be_read_leave_it_unknown_and_a_torn_one_does_not() -> None:
    records = history(*sent(), *ran(), *DRAINED).records
    assert check(History(records, torn=1), Plan()).valid
    assert check(History(records, corrupt=1), Plan()).unknown == ("1 lines could not be read",)


def test_a_dispatch_that_nobody_lived_to_see_answered_is_recovered_too() -> None:
    verdict = check(history((0, "dispatch", "invoke", "a", {}), *ran(), *DRAINED), Plan())
    assert (verdict.state, verdict.recovered, verdict.redelivered) == ("valid", 1, 0)


def many_jobs(key: str | None, count: int) -> History:
    return history(*(step for n in range(count) for step in (*sent(f"j{n}", t=n, key=key), *ran(f"j{n}", t=n + 0.2))))


def one_job(count: int) -> History:
    attempts = (ran(t=n + 1.0, token=n, attempt=n, outcome="again", generation=0) for n in range(1, count))
    return history(*sent(key="k"), *(step for attempt in attempts for step in attempt))


def seconds_for(events: History) -> float:
    """Return the processor time of the best of three, so that what else runs on the machine does not count."""
    took = []
    for _ in range(3):
        began = time.process_time()
        check(events, Plan(drained=False))
        took.append(time.process_time() - began)
    return min(took)


@pytest.mark.parametrize(
    "load", [partial(many_jobs, None), partial(many_jobs, "k"), one_job], ids=["jobs", "key", "job"]
)
def test_four_times_the_events_take_far_less_than_sixteen_times_as_long(load: Callable[[int], History]) -> None:
    """Judging takes time in proportion to a history's length: with its square, a soak's history would take hours."""
    few, many = load(5_000), load(20_000)
    assert seconds_for(many) < 8 * seconds_for(few)
