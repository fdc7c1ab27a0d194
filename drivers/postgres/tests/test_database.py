"""What the driver needs of its database: the schema, a role with few rights, a primary; and what it refuses."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psycopg
import pytest

from queuekit import ConfigurationError, DriverRejected, DriverUnavailable, Queue
from queuekit.contract import Concurrency, Done, Message, Rate, Url
from queuekit.ids import new_id
from queuekit_integration.harness import wait_until
from queuekit_postgres import PostgresDriver, schema, statements
from queuekit_postgres.options import from_url, parts_of, with_defaults
from queuekit_postgres.work import Work

DOCS = Path(__file__).parents[3] / "docs" / "postgres.md"


def message(**fields):
    return Message(new_id(), "default", "t", "{}", **fields)


def execute(postgres, *statements):
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def as_role(postgres, role):
    return postgres.url().replace("queuekit@", f"{role}@")


def test_a_schema_that_is_not_there_is_refused_with_what_to_run(make):
    with pytest.raises(DriverRejected, match="queuekit migrate"):
        make(schema="nobody_made_it", migrate=False).open()


def test_migrations_are_applied_once_also_by_several_at_once(make):
    drivers = [make(schema="several", migrate=False) for _ in range(4)]
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda d=d: applied.append(d.migrate())) for d in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [len(names) for names in sorted(applied, key=len)] == [0, 0, 0, 3]
    assert drivers[0].migrations() == []


def test_a_schema_from_the_future_is_refused(make, postgres):
    make(schema="later").open()
    execute(postgres, "INSERT INTO later.migrations (number, name) VALUES (99, '0099_later')")
    with pytest.raises(DriverRejected, match="update queuekit"):
        make(schema="later", migrate=False).open()


def test_a_schema_of_ones_own_keeps_apart(make):
    one, other = make(schema="one"), make(schema="other")
    one.open()
    other.open()
    one.send([message()])
    assert other.claim(["default"], limit=1, lease=10) == []
    assert len(one.claim(["default"], limit=1, lease=10)) == 1


def test_a_role_with_the_documented_rights_is_enough(make, postgres):
    """The statements are read from the documentation, so that what it says is what was tried."""
    make().open()
    block = re.search(r"```sql\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert block is not None
    execute(postgres, *(part for part in block[1].split(";\n") if part.strip()))
    driver = make(as_role(postgres, "app"), migrate=False)
    driver.open()
    driver.send([message(), *(message() for _ in range(10)), message(delay=5, key="k")])
    driver.send([message()])
    lent = driver.claim(["default"], limit=20, lease=10)
    assert len(lent) == 12
    assert driver.settle([Done(delivery) for delivery in lent]) == ["applied"] * 12
    driver.prune()
    with pytest.raises(DriverRejected, match="may not do that"):
        make(as_role(postgres, "app"), schema="forbidden").open()


def test_a_read_only_role_is_refused(make, postgres):
    make().open()
    execute(postgres, "CREATE ROLE reader LOGIN SUPERUSER", "ALTER ROLE reader SET default_transaction_read_only = on")
    with pytest.raises(DriverRejected, match="read-only"):
        make(as_role(postgres, "reader"), migrate=False).open()


def test_isolation_set_by_an_operator_does_not_matter(make, postgres):
    execute(postgres, "CREATE ROLE strict LOGIN SUPERUSER")
    execute(postgres, "ALTER ROLE strict SET default_transaction_isolation = 'serializable'")
    driver = make(as_role(postgres, "strict"))
    driver.open()
    driver.send([message()])
    [lent] = driver.claim(["default"], limit=1, lease=10)
    assert driver.settle([Done(lent)]) == ["applied"]


def test_a_password_stands_in_no_error(namespace):
    address = "postgresql://somebody:hunter2@127.0.0.1:1/nowhere"
    driver = PostgresDriver.from_url(Url.parse(address), namespace=namespace)
    with pytest.raises(DriverUnavailable) as caught:
        driver.open()
    driver.close()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {driver!r}"


def test_the_hosts_of_an_address_go_to_libpq_in_order():
    conninfo, _ = from_url(Url.parse("postgresql://me@a.example:6000,b.example/app"))
    assert dict(parts_of(conninfo)) == {
        "host": "a.example,b.example",
        "port": "6000,5432",
        "user": "me",
        "dbname": "app",
    }


def test_of_several_hosts_the_one_that_takes_writes_is_meant_unless_the_address_says_otherwise():
    several = parts_of("host=a,b dbname=app")
    assert parts_of(with_defaults(several, timeout=10, session=True))["target_session_attrs"] == "read-write"
    chosen = {**several, "target_session_attrs": "primary"}
    assert parts_of(with_defaults(chosen, timeout=10, session=True))["target_session_attrs"] == "primary"
    alone = parts_of(with_defaults(parts_of("host=a dbname=app"), timeout=10, session=True))
    assert "target_session_attrs" not in alone


@pytest.mark.parametrize(
    "option",
    ["schema=Drop%20Table", "timeout=0", "timeout=soon", "connections=1", "migrate=perhaps", "poll_interval=-1"],
)
def test_bad_options_are_named(option):
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        Queue(f"postgresql://localhost/app?{option}")


def test_an_unknown_option_is_named_with_its_neighbour():
    with pytest.raises(ConfigurationError, match="did you mean 'connections'"):
        Queue("postgresql://localhost/app?conections=3")


def test_ended_sessions_are_replaced_before_anything_is_sent(make, postgres):
    """A session that an administrator ended is noticed when it is taken, so no send becomes ambiguous (FP-01)."""
    driver = make()
    driver.open()
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'queuekit'"
    for _ in range(5):
        execute(postgres, ended)
        driver.send([message()])
    assert [counts.pending for counts in driver.count()] == [5]


def test_a_finished_id_is_known_whichever_way_it_comes_again(make):
    driver = make()
    driver.open()
    first = [message() for _ in range(20)]
    driver.send(first)
    assert driver.settle([Done(d) for d in driver.claim(["default"], limit=20, lease=10)]) == ["applied"] * 20
    driver.send(first[:1])
    driver.send(first[:3])
    driver.send(first)
    driver.send([*first, Message("ffffffff-ffff-4fff-8fff-ffffffffffff", "default", "t", "{}")])
    assert [(c.pending, c.completed) for c in driver.count()] == [(1, 20)]


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_every_way_of_sending_stores_with_and_without_a_bell(make, listen, count):
    driver = make(listen=listen)
    driver.open()
    driver.send([message() for _ in range(count)])
    assert len(driver.claim(["default"], limit=50, lease=10)) == count


def test_a_schema_of_an_earlier_version_is_brought_up_to_date(make, postgres, monkeypatch):
    """Also with a rate's grants in it: they count on, and are forgotten once their window is over."""
    [first, *later] = statements.migrations("older")
    monkeypatch.setattr(schema, "migrations", lambda _: [first])
    make(schema="older").open()
    execute(
        postgres,
        "INSERT INTO older.namespaces (name) VALUES ('n') ON CONFLICT DO NOTHING",
        "INSERT INTO older.grants SELECT max(id), '\\x00', clock_timestamp() FROM older.namespaces",
    )
    monkeypatch.undo()
    driver = make(schema="older", migrate=False)
    with pytest.raises(DriverRejected, match=f"lacks {later[0][1]}"):
        driver.open()
    assert driver.migrate() == [name for _, name, _ in later]
    driver.open()
    driver.send([message(rate=Rate("r", 5, 60.0))])
    assert len(driver.claim(["default"], limit=1, lease=10)) == 1


