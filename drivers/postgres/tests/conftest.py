"""A server that these tests share, started once by each process that runs them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from queuekit_integration.servers import Postgres, ProcessServer
from queuekit_postgres import PostgresDriver

Make = Callable[..., PostgresDriver]


@pytest.fixture(scope="module")
def postgres() -> Iterator[ProcessServer]:
    made = ProcessServer(Postgres())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def make(postgres: ProcessServer, namespace: str) -> Iterator[Make]:
    """Return what builds drivers on this test's namespace; all are closed at its end."""
    made: list[PostgresDriver] = []

    def build(url: str | None = None, **options: object) -> PostgresDriver:
        settings = {"namespace": namespace, "migrate": True, **options}
        driver = PostgresDriver(url or postgres.url(), **settings)  # type: ignore[arg-type]
        made.append(driver)
        return driver

    yield build
    for driver in made:
        driver.close()
