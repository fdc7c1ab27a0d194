"""The contract's scenarios on a real cluster of three nodes, and a slot that moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis
from redis.crc import key_slot

from queuekit.contract import Done, Driver, Message
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit_integration.cells import Cell, run
from queuekit_integration.harness import wait_until
from queuekit_integration.harnesses.redis import RedisHarness
from queuekit_integration.registry import load
from queuekit_integration.servers.cluster import RedisCluster, command

ELSEWHERE = {"server", "keyspace", "processes", "connections", "diagnose"}
"""What is about the server itself and not about its keys."""
SCENARIOS = [
    scenario
    for scenario in load().values()
    if scenario.suite == "contract" and not ELSEWHERE.intersection(scenario.needs)
]


class ClusterHarness(RedisHarness):
    """The driver on a cluster."""

    cluster: ClassVar[RedisCluster]

    def url(self, **_: Any) -> str:
        return address(self.cluster)

    def make_driver(self, *, virtual: bool) -> Driver:
        return connect(self.url(), namespace=self.namespace, clock=self.clock if virtual else None)

    def client(self) -> Any:
        return redis.RedisCluster(host="127.0.0.1", port=self.cluster.nodes[0].port)


def address(cluster: RedisCluster) -> str:
    first, *others = cluster.nodes
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in others)
    return f"redis://127.0.0.1:{first.port}?cluster=true&nodes={nodes}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    made = RedisCluster()
    try:
        made.start()
        ClusterHarness.cluster = made
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_a_cluster_keeps_the_contract(cluster, scenario):
    assert run(Cell(ClusterHarness, scenario)) in {"holds", "refused", "no_file"}


def test_namespaces_lie_on_different_nodes(cluster):
    names = [f"n{number}" for number in range(20)]
    drivers = [connect(address(cluster), namespace=name, clock=None) for name in names]
    for driver in drivers:
        driver.send([Message(new_id(), "default", "t", "{}")])
    sizes = [int(command(node, "DBSIZE")[1:]) for node in cluster.nodes]
    assert all(sizes), f"not every node has a part: {sizes}"
    for driver in drivers:
        [delivery] = driver.claim(["default"], limit=2, lease=10)
        assert driver.settle([Done(delivery)]) == ["applied"]
        driver.close()


def test_a_slot_that_moved_is_found_again(cluster):
    driver: Any = connect(address(cluster), namespace="moving", clock=None)
    driver.open()
    driver.send([Message(new_id(), "default", "t", "{}")])
    slot = key_slot(b"moving")
    old = next(node for node in cluster.nodes if int(command(node, "CLUSTER", "COUNTKEYSINSLOT", str(slot))[1:]))
    new = next(node for node in cluster.nodes if node is not old)
    move(cluster, slot, old, new)
    driver.send([Message(new_id(), "default", "t", "{}")])
    assert len(driver.claim(["default"], limit=5, lease=10)) == 2
    driver.close()


def move(cluster: RedisCluster, slot: int, old: Any, new: Any) -> None:
    """Move a slot with its keys, as redis-cli does."""
    names = {node.port: command(node, "CLUSTER", "MYID").split(b"\r\n")[1].decode() for node in cluster.nodes}
    command(new, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[old.port])
    command(old, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[new.port])
    with redis.Redis(port=old.port) as client:
        keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        client.execute_command("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
    for node in (new, old):
        command(node, "CLUSTER", "SETSLOT", str(slot), "NODE", names[new.port])
    wait_until(lambda: b"moved" in _where(old, slot), "the old node to know of it")


def _where(node: Any, slot: int) -> bytes:
    with redis.Redis(port=node.port) as client:
        try:
            client.get("{moving}")
        except redis.exceptions.MovedError:
            return b"moved"
    return b""
