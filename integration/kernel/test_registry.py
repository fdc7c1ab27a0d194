"""The guard around the catalogue: nothing is dropped, doubled, overridden or misspelt."""

from __future__ import annotations

import ast
import socket
from pathlib import Path

import pytest

import queuekit_integration
from queuekit.contract import Driver
from queuekit_integration import harnesses
from queuekit_integration.cells import REFUSALS, Cell, NotRunError, run
from queuekit_integration.harnesses import OWN, harness
from queuekit_integration.harnesses.embedded import MemoryHarness, SqliteHarness
from queuekit_integration.registry import SCENARIOS, Scenario, load, scenario

load()
CATALOGUE = Path(queuekit_integration.__file__).parent / "catalogue"


def test_every_scenario_function_is_registered() -> None:
    written = set()
    for path in CATALOGUE.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        written |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("scenario_")}
    assert written == {s.function for s in SCENARIOS.values()}


def test_every_scenario_asserts_something() -> None:
    for path in CATALOGUE.glob("*.py"):
        functions = {n.name: n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)}
        asserting = {name for name, function in functions.items() if asserts(function)}
        for name, function in functions.items():
            if name.startswith("scenario_"):
                assert name in asserting or called_by(function) & asserting, name


def asserts(function: ast.FunctionDef) -> bool:
    source = ast.unparse(function)
    return "assert " in source or "pytest.raises" in source or "wait_until" in source


def called_by(function: ast.FunctionDef) -> set[str]:
    """Return the names of functions that it calls: an assertion may stand in one that several scenarios share."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {call.id for call in calls if isinstance(call, ast.Name)}


def test_a_misspelt_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="no need 'brows'"):
        scenario("X-1", needs=("brows",))


def test_an_id_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="two scenarios"):
        scenario("DEL-01")(lambda h: None)


SOCKETS: list[socket.socket] = []


class Cheating(MemoryHarness):
    def scenario_del_01(self) -> None: ...


def test_a_driver_that_overrides_a_scenario_is_refused() -> None:
    with pytest.raises(LookupError, match="overrides scenario_del_01"):
        harness(f"{__name__}:Cheating")


def test_what_is_no_harness_is_refused() -> None:
    with pytest.raises(LookupError, match="no Harness"):
        harness("queuekit.memory:MemoryDriver")


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(LookupError, match="nosuch"):
        harness("nosuch")


def test_a_column_appears_with_its_drivers_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harnesses, "available", lambda: {"memory": None})
    assert harnesses.names() == ("memory",)
    with pytest.raises(LookupError, match="none of memory"):
        harness("sqlite")
    every = {scheme for column in OWN for scheme in harnesses.schemes(column)}
    monkeypatch.setattr(harnesses, "available", lambda: dict.fromkeys(every))
    assert harnesses.names() == tuple(OWN)
    monkeypatch.setattr(harnesses, "available", lambda: {"memory": None, "sqlite": None, "amqp": None})
    assert harnesses.names() == ("memory", "sqlite", "rabbitmq", "rabbitmq+sqlite"), "a pair needs both its halves"


def test_faults_need_a_server() -> None:
    with pytest.raises(ValueError, match="add the need 'server'"):
        scenario("X-2", faults=("kill",))


def test_a_fault_of_a_server_is_told_apart_from_a_refusal_where_there_is_none() -> None:
    class Chatty(MemoryHarness):
        """Speaks to somebody after all."""

        def driver(self) -> Driver:
            SOCKETS.append(socket.socket())
            return super().driver()

    struck = Scenario("X-3", "struck", lambda h: None, "contract", ("server",), ("kill",), False)
    assert run(Cell(MemoryHarness, struck)) == "no_server"
    with pytest.raises(AssertionError, match="opened 1 sockets"):
        run(Cell(Chatty, struck))
    for opened in SOCKETS:
        opened.close()


def test_a_column_without_its_server_says_why() -> None:
    class Nowhere(MemoryHarness):
        @classmethod
        def unavailable(cls) -> str:
            return "no server here"

    with pytest.raises(NotRunError, match="no server here"):
        run(Cell(Nowhere, SCENARIOS["DEL-01"]))


def test_own_drivers_have_every_feature_of_the_contract() -> None:
    """memory and SQLite refuse nothing but what no embedded driver can do; nor do they have a bound on connections, or a clock of their own."""
    from queuekit_integration.harness import cell  # noqa: PLC0415 - only here

    every = tuple({need for s in SCENARIOS.values() for need in s.needs} | {"server"} | set(REFUSALS))
    with cell(MemoryHarness) as h:
        assert set(h.lacks(every)) == {
            "connections",
            "file",
            "keyspace",
            "migrate",
            "pair",
            "processes",
            "server",
            "server_clock",
            "sessions",
            "transactional",
            "transactional_settle",
        }
    with cell(SqliteHarness) as h:
        assert set(h.lacks(every)) == {"connections", "keyspace", "pair", "server", "server_clock", "sessions"}


def test_an_unmet_need_runs_its_refusal() -> None:
    assert run(Cell(MemoryHarness, SCENARIOS["DEL-16"])) == "refused"
