"""The checker is checked: one hand-made bad history for every anomaly, and legal look-alikes that it must accept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from queuekit_integration.checker import ANOMALIES, Plan, check
from queuekit_integration.history import History, Record, Recorder, read_history

NS = 1_000_000_000


def history(*steps: tuple[Any, ...]) -> History:
    """Each step: time in seconds, function, type, job, and further fields."""
    records = []
    for seq, (t, f, type_, job, *rest) in enumerate(steps):
        fields = rest[0] if rest else {}
        role = fields.pop("role", "w1") if "role" in fields else "w1"
        records.append(Record(int(t * NS), seq, 1, role, f, type_, job=job, **fields))
    return History(tuple(records))


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
    "a retry": ([*sent(), *ran(outcome="again"), *ran(t=3, token=2, attempt=2)], Plan(redelivery=True)),
    "a snooze keeps the attempt": ([*sent(), *ran(outcome="released"), *ran(t=3, token=2)], Plan()),
    "a zombie after its lease": (
        [
            *sent(),
            (1, "start", "ok", "a", {"token": 1, "attempt": 1, "lease": 1.0}),
            *ran(t=3, token=2, attempt=2),
            (9, "finish", "ok", "a", {"token": 1}),
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


def test_every_anomaly_has_a_bad_history() -> None:
    assert {judge.__name__ for judge in ANOMALIES} == set(BAD)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(dispatches=2), "1 dispatches acknowledged, 2 planned"),
        (Plan(redelivery=True), "no redelivery"),
        (Plan(faults=("kill",)), "never fired"),
        (Plan(workers=("w2",)), "started nothing"),
    ],
)
def test_a_run_that_proves_nothing_is_unknown(plan: Plan, reason: str) -> None:
    verdict = check(history(*sent(), *ran(), *DRAINED), plan)
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


def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    code = (
        "import sys,pathlib\nfrom queuekit_integration.history import Recorder\n"
        "r=Recorder(pathlib.Path(sys.argv[1]),'victim')\n"
        "for n in range(10**9):\n r.write('start','ok',job=str(n))\n print(n,flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = 0
    for line in child.stdout:
        last = int(line)
        if last == 500:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    child.wait()
    read = read_history(tmp_path)
    assert [r.job for r in read.records[: last + 1]] == [str(n) for n in range(last + 1)]


def test_a_torn_line_is_counted_and_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    recorder.write("start", "ok", job="a")
    recorder.close()
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"t":12,"seq":1,"pi')
    read = read_history(tmp_path)
    assert (len(read.records), read.torn) == (1, 1)
