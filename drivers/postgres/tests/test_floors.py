"""Floors on a real server: claims begin past what is gone, and yet find whatever comes to stand before it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from queuekit.contract import Again, Dead, Delivery, Done, DriverUnavailable, Message, Released
from queuekit.ids import new_id
from queuekit_integration.harness import wait_until
from queuekit_postgres import PostgresDriver, claiming, floors
from queuekit_postgres.claiming import Wanted


def message(priority: int = 4, **options: Any) -> Message:
    return Message(new_id(), "q", "noop", "{}", priority=priority, **options)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Survey at every claim, look for leases that ran out at every claim, and pass a transaction over at once."""
    for name in ("BUSY_EVERY", "EXEMPT_EVERY", "IDLE_EVERY", "LONG"):
        monkeypatch.setattr(floors, name, 0.0)
    for name in ("SWEEP_EVERY", "SWEEP_SHARE"):
        monkeypatch.setattr(claiming, name, 0.0)


def claim(driver: PostgresDriver, limit: int = 1) -> list[Delivery]:
    return driver.claim(["q"], limit=limit, lease=30)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def wait_for_the_server(driver: PostgresDriver, seconds: float) -> None:
    end = driver.server_time() + seconds
    wait_until(lambda: driver.server_time() > end, "the server's clock to move")


def churn(driver: PostgresDriver, count: int) -> None:
    """Let so many jobs come and go, at two priorities."""
    driver.send([message(4 + n % 2) for n in range(count)])
    while lent := claim(driver, 50):
        driver.settle([Done(delivery) for delivery in lent])
    claim(driver)


def floor_of(driver: PostgresDriver, rank: int = 5) -> int:
    return driver._claimer._floors.known.lines.get(("q", rank), -1)


@pytest.mark.usefixtures("always")
def test_a_claim_beside_an_open_transaction_does_not_read_what_is_gone(make, postgres):
    driver = make()
    driver.open()
    with psycopg.connect(postgres.url()) as other:
        other.execute("SELECT pg_current_xact_id()")
        churn(driver, 3000)
        assert floor_of(driver) > 0
        assert floor_of(driver, rank=4) > 0
        driver.send([message()])
        assert blocks_of_a_claim(driver) < 100


def blocks_of_a_claim(driver: PostgresDriver) -> int:
    """Return how many pages a claim reads."""
    with psycopg.connect(driver.native().info.dsn, autocommit=True) as connection:
        parameters = driver._claimer.parameters_of(Wanted(["q"], 1, 30.0, None, True))
        text = driver._sql["claim"]
        row = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", {"ns": driver._run.ns, **parameters}
        )
        plan = row.fetchone()
        assert plan is not None
        return int(plan[0][0]["Plan"]["Shared Hit Blocks"] + plan[0][0]["Plan"]["Shared Read Blocks"])


@pytest.mark.usefixtures("always")
def test_jobs_of_a_transaction_that_ends_late_are_found(make, postgres):
    driver = make()
    driver.open()
    late = [message(), message(priority=9)]
    with psycopg.connect(postgres.url()) as other:
        driver.send_in(other, late)
        churn(driver, 100)
        newest = message()
        driver.send([newest])
        claim(driver, limit=0)
        assert floor_of(driver) > 0
        other.commit()
    claim(driver, limit=0)
    assert ids(claim(driver, 3)) == [late[1].id, late[0].id, newest.id]


