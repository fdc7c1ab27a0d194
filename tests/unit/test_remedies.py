"""What a driver's refusal advises: addresses that exist, and have the feature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from queuekit import Job, Queue, UnsupportedError
from queuekit.contract import Driver
from queuekit.drivers import connect, features_of, known_features
from queuekit.remedies import remedy

ALONE = ("memory://", "sync://", "null://", "sqlite:///jobs.db", "redis://h", "postgresql://h/d", "amqp://h")
FIFO = "sqs://eu-west-1?fifo=true"
PAIRS = (("amqp://h", "sqlite:///jobs.db"), ("sqs://eu-west-1", "redis://h"), (FIFO, "postgresql://h/d"))
BACKENDS = (*((url, None) for url in (*ALONE, "sqs://eu-west-1", FIFO)), *PAIRS)


def whole(address: str) -> str:
    """Return an address as it stands in a remedy, complete enough to build the driver."""
    address = address.replace("sqs://…", "sqs://eu-west-1").replace("postgresql://…", "postgresql://h/d")
    address = "postgresql://h/d" if address == "postgresql://" else address
    return address.replace("…", "h")


@pytest.mark.parametrize(("url", "store"), BACKENDS)
def test_every_address_that_a_remedy_names_has_the_feature(url: str, store: str | None) -> None:
    driver = Queue(url, store=store).driver
    for feature in set(known_features()) - features_of(driver):
        advice = remedy(driver, feature)
        pairing = re.search(r'Queue\("(.*?)", store="(.*?)"\)', advice)
        if pairing is not None:
            assert url.startswith(pairing[1].removesuffix("…"))
            assert feature in Queue(url, store=whole(pairing[2])).features, advice
        named = re.findall(r"\w+://\S*?(?=,| or |\)|$)", advice.rpartition("use ")[2])
        assert named
        for address in named:
            assert feature in features_of(built(whole(address))), advice


def built(address: str) -> Driver:
    return connect(address, namespace="n", clock=None)


@pytest.mark.parametrize(
    ("url", "store", "options", "feature", "advised"),
    [
        ("amqp://h", None, {"unique_for": 5}, "unique", 'Queue("amqp://…", store="redis://…")'),
        ("sqs://eu-west-1", None, {"key": "k"}, "key", 'Queue("sqs://…", store="redis://…")'),
        ("sqs://eu-west-1", None, {"settle": "transaction"}, "transactional_settle", 'store="postgresql://…"'),
        ("sqs://eu-west-1", None, {"priority": 9}, "priority", "use amqp://, or an engine"),
        ("sqs://eu-west-1", "sqlite:///jobs.db", {"priority": 9}, "priority", "or leave the option out"),
        ("sync://", None, {"delay": 5}, "delay", "use an engine (memory://, sqlite:///jobs.db, "),
        ("null://", None, {"key": "k"}, "key", "or leave the option out"),
        ("amqp://h", None, {"timeout": 86400}, "timeout", 'Queue("amqp://…", store="redis://…")'),
    ],
)
def test_a_refusal_names_driver_feature_and_remedy(
    url: str, store: str | None, options: dict[str, Any], feature: str, advised: str
) -> None:
    queue = Queue(url, store=store)
    with pytest.raises(UnsupportedError) as caught:
        queue.dispatch(Job("t", **options))
    error = caught.value
    assert (error.driver, error.feature) == (queue.driver.limits.name, feature)
    assert advised in error.remedy
    for part in (f"the {error.driver} driver", error.feature, error.remedy):
        assert part in str(error)
    if url in {"sync://", "null://"} or store:
        assert "store=" not in str(error)


def test_an_operation_that_a_driver_lacks_is_refused_alike(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"the rabbitmq driver cannot list jobs \(feature 'browse'\): pair it"):
        Queue("amqp://h").jobs()
    with pytest.raises(UnsupportedError, match=r"the memory driver cannot migrate .*: use a SQL engine \(sqlite"):
        Queue("memory://").migrate()
    queue = Queue(f"sqlite:///{tmp_path}/jobs.db")
    with pytest.raises(
        UnsupportedError, match=r"the sqlite driver cannot do what requires='server_clock'.*: use redis"
    ):
        Queue(queue.driver, requires=["server_clock"])
