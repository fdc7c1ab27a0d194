"""In which namespace a driver object works that is given to a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queuekit import ConfigurationError, Job, Queue
from queuekit.contract import Driver, Named
from queuekit.memory import MemoryDriver
from queuekit.null import NullDriver
from queuekit.sqlite import SqliteDriver
from queuekit_postgres import PostgresDriver
from queuekit_rabbitmq import RabbitMQDriver
from queuekit_redis import RedisDriver
from queuekit_sqs import SqsDriver

KINDS: dict[str, Any] = {
    "memory": MemoryDriver,
    "null": NullDriver,
    "sqlite": lambda **options: SqliteDriver("jobs.db", **options),
    "redis": RedisDriver,
    "cluster": lambda **options: RedisDriver("redis://localhost:6379?cluster=true", **options),
    "postgres": PostgresDriver,
    "rabbitmq": RabbitMQDriver,
    "sqs": lambda **options: SqsDriver(region="eu-west-1", **options),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_object_works_in_the_namespace_of_its_queue(kind: str) -> None:
    driver: Named = KINDS[kind]()
    queue = Queue(driver, namespace="shop")  # type: ignore[arg-type]
    assert (queue.namespace, driver.namespace) == ("shop", "shop")
    assert "'shop'" in repr(queue)


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_without_a_namespace_takes_that_of_its_driver(kind: str) -> None:
    assert Queue(KINDS[kind](namespace="shop")).namespace == "shop"
    assert Queue(KINDS[kind]()).namespace == "queuekit"


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_of_another_namespace_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"namespace='shop' is refused.*'other'.*build the driver"):
        Queue(KINDS[kind](namespace="other"), namespace="shop")
    driver = KINDS[kind]()
    first = Queue(driver)
    with pytest.raises(ConfigurationError, match=r"namespace='shop' is refused.*'queuekit'"):
        Queue(driver, namespace="shop")
    assert (first.namespace, driver.namespace) == ("queuekit", "queuekit")


def test_jobs_of_a_driver_object_are_in_the_namespace_of_its_queue(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    with Queue(SqliteDriver(file), namespace="shop") as queue:
        handle = queue.dispatch(Job("t"))
    with Queue(f"sqlite:///{file}", namespace="shop") as queue:
        assert queue.get(handle.id).state == "pending"


def test_keys_of_a_driver_object_are_in_the_namespace_of_its_queue() -> None:
    redis, rabbitmq = RedisDriver(), RabbitMQDriver()
    Queue(redis, namespace="shop")
    Queue(rabbitmq, namespace="shop")
    assert redis._keys["jobs"].startswith("queuekit:{shop}:")
    assert rabbitmq._links.names.lane("default", 4).startswith("shop:")


def test_an_opened_driver_stays_where_it_is(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "jobs.db")
    driver.open()
    with pytest.raises(ConfigurationError, match=r"'shop'.*'queuekit'"):
        Queue(driver, namespace="shop")
    Queue(driver).close()


def test_a_store_works_in_the_namespace_of_its_queue(tmp_path: Path) -> None:
    transport, store = RabbitMQDriver(), SqliteDriver(tmp_path / "jobs.db")
    queue = Queue(transport, store=store, namespace="shop")
    assert [queue.namespace, transport.namespace, store.namespace] == ["shop"] * 3
    with pytest.raises(ConfigurationError, match=r"'other'"):
        Queue("amqp://localhost/", store=SqliteDriver(tmp_path / "jobs.db", namespace="other"), namespace="shop")


def test_halves_of_a_pair_work_in_one_namespace(tmp_path: Path) -> None:
    store = SqliteDriver(tmp_path / "jobs.db", namespace="shop")
    queue = Queue("amqp://localhost/", store=store)
    assert (queue.namespace, queue.driver.namespace) == ("shop", "shop")  # type: ignore[attr-defined]
    pair = Queue(SqsDriver(region="eu-west-1"), store=SqliteDriver(tmp_path / "jobs.db")).driver
    with pytest.raises(ConfigurationError, match=r"'shop'.*'queuekit'"):
        Queue(pair, namespace="shop")
    with pytest.raises(ConfigurationError, match=r"'shop'.*'other'"):
        Queue(SqsDriver(region="eu-west-1", namespace="shop"), store=SqliteDriver("jobs.db", namespace="other"))


def test_a_driver_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    class Plain:
        """The verbs alone."""

        def __init__(self, driver: Any) -> None:
            for verb in ("open", "close", "prepare", "send", "claim", "settle", "extend", "limits"):
                setattr(self, verb, getattr(driver, verb))

    plain: Driver = Plain(SqliteDriver(tmp_path / "jobs.db"))  # type: ignore[assignment]
    assert Queue(plain).namespace == "queuekit"
    with pytest.raises(ConfigurationError, match=r"'shop' is refused: the sqlite driver cannot be told"):
        Queue(plain, namespace="shop")
