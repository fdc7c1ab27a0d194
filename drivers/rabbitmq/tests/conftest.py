"""A node for the driver's own tests, and drivers on it that are closed afterwards."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queuekit.drivers import connect
from queuekit_integration.servers import ProcessServer, RabbitMQ, close_servers, server
from queuekit_rabbitmq import RabbitMQDriver

Make = Callable[..., RabbitMQDriver]


def pytest_unconfigure() -> None:
    close_servers()


@pytest.fixture
def node() -> ProcessServer:
    kind = RabbitMQ()
    if kind.program() is None and not os.environ.get("CI"):
        pytest.skip("rabbitmq-server is not installed")
    found = server(kind)
    if not isinstance(found, ProcessServer):
        pytest.skip(f"{kind.variable} gives a broker that these tests must not harm")
    return found


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def make(node: ProcessServer, namespace: str) -> Iterator[Make]:
    """Build open drivers in one namespace; options go into the address."""
    made: list[RabbitMQDriver] = []

    def build(address: str | None = None, **options: Any) -> RabbitMQDriver:
        query = "&".join(f"{name}={value}" for name, value in {"delay_unit": 0.01, **options}.items())
        driver = connect(f"{address or node.url()}?{query}", namespace=namespace, clock=None)
        assert isinstance(driver, RabbitMQDriver)
        made.append(driver)
        driver.open()
        driver.prepare(["default"])
        return driver

    yield build
    node.heal()
    for driver in made:
        driver.close()
