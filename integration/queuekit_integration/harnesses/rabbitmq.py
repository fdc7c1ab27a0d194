"""The harness of the RabbitMQ driver: cells are told apart by namespace, and time is the broker's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pika

from queuekit.clock import VirtualClock
from queuekit.contract import Done, Driver, DriverError, DriverRejected, DriverUnavailable
from queuekit.drivers import connect
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.harnesses.sqs import PassingClock
from queuekit_integration.servers import Kind, ProcessServer, RabbitMQ, free_port
from queuekit_integration.servers.rabbitmq import rabbitmqctl
from queuekit_integration.weaker import ids_are_not_unique

__all__ = ["RabbitMQHarness"]

UNIT = 0.01
"""The delay ladder's finest step in tests, in seconds."""
TOGETHER = 25
"""Cells after which the node forgets them all: a node with thousands of queues would be slow to restart."""
ENDED: list[str] = []
"""The namespaces of cells whose queues are still there, on this process's node."""
FORGET = """
    Ours = fun({resource, _, _, Name}) -> re:run(Name, <<"^(%s)(-e)?:">>, [{capture, none}]) =:= match end,
    [catch rabbit_amqqueue:with(Name, fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<"tests">>) end)
        || Name <- rabbit_amqqueue:list_names(), Ours(Name)],
    [catch rabbit_exchange:delete(Name, false, <<"tests">>) || Name <- rabbit_exchange:list_names(), Ours(Name)],
    ok.
"""
"""The queues of a server that is not ours cannot be listed, and stay."""


def leases_end_with_their_connection(h: Harness) -> None:
    """Show when a lease ends: not by time, but with the connection of whoever holds it, and then at once."""
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    held = h.claim_one(one, lease=0.1)
    h.advance(0.3)
    assert two.claim(["default"], limit=1, lease=10) == [], "time ended a lease"
    assert one.extend([held], lease=0.1)[0].held
    one.close()
    [again] = wait_until(lambda: two.claim(["default"], limit=1, lease=10), "the job to come back", seconds=5)
    assert (again.message.id, again.attempt, again.recovered) == (held.message.id, 2, True)
    assert again.token != held.token
    assert two.settle([Done(again)]) == ["applied"]


def delays_are_real(h: Harness) -> None:
    """Let delays really pass: none is early, a short one does not wait behind a long one, and each ends within the resolution."""
    driver = h.driver()
    begin = time.monotonic()
    driver.send([h.message(str(delay), delay=delay) for delay in (1.0, 0.3, 10 * 86_400.0)])
    took = time.monotonic() - begin  # the ladder is made first
    came: list[float] = []
    for delay in (0.3, 1.0):
        [found] = wait_until(lambda: driver.claim(["default"], limit=5, lease=60), f"the delay of {delay} s", seconds=5)
        came.append(time.monotonic() - begin)
        assert found.message.body == str(delay)
        assert delay <= came[-1] <= delay + took + driver.limits.resolution + 1.0, (
            f"a delay of {delay} s ended after {came}, {took} s of that sending"
        )
    assert driver.claim(["default"], limit=5, lease=60) == []


def jobs_survive_the_death_of_the_broker(h: Harness) -> None:
    """Kill the node under ready, delayed, lent and just acknowledged jobs: of those that were not settled none is lost, and none is early."""
    driver, server = h.driver(), h.server
    assert server is not None
    begin = time.monotonic()
    driver.send([h.message(f"ready {number}") for number in range(20)])
    driver.send([h.message(f"delayed {number}", delay=3.0) for number in range(20)])
    lent = wait_until(lambda: driver.claim(["default"], limit=15, lease=60), "jobs to be lent")
    assert driver.settle([Done(delivery) for delivery in lent[:5]]) == ["applied"] * 5
    settled = {delivery.message.body for delivery in lent[:5]}
    server.kill()
    h.fired("kill")
    server.start()
    other, came = h.driver(), set[str]()

    def all_came() -> bool:
        for delivery in other.claim(["default"], limit=50, lease=60):
            body = delivery.message.body
            assert not body.startswith("delayed") or time.monotonic() - begin >= 3.0, f"{body} came early"
            came.add(body)
        return len(came - settled) == 35

    wait_until(all_came, "all jobs that were not settled to come again", seconds=30)
    assert driver.settle([Done(delivery) for delivery in lent[5:]]) == ["lost"] * len(lent[5:])