@pytest.mark.parametrize("listen", [True, False])
def test_a_claim_that_waits_finds_what_a_long_transaction_stored(make, postgres, monkeypatch, listen):
    monkeypatch.setattr(floors, "LONG", 0.05)
    driver = make(listen=listen, poll_interval=5.0)
    driver.open()
    late = message()
    with psycopg.connect(postgres.url()) as other:
        driver.send_in(other, [late])
        churn(driver, 1000)
        driver.send([message()])
        wait_until(lambda: not claim(driver, 0) and floor_of(driver) > 0, "floors to rise")
        driver.settle([Done(delivery) for delivery in claim(driver)])
        timer = threading.Timer(0.2, other.commit)
        timer.start()
        begin = time.monotonic()
        found = wait_until(lambda: driver.claim(["q"], limit=1, lease=30, wait=4.0), "the late job")
        timer.join()
    assert ids(found) == [late.id]
    assert time.monotonic() - begin < 2.0


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("ending", ["released", "again", "later", "retried", "recovered"])
def test_a_job_that_comes_back_takes_its_old_place(make, ending):
    """Also when another process brings it back, of which this one hears nothing."""
    driver, other = make(), make()
    driver.open()
    other.open()
    back = message()
    driver.send([back])
    [delivery] = claim(driver)
    churn(driver, 100)
    newer = message()
    driver.send([newer])
    claim(driver, limit=0)
    assert floor_of(driver) > 0
    match ending:
        case "released":
            other.settle([Released(delivery)])
        case "again":
            other.settle([Again(delivery)])
        case "later":
            other.settle([Again(delivery, 0.05)])
            wait_for_the_server(other, 0.05)
        case "retried":
            other.settle([Dead(delivery, "error")])
            other.retry([back.id])
        case _:
            other.extend([delivery], lease=0.05)  # not sooner: the claims of `churn` would take it back
            wait_for_the_server(other, 0.05)
    assert ids(claim(driver, 2)) == [back.id, newer.id]


@pytest.mark.usefixtures("always")
def test_a_job_of_higher_priority_is_found_at_once(make):
    driver, other = make(), make()
    driver.open()
    churn(driver, 100)
    first, second = message(), message(priority=8)
    other.open()
    other.send([first])
    other.send([second])
    assert ids(claim(driver, 2)) == [second.id, first.id]


class Traffic:
    """Senders that keep their transactions open for random times or roll back, and workers that give some jobs back."""

    def __init__(self, drivers: list[PostgresDriver], url: str) -> None:
        self.drivers, self.url = drivers, url
        self.sent: list[str] = []
        self.done: list[str] = []
        self.failures: list[BaseException] = []
        self.stop = threading.Event()

    def send(self, seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(self.url) as connection:
            for _ in range(25):
                mine = [message(chance.choice([2, 4, 4, 9])) for _ in range(chance.randrange(1, 6))]
                self.drivers[0].send_in(connection, mine)
                time.sleep(chance.choice([0, 0, 0.001, 0.02, 0.1]))  # how long an application keeps its transaction
                if chance.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    self.sent.extend(m.id for m in mine)

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        driver = self.drivers[seed]
        while not self.stop.is_set():
            lent = driver.claim(["q"], limit=chance.randrange(1, 8), lease=30, wait=0.05)
            back = [delivery for delivery in lent if chance.random() < 0.2]
            driver.settle([Released(d) if d in back else Done(d) for d in lent])
            self.done.extend(d.message.id for d in lent if d not in back)

    def start(self, body: Callable[[int], None], count: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.guarded, args=(body, seed)) for seed in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def guarded(self, body: Callable[[int], None], seed: int) -> None:
        try:
            body(seed)
        except BaseException as error:
            self.failures.append(error)


@pytest.mark.usefixtures("always")
def test_what_another_server_said_is_forgotten(make, postgres):
    """Behind a connection that broke there may be a standby that lags, with places that were given out before."""
    driver = make()
    driver.open()
    churn(driver, 100)
    assert floor_of(driver) > 0
    with psycopg.connect(postgres.url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        wait_until(lambda: other.execute(asked).fetchone() == (1,), "the other connections to end")
    with contextlib.suppress(DriverUnavailable):  # where the end of the connection has not arrived yet
        assert claim(driver) == []
    assert floor_of(driver) == -1


@pytest.mark.usefixtures("always")
def test_nothing_is_lost_beside_transactions_of_every_length(make, postgres):
    drivers = [make() for _ in range(4)]
    drivers[0].open()
    for driver in drivers:
        driver.open()
    traffic = Traffic(drivers, postgres.url())
    with psycopg.connect(postgres.url()) as held:
        held.execute("SELECT pg_current_xact_id()")
        senders, workers = traffic.start(traffic.send, 3), traffic.start(traffic.work, 4)
        for thread in senders:
            thread.join(60)
        wait_until(lambda: traffic.failures or len(traffic.done) >= len(traffic.sent), "every job to run", seconds=20)
        traffic.stop.set()
        for thread in workers:
            thread.join(20)
    assert not traffic.failures
    assert sorted(traffic.done) == sorted(traffic.sent)
