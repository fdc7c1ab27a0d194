"""Each example places orders with their jobs, and ships them, each in one transaction; what is rolled back never was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from queuekit import Queue
from queuekit_integration.servers import Postgres, ProcessServer

PROGRAMS = {"with_psycopg": "orders", "with_sqlalchemy": "orders", "with_django": "shop_order"}
"""The programs, and the tables that they keep their orders in."""


@pytest.fixture(scope="module")
def server() -> Iterator[ProcessServer]:
    made = ProcessServer(Postgres())
    try:
        made.start()
        with psycopg.connect(made.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE shop LOGIN CREATEDB")
        yield made
    finally:
        made.close()


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def database(server: ProcessServer, program: str, request: pytest.FixtureRequest) -> str:
    """Make a database of the test's own, and return its address."""
    name = f"{program}_{abs(hash(request.node.name))}"
    address = server.url().replace("queuekit@", "shop@")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{address.rpartition('/')[0]}/{name}"


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name(f"{program}.py")), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stored(database: str, program: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """Return the orders, and the states of the jobs."""
    with psycopg.connect(database) as connection:
        orders = connection.execute(f"SELECT item, shipped FROM {PROGRAMS[program]} ORDER BY id").fetchall()
    with Queue(database) as queue:
        return orders, [info.state for info in queue.jobs()]


def test_an_order_is_placed_and_shipped_together_with_its_job(program: str, database: str) -> None:
    placed = run(program, database, "place", "book")
    assert placed.returncode == 0, placed.stderr
    assert stored(database, program) == ([("book", False)], ["pending"])
    worked = run(program, database, "work")
    assert (worked.returncode, worked.stdout) == (0, "shipped: book\n"), worked.stderr
    assert stored(database, program) == ([("book", True)], ["completed"])


def test_a_rollback_leaves_neither_an_order_nor_a_job(program: str, database: str) -> None:
    declined = run(program, database, "place", "yacht", "declined")
    assert (declined.returncode, declined.stderr) == (1, "yacht: the card was declined\n")
    assert stored(database, program) == ([], [])
    assert run(program, database, "work").stdout == "shipped:\n"