@dataclass
class RabbitMQHarness(ServedHarness):
    """The RabbitMQ driver on this process's own node."""

    name: str = "rabbitmq"
    kind: ClassVar[Kind] = RabbitMQ()
    clock: VirtualClock = field(default_factory=PassingClock)
    virtual: ClassVar[bool] = False
    silence: ClassVar[float] = 30.0
    without: ClassVar[Mapping[str, Weaker]] = {
        "lease": Weaker(
            "a lease ends with its holder's connection, at once, and not by time",
            shown_by=leases_end_with_their_connection,
        ),
        "lasting": Weaker(
            "an acknowledgement has no answer of its own: a job that was settled in the last instant before the broker died may run again",
            shown_by=jobs_survive_the_death_of_the_broker,
        ),
        "unique_ids": Weaker(
            "a second dispatch with the id of an earlier one is a job of its own", shown_by=ids_are_not_unique
        ),
        "virtual_time": Weaker(
            "the broker's clock is nobody's to move: a delay of a second is watched in real time",
            shown_by=delays_are_real,
        ),
    }
    expectations: ClassVar[Mapping[str, Expectation]] = {}

    def address(self, url: str) -> str:
        """Ask for a fine ladder; and where the node surely lives on, not to wait as long for every queue that is made."""
        wait = "&new_queue_wait=0.1" if self._node_lives_on() else ""
        return f"{url}?delay_unit={UNIT}{wait}"

    def _node_lives_on(self) -> bool:
        found = self.scenario
        return found is not None and not (found.timing or found.faults or "diagnose" in found.needs)

    def make_driver(self, *, virtual: bool) -> Driver:  # noqa: ARG002 - time is always real here
        """Build the driver from the address, as a user does."""
        return connect(self.url(), namespace=self.namespace, clock=None)

    def client(self) -> pika.BlockingConnection:
        """Return a client of the broker, past the driver under test."""
        return pika.BlockingConnection(pika.URLParameters(self.server.url()))

    def write_garbage(self, body: bytes) -> None:
        """Publish a body past the driver."""
        connection = self.client()
        connection.channel().basic_publish("", f"{self.namespace}:default", body)
        connection.close()

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Choose options that weaken a promise; nothing changes in the broker."""
        for setting, value in (
            ("queue_type", "classic"),
            ("delivery_limit", "3"),
            ("heartbeat", "120"),
            ("new_queue_wait", "0"),
        ):
            yield setting, connect(f"{self.url()}&{setting}={value}", namespace=self.namespace, clock=None)

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Refuse the password, the virtual host, the port and a queue that is there already, but otherwise."""
        host = f"{self.server.host}:{self.server.port}"
        for name, address, kind in (
            ("wrong password", f"amqp://guest:wrong@{host}/%2F", DriverRejected),
            ("no such virtual host", f"amqp://guest:guest@{host}/nowhere", DriverRejected),
            ("nobody listens", f"amqp://guest:guest@127.0.0.1:{free_port()}/%2F", DriverUnavailable),
        ):
            yield name, connect(address, namespace=self.namespace, clock=None).open, kind
        other = connect(f"{self.url()}&delivery_limit=7", namespace=self.namespace, clock=None)
        self.make_driver(virtual=False).prepare(["default"])
        self._drivers.append(other)
        yield "other arguments", lambda: other.prepare(["default"]), DriverRejected

    def close(self) -> None:
        """End what this cell started; what it made in the broker goes with that of some others, for asking the node costs a second."""
        super().close()
        if isinstance(self._server, ProcessServer):
            ENDED.append(self.namespace)
            if len(ENDED) >= TOGETHER:
                rabbitmqctl(self._server, "eval", FORGET % "|".join(ENDED))
                ENDED.clear()
