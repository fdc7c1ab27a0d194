"""A real Sentinel that fails over from a killed primary to its replica."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis

from queuekit.contract import DriverUnavailable, Message
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit_integration.harness import wait_until
from queuekit_integration.servers import ProcessServer, Redis


class Sentinel(Redis):
    """A sentinel that watches one primary and decides alone, after half a second."""

    name: ClassVar[str] = "sentinel"

    def __init__(self, primary: ProcessServer) -> None:
        super().__init__()
        self._primary = primary

    def command(self, folder: Path, port: int) -> list[str]:
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {port}\ndir {folder}\nsentinel monitor main 127.0.0.1 {self._primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        program = self.program()
        assert program is not None
        return [program, str(file), "--sentinel"]


@pytest.fixture
def servers() -> Iterator[tuple[ProcessServer, ProcessServer, ProcessServer]]:
    primary, replica = ProcessServer(Redis()), ProcessServer(Redis())
    sentinel = ProcessServer(Sentinel(primary))
    try:
        primary.start()
        replica.start()
        with redis.Redis(port=replica.port) as client:
            client.replicaof("127.0.0.1", primary.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")
        sentinel.start()
        yield primary, replica, sentinel
    finally:
        for server in (sentinel, replica, primary):
            server.close()


def test_a_failover_by_sentinel_is_followed(servers):
    primary, replica, sentinel = servers
    address = f"redis://127.0.0.1:{sentinel.port}/0?sentinel=main&socket_timeout=1&connect_timeout=1"
    driver: Any = connect(address, namespace="queuekit", clock=None)
    driver.open()
    messages = [Message(new_id(), "default", "t", str(number)) for number in range(20)]
    driver.send(messages)
    with redis.Redis(port=sentinel.port) as client:
        wait_until(lambda: client.sentinel_slaves("main"), "the sentinel to know the replica")
    with redis.Redis(port=primary.port) as client:
        assert client.wait(1, 5000) == 1
    primary.kill()
    with pytest.raises(DriverUnavailable):
        driver.send([Message(new_id(), "default", "t", "lost")])
    wait_until(lambda: sends(driver), "the promoted replica to take jobs", seconds=40)
    found = driver.claim(["default"], limit=100, lease=10)
    assert {message.id for message in messages} <= {delivery.message.id for delivery in found}
    driver.close()
    with redis.Redis(port=replica.port) as client:
        assert client.info("replication")["role"] == "master"


@pytest.mark.parametrize("count", [1, 600])
def test_what_a_demoted_primary_refuses_was_stored_nowhere_and_that_is_said(servers, count):
    """The client says then that the connection broke, as if it might have been stored."""
    primary, replica, sentinel = servers
    address = f"redis://127.0.0.1:{sentinel.port}/0?sentinel=main&socket_timeout=1&connect_timeout=1"
    driver: Any = connect(address, namespace="queuekit", clock=None)
    driver.open()
    driver.send([Message(new_id(), "default", "t", "before")])
    messages = [Message(new_id(), "default", "t", str(number)) for number in range(count)]
    with redis.Redis(port=primary.port) as client:
        client.replicaof("127.0.0.1", replica.port)
    with pytest.raises(DriverUnavailable, match="READONLY"):
        driver.send(messages)
    with pytest.raises(DriverUnavailable, match="READONLY"):
        driver.claim(["default"], limit=1, lease=10)
    driver.close()


def sends(driver: Any) -> bool:
    try:
        driver.send([Message(new_id(), "default", "t", "after")])
    except DriverUnavailable:
        return False
    return True
