"""How the planner runs hot statements on a young table, of which it knows nothing: never by reading all of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from queuekit.contract import (
    Again,
    Concurrency,
    Dead,
    Delivery,
    Done,
    Message,
    Progress,
    Released,
    Unique,
)
from queuekit.ids import new_id
from queuekit_postgres import PostgresDriver
from queuekit_postgres.work import Work

MANY = 3000
NEVER = {
    "count",
    "records_by_id",
    "workers",
    "prune",
    "prune_older",
    "server_time",
    "begin_copy",
    "notify",
    "paused",
    "lock_names",
    "outbox",
    "outbox_waits",
}
"""Statements that read little, or that may read much."""
FEW = {"jobs_recovered", "jobs_returned", "jobs_rate", "jobs_cancel"}
"""Indexes in which hardly any job stands."""
SELECTIVE = ("id =", "id >=", "seq", "queue", "due", "started_at", "key", "scope", "cancel", "ctid")


def message(queue: str = "default", **options: Any) -> Message:
    return Message(new_id(), queue, "noop", "{}", **options)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, dict[str, Any]]]:
    """Note the statements that run, with their parameters."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    original = Work.run

    def run(self: Work, name: str, **values: Any) -> Any:
        found[name] = (self.sql[name], {**self.base, **values})
        return original(self, name, **values)

    monkeypatch.setattr(Work, "run", run)
    return found


def exercise(driver: PostgresDriver) -> None:
    """Run every hot statement beside thousands of jobs that wait and run."""
    driver.send([message() for _ in range(2 * MANY)])
    driver.send([message(key=f"k{n}") for n in range(MANY)])
    for start in range(0, MANY, 500):
        driver.send_unique([message(unique=Unique(f"s{n}", ttl=None)) for n in range(start, start + 500)])
    driver.settle([Dead(delivery, "error") for delivery in driver.claim(["default"], limit=MANY // 3, lease=60)])
    driver.settle([Done(delivery) for delivery in driver.claim(["default"], limit=MANY // 3, lease=60)])
    for _ in range(6):
        driver.claim(["default"], limit=MANY // 6, lease=60)
    driver.send([message()])
    driver.send([message(priority=9, key="k", concurrency=Concurrency("c", 1)) for _ in range(3)])
    driver.send([message(delay=0.001), message(priority=9, delay=0.001)])
    for _ in range(3):
        lent = driver.claim(["default"], limit=9, lease=60)
        driver.extend(lent, lease=60)
        driver.report([Progress(lent[0], 0.5, "half")])
        one, two, three, four, *rest = lent
        driver.exchange([Done(one)], ["default"], limit=1, lease=60)
        driver.settle(
            [Done(two, result="{}"), Released(three), Again(four, 0.001), *(Dead(other, "error") for other in rest[:1])]
        )
    driver.cancel([lent[-1].message.id])
    driver.requested()
    driver.send_unique([message(unique=Unique(f"s{n}", ttl=None)) for n in range(2)])
    driver.send_unique([message("other", unique=Unique(f"o{n}", ttl=None)) for n in range(9)])
    driver.settle([Done(delivery) for delivery in driver.claim(["other"], limit=3, lease=60)])
    driver.purge("other")
    driver.get([lent[0].message.id])
    driver._claimer._next_change(recover=True)
    carried = [message() for _ in range(MANY)]
    driver.admit(carried, publish_within=10)
    driver.published([m.id for m in carried[:200]], ages=[0.0] * 200, publish_within=10, again_after=900)
    lent = [found for found in driver.lend([m.id for m in carried[:500]], lease=60) if isinstance(found, Delivery)]
    driver.settle_and_lend([Done(delivery) for delivery in lent], [m.id for m in carried[400:900]], lease=60)
    driver.send([message()])
    driver.outbox(limit=500, again_after=10)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def trouble(plan: dict[str, Any], filled: set[str]) -> list[str]:
    """Return the parts of a plan that read a whole table, or all of a namespace."""
    found = []
    for node in nodes(plan):
        table, kind = node.get("Relation Name"), node["Node Type"]
        if table not in filled or kind == "ModifyTable" or node.get("Index Name") in FEW:
            continue
        condition = "".join(node.get(f"{name} Cond", "") for name in ("Index", "Recheck", "TID"))
        if not any(word in condition for word in SELECTIVE):
            found.append(f"{kind} of {table} by {node.get('Index Name')}, {condition}")
    return found


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_no_hot_statement_reads_all_of_a_young_table(make: Callable[..., PostgresDriver], postgres, seen, mode):
    name = f"young_{mode[6]}_{uuid.uuid4().hex[:6]}"
    driver = make(schema=name)
    driver.open()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for table in ("jobs", "uniques"):
            connection.execute(f"ALTER TABLE {name}.{table} SET (autovacuum_enabled = false)")
    exercise(driver)
    found = {}
    with psycopg.connect(postgres.url(), autocommit=True, prepare_threshold=None) as connection:
        connection.execute(f"SET plan_cache_mode = {mode}")
        filled = filled_tables(connection, name)
        assert {"free_scopes", "next_times", "purge", "claim", "complete", "records_by_id"} < seen.keys()
        assert {"jobs", "uniques", "history_rest"} < filled
        for number, (statement, (text, values)) in enumerate(seen.items()):
            if statement not in NEVER:
                read = filled - {"jobs"} if statement == "purge" else filled
                found[statement] = trouble(plan_of(connection, f"s{number}", text, values), read)
    assert {statement: problems for statement, problems in found.items() if problems} == {}


def filled_tables(connection: psycopg.Connection[Any], schema: str) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
    return {name for (name,) in rows if connection.execute(f"SELECT 1 FROM {schema}.{name} LIMIT 1").fetchone()}


def plan_of(connection: psycopg.Connection[Any], name: str, text: str, values: dict[str, Any]) -> dict[str, Any]:
    """Prepare the statement as psycopg does, and return the plan of its execution."""
    cursor = psycopg.ClientCursor(connection)
    text = text.replace(")b::", ")s::")  # what travels in binary is a parameter as others are
    names = [key for key in values if f"%({key})s" in text]
    for number, key in enumerate(names, 1):
        text = text.replace(f"%({key})s", f"${number}")
    cursor.execute(f"PREPARE {name} AS {text.replace('%%', '%')}")
    holes = ", ".join(["%s"] * len(names))
    arguments = f"({holes})" if names else ""
    cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{arguments}", [values[key] for key in names])
    row = cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def test_a_hot_statement_is_planned_once_in_a_session(make):
    """Planning a settlement takes longer than making it."""
    driver = make()
    driver.open()
    driver.send([message() for _ in range(20)])
    held = driver.claim(["default"], limit=1, lease=60)
    for _ in range(12):
        _, held = driver.exchange([Done(held[0])], ["default"], limit=1, lease=60)
    with driver._connections.lend() as connection:
        rows = connection.execute(
            "SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements"
        ).fetchall()
    assert sum(generic for _, _, generic in rows) >= 20
    assert [text for text, custom, _ in rows if custom] == []