def test_days_that_are_over_are_dropped_whole(make, postgres):
    driver = make()
    driver.open()
    execute(
        postgres, "CREATE TABLE queuekit.history_20200101 PARTITION OF queuekit.history FOR VALUES IN ('2020-01-01')"
    )
    driver.prune()
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT to_regclass('queuekit.history_20200101')").fetchone() == (None,)


def test_renewals_touch_no_index(make, postgres):
    """A renewal is a HOT update: it leaves nothing behind in any index of the jobs."""
    driver = make(schema="hot")
    driver.open()
    driver.send([message() for _ in range(20)])
    lent = driver.claim(["default"], limit=20, lease=60)
    for _ in range(10):
        assert all(answer.held for answer in driver.extend(lent, lease=60))
    driver.close()

    def updates() -> tuple[int, int]:
        with psycopg.connect(postgres.url()) as connection:
            row = connection.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'hot' AND relname = 'jobs'"
            ).fetchone()
        assert row is not None
        return row[0], row[1]

    wait_until(lambda: updates()[0] == 220, "the statistics to arrive")
    assert updates()[1] >= 190, "renewals write to indexes"


@pytest.mark.parametrize("kind", ["keyed", "limited"])
def test_gated_jobs_cost_as_many_statements_in_a_batch_as_alone(make, monkeypatch, kind):
    driver = make()
    driver.open()
    ran: list[str] = []
    original = Work.run

    def run(self, name, **values):
        ran.append(name)
        return original(self, name, **values)

    def options(n):
        return {"key": f"k{n}"} if kind == "keyed" else {"concurrency": Concurrency(f"c{n}", 1)}

    driver.send([message(**options(n)) for n in range(100)])
    monkeypatch.setattr(Work, "run", run)
    lent = driver.claim(["default"], limit=100, lease=30)
    assert len(lent) == 100
    assert sorted(ran) == sorted(GATED_CLAIM[kind])
    ran.clear()
    assert driver.settle([Done(delivery) for delivery in lent]) == ["applied"] * 100
    assert ran == ["lock_names", "held_rows", "finish", "next_of_key" if kind == "keyed" else "next_of_limit", "notify"]


GATED_CLAIM = {
    "keyed": ["survey", "claim", "pick_ready", "lock_names", "blocked_by_key", "lend"],
    "limited": ["survey", "claim", "pick_ready", "lock_names", "running_of_limits", "lend"],
}


def test_queues_of_any_name_are_claimed_from(make):
    names = ["a", 'b"c', "d\\e", "{,}", "NULL", " ü "]
    driver = make()
    driver.open()
    driver.send([Message(new_id(), name, "t", "{}") for name in names])
    for _ in range(2):  # without floors, and with them
        assert {delivery.message.queue for delivery in driver.claim(names, limit=9, lease=10)} == set(names)
        driver.send([Message(new_id(), name, "t", "{}") for name in names])
