"""A real server for the driver's own tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from queuekit.drivers import connect
from queuekit_integration.servers import ProcessServer, Redis

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[ProcessServer]:
    """Start a server that this module's tests share."""
    made = ProcessServer(Redis())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def native(server: ProcessServer) -> Iterator[Any]:
    """Return a client past the driver; the server is as before at the end."""
    with redis.Redis(port=server.port) as client:
        yield client


@pytest.fixture
def driver_of(server: ProcessServer) -> Iterator[Callable[..., Any]]:
    """Return a maker of open drivers in a namespace of the test's own."""
    namespace, made = f"t{next(_numbers)}", []

    def make(options: str = "", *, opened: bool = True, port: int | None = None) -> Any:
        driver: Any = connect(server.url(port=port) + options, namespace=namespace, clock=None)
        made.append(driver)
        if opened:
            driver.open()
        return driver

    yield make
    for driver in made:
        driver.close()
