"""Servers for tests: they answer, keep or lose their data as asked, and never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit_integration.servers import (
    CannotCauseError,
    GivenServer,
    Kind,
    Postgres,
    ProcessServer,
    Redis,
    ServerError,
    providers,
)
from queuekit_integration.servers.tree import alive, descendants

KINDS = {"redis": Redis, "postgres": Postgres}


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    made = KINDS[request.param]()
    if reason := providers.unavailable(made):
        pytest.skip(reason)
    return made


@pytest.fixture
def server(kind) -> Iterator[ProcessServer]:
    made = ProcessServer(kind)
    made.start()
    yield made
    made.close()


@pytest.fixture
def redis() -> Iterator[ProcessServer]:
    if reason := providers.unavailable(Redis()):
        pytest.skip(reason)
    made = ProcessServer(Redis())
    made.start()
    yield made
    made.close()


def say(port: int, line: str) -> bytes:
    """Give Redis one command."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(line.encode() + b"\r\n")
        return connection.recv(4096)


def answers(server: ProcessServer) -> bool:
    return server.kind.answers(server.host, server.port)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def wait(predicate, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


def test_a_server_answers_once_it_has_started_and_is_gone_once_it_was_closed(kind):
    server = ProcessServer(kind)
    server.start()
    pids = [server.pid, *descendants(server.pid)]
    assert answers(server)
    server.close()
    assert gone(pids)
    assert not server.data.parent.exists()


def test_starting_twice_is_one_server(server):
    pid = server.pid
    server.start()
    assert server.pid == pid


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_ended_starts_again_on_its_port(server, end):
    pids = [server.pid, *descendants(server.pid)]
    getattr(server, end)()
    assert gone(pids)
    assert not answers(server)
    server.start()
    assert answers(server)
    assert server.pid not in pids


def test_no_process_of_a_frozen_server_runs_until_it_is_thawed(server):
    server.freeze()
    assert state(server.pid) == "T"
    # A session that ended just before is a zombie until the server, once thawed, buries it.
    assert {state(pid) for pid in descendants(server.pid)} <= {"T", "Z"}
    server.thaw()
    wait(lambda: answers(server))


@pytest.mark.parametrize("harm", ["stop", "kill", "freeze"])
def test_healing_undoes_every_fault(server, harm):
    getattr(server, harm)()
    server.heal()
    assert answers(server)


def test_data_survive_a_kill_and_go_with_a_wipe(redis):
    assert say(redis.port, "SET a 1") == b"+OK\r\n"
    redis.kill()
    redis.start()
    assert say(redis.port, "GET a") == b"$1\r\n1\r\n"
    redis.restart(wipe=True)
    assert say(redis.port, "GET a") == b"$-1\r\n"


def test_the_data_of_a_running_server_are_not_removed(redis):
    with pytest.raises(ServerError, match="stop it before"):
        redis.wipe()


def test_a_server_that_cannot_start_says_what_it_logged():
    server = ProcessServer(Redis({"no-such-setting": "1"}))
    with pytest.raises(ServerError, match="no-such-setting"):
        server.start()
    server.close()


OWNER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
from queuekit_integration.servers import ProcessServer, Postgres, Redis
server = ProcessServer({kind}())
server.start()
print(server.pid, server.data.parent, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_with_its_owner_however_that_ends(kind, number):
    program = OWNER.format(kind=type(kind).__name__)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        pid, _, folder = owner.stdout.readline().strip().partition(" ")
        pids = [int(pid), *descendants(int(pid))]
        assert alive(int(pid))
        os.kill(owner.pid, number)
    wait(lambda: gone(pids))
    wait(lambda: not Path(folder).exists())


def test_a_frozen_server_ends_with_its_owner_too():
    program = OWNER.format(kind="Redis").replace("print(", "server.freeze(); print(")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        pid = int(owner.stdout.readline().split()[0])
        owner.kill()
    wait(lambda: gone([pid]))


def test_an_address_from_the_environment_comes_first(redis, monkeypatch):
    monkeypatch.setenv("QUEUEKIT_TEST_REDIS_URL", redis.url())
    found = providers.provide(Redis())
    assert isinstance(found, GivenServer)
    assert found.url() == redis.url()
    assert found.faults == {"proxy"}
    with pytest.raises(CannotCauseError, match="QUEUEKIT_TEST_REDIS_URL"):
        found.kill()


def test_an_address_that_does_not_answer_is_an_error_and_no_reason_to_start_another(monkeypatch):
    monkeypatch.setenv("QUEUEKIT_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(ServerError, match="does not answer"):
        providers.provide(Redis())


def test_a_given_address_keeps_its_credentials_through_a_proxy():
    given = GivenServer(Postgres(), "postgresql://me:secret@db.example:5433/jobs?sslmode=require")
    assert given.url(port=7) == "postgresql://me:secret@127.0.0.1:7/jobs?sslmode=require"


def test_where_no_server_can_be_had_the_reason_names_what_was_looked_for(monkeypatch):
    monkeypatch.delenv("QUEUEKIT_TEST_REDIS_URL", raising=False)
    monkeypatch.setattr(Redis, "program", lambda self: None)
    with pytest.raises(ServerError, match="QUEUEKIT_TEST_REDIS_URL is not set"):
        providers.provide(Redis())


def test_the_shared_server_is_one_and_heals_between_tests():
    if reason := providers.unavailable(Redis()):
        pytest.skip(reason)
    first = providers.server(Redis())
    first.freeze()
    assert providers.server(Redis()) is first
    assert answers(first)
    providers.close_servers()
    assert not first.running
