"""What the driver promises beyond the catalogue, on a real node."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from queuekit import ConfigurationError, Job, Queue
from queuekit.contract import (
    Again,
    Dead,
    Delivery,
    DispatchTimeout,
    Done,
    DriverRejected,
    DriverUnavailable,
    Failure,
    Message,
    Patience,
    Released,
    SystemClock,
)
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit.move import move
from queuekit_integration.harness import wait_until
from queuekit_integration.servers import ProcessServer, RabbitMQ, free_port
from queuekit_integration.servers.rabbitmq import rabbitmqctl
from queuekit_rabbitmq import RabbitMQDriver

Make = Callable[..., RabbitMQDriver]


def message(body: str = "{}", **fields: Any) -> Message:
    return Message(new_id(), "default", "t", body, **fields)


def claim(driver: RabbitMQDriver, *, limit: int = 1) -> list[Delivery]:
    found: list[Delivery] = wait_until(lambda: driver.claim(["default"], limit=limit, lease=30), "a job", seconds=10)
    return found


def test_the_dead_are_replayed_under_their_id_in_the_next_generation_with_fresh_attempts(make: Make) -> None:
    driver = make()
    driver.send([message("first", priority=7, tags=("nightly",)), message("second")])
    dead = claim(driver, limit=2)
    failure = Failure(attempt=1, at=0.0, reason="error", kind="ValueError", message="no")
    assert driver.settle([Dead(each, "error", failure) for each in dead]) == ["applied", "applied"]
    assert driver.count(["default"])[0].failed == 2
    assert driver.replay("default") == [each.message.id for each in dead]
    assert driver.replay("default") == []
    again = claim(driver, limit=2)
    assert [(d.message.id, d.attempt, d.generation) for d in again] == [(d.message.id, 1, 1) for d in dead]
    assert (again[0].message.priority, again[0].message.tags, again[0].message.body) == (7, ("nightly",), "first")
    assert driver.count(["default"])[0].failed == 0
    driver.settle([Again(again[0])])
    assert (claim(driver)[0].attempt, driver.count(["default"])[0].running) == (2, 2)


def test_a_replay_that_fails_leaves_the_dead_to_the_next_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = make()
    driver.send([message()])
    [delivery] = claim(driver)
    driver.settle([Dead(delivery, "error")])

    def publish(*_: object, **__: object) -> None:
        raise DriverUnavailable("an alarm")

    with monkeypatch.context() as patch:
        patch.setattr(driver._sender, "publish", publish)
        with pytest.raises(DriverUnavailable, match="an alarm"):
            driver.replay("default")
    wait_until(lambda: driver.replay("default") == [delivery.message.id], "the dead job to be replayed", seconds=5)


def test_a_job_that_is_kept_for_no_time_is_not_among_the_dead(make: Make) -> None:
    driver = make()
    driver.send([message("short", retain=0.0)])
    [delivery] = claim(driver)
    assert driver.settle([Dead(delivery, "error")]) == ["applied"]
    assert driver.count(["default"])[0].failed == 0


def test_a_dead_job_says_why_in_its_headers(make: Make, node: ProcessServer, namespace: str) -> None:
    driver = make()
    driver.send([message("why")])
    [delivery] = claim(driver)
    failure = Failure(attempt=1, at=5.0, reason="error", kind="ValueError", message="no")
    driver.settle([Dead(delivery, "error", failure)])
    connection = pika.BlockingConnection(pika.URLParameters(node.url()))
    _, properties, body = connection.channel().basic_get(f"{namespace}:default:dead")
    connection.close()
    assert body == b"why"
    assert properties.headers["queuekit-reason"] == "error"
    assert '"kind":"ValueError"' in properties.headers["queuekit-error"]
    assert properties.message_id == delivery.message.id


def test_classic_queues_carry_jobs_too(make: Make) -> None:
    driver = make(queue_type="classic")
    driver.send([message("now"), message("later", delay=0.2)])
    assert [claim(driver)[0].message.body for _ in range(2)] == ["now", "later"]


def test_a_released_job_keeps_its_place_and_its_attempt(make: Make) -> None:
    driver, other = make(), make()
    driver.send([message(str(i)) for i in range(3)])
    first = claim(driver, limit=2)
    driver.settle([Released(each) for each in first])
    assert [(d.message.body, d.attempt) for d in claim(other, limit=3)] == [("0", 1), ("1", 1), ("2", 1)]


def test_delays_survive_the_death_of_the_broker(make: Make, node: ProcessServer) -> None:
    driver = make()
    driver.send([message("later", delay=6.0)])
    node.kill()
    node.start()
    found: list[Delivery] = wait_until(lambda: _claimed(driver), "the delayed job", seconds=20)
    assert found[0].message.body == "later"


def test_a_queue_that_somebody_deleted_is_waited_for_like_a_new_one(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    """A kill in the instant of the dispatch takes nothing from it (FLT-01-NEW shows the same of a new one)."""
    make().send([message("before")])
    connection = pika.BlockingConnection(pika.URLParameters(node.url()))
    connection.channel().queue_delete(f"{namespace}:default")
    connection.close()
    make().send([message("after")])
    node.kill()
    node.start()
    assert wait_until(lambda: _claimed(make()), "the job", seconds=20)[0].message.body == "after"


def test_who_has_no_time_to_wait_for_a_new_queue_is_told_so_and_waits_on_the_next_time(make: Make) -> None:
    driver = make()
    for _ in range(2):
        with pytest.raises(DispatchTimeout, match="before anything was sent"):
            driver.send([message("never", priority=9)], patience=Patience(0.5, clock=SystemClock()))
    driver.send([message("third", priority=9)], patience=Patience(0.6, clock=SystemClock()))
    assert [each.message.body for each in claim(driver, limit=5)] == ["third"]


@pytest.mark.parametrize("options", [{"new_queue_wait": 0}, {"queue_type": "classic"}])
def test_nobody_waits_for_new_queues_whose_broker_needs_it_not(make: Make, options: dict[str, Any]) -> None:
    driver = make(**options)
    begin = time.monotonic()
    driver.send([Message(new_id(), "fresh", "t", "{}")])
    assert time.monotonic() - begin < 1.0


def test_no_quorum_queue_leaves_its_delivery_limit_to_the_brokers_version(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    """From 4.0 on a limit that is left out is 20: looking at dead jobs would delete them, and at delayed ones send them early."""
    driver = make()
    driver.send([message("later", delay=6.0, priority=7), message("now")])
    driver.settle([Released(each) for each in claim(driver)])
    listed = rabbitmqctl(node, "list_queues", "name", "arguments", "--no-table-headers").splitlines()
    ours = dict(line.split("\t") for line in listed if line.startswith(f"{namespace}:"))
    quorum = {name for name, arguments in ours.items() if "quorum" in arguments}
    assert {f"{namespace}:default{end}" for end in ("", ":7", ":back", ":dead", ":delay:3")} <= quorum
    assert {name for name in quorum if "x-delivery-limit" not in ours[name]} == set()


def _claimed(driver: RabbitMQDriver) -> list[Delivery]:
    from queuekit.contract import DriverUnavailable  # noqa: PLC0415 - only here

    try:
        return driver.claim(["default"], limit=1, lease=30)
    except DriverUnavailable:
        return []


def test_the_next_node_is_tried_when_the_first_does_not_answer(node: ProcessServer, namespace: str) -> None:
    driver = connect(
        f"amqp://guest:guest@127.0.0.1:{free_port()},{node.host}:{node.port}/%2F", namespace=namespace, clock=None
    )
    driver.open()
    driver.send([message()])
    driver.close()


def test_every_slot_is_used_whichever_lane_the_jobs_are_in(make: Make, namespace: str) -> None:
    driver = make()
    driver.send([message(priority=9), message()])  # so that there are two lanes
    for delivery in claim(driver, limit=2):
        driver.settle([Done(delivery)])
    queue = Queue(driver, namespace=namespace)
    together = threading.Barrier(8)
    queue.register("long", lambda: together.wait(10))
    queue.dispatch_many(Job("long") for _ in range(8))
    with queue.worker(concurrency=8):
        wait_until(
            lambda: together.n_waiting == 0 and queue.stats().pending == 0 and queue.stats().in_flight == 0, "all"
        )
    assert not together.broken, "some slots stayed empty"


def test_jobs_come_in_order_and_uncharged_while_the_allowance_changes(make: Make) -> None:
    driver = make()
    driver.send([message(str(number)) for number in range(2000)])
    came: list[Delivery] = []
    for limit in itertools.cycle((1, 20, 3, 150, 40, 2)):
        for wait in (0.0, 5.0):
            found = driver.claim(["default"], limit=limit, free=1, lease=30, wait=wait)
            driver.settle([Done(delivery) for delivery in found])
            came += found
        if len(came) >= 2000:
            break
    assert [delivery.message.body for delivery in came] == [str(number) for number in range(2000)]
    assert {(delivery.attempt, delivery.recovered) for delivery in came} == {(1, False)}


def test_pushed_bodies_of_every_size_arrive_whole_and_in_order(make: Make) -> None:
    sizes = [0, 1, 1000, 131_064, 131_065, 300_000, 3 << 20, 5]
    driver = make()
    assert driver.claim(["default"], limit=20, lease=30, wait=0.1) == []  # from now on it is pushed
    driver.send([message("x" * size, tags=("t",) if size % 2 else ()) for size in sizes])
    came: list[Delivery] = []
    wait_until(
        lambda: came.extend(driver.claim(["default"], limit=20, lease=30, wait=1)) or len(came) == len(sizes), "all"
    )
    assert [len(delivery.message.body) for delivery in came] == sizes
    assert [bool(delivery.message.tags) for delivery in came] == [bool(size % 2) for size in sizes]


def test_every_virtual_host_is_a_world_of_its_own(make: Make, node: ProcessServer, namespace: str) -> None:
    rabbitmqctl(node, "add_vhost", namespace)
    rabbitmqctl(node, "set_permissions", "-p", namespace, "guest", ".*", ".*", ".*")
    try:
        inside, outside = make(f"amqp://guest:guest@{node.host}:{node.port}/{namespace}"), make()
        inside.send([message("inside")])
        assert outside.claim(["default"], limit=1, lease=30) == []
        assert claim(inside)[0].message.body == "inside"
    finally:
        rabbitmqctl(node, "delete_vhost", namespace)


def test_the_documented_privileges_are_enough_and_no_name_outside_of_the_namespace_is_needed(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    rabbitmqctl(node, "add_user", namespace, "secret")
    own = f"^({namespace}:.*|amq\\.gen-.*)$"
    rabbitmqctl(node, "set_permissions", namespace, own, f"^({namespace}:.*|amq\\.(gen-.*|default))$", own)
    try:
        driver = make(f"amqp://{namespace}:secret@{node.host}:{node.port}/%2F")
        driver.send([message("a"), message("b", delay=0.1), message("c", priority=9)])
        found = [claim(driver)[0] for _ in range(3)]
        assert driver.settle([Again(found[0], 0.1), Released(found[1]), Dead(found[2], "error")]) == ["applied"] * 3
        assert driver.claim(["default"], limit=1, lease=30, wait=2)
        assert driver.count(["default"])[0].failed == 1
        driver.purge("default")
    finally:
        rabbitmqctl(node, "delete_user", namespace)


def test_other_arguments_of_a_queue_are_refused_in_a_sentence_and_at_once(make: Make, node: ProcessServer) -> None:
    make()
    with pytest.raises(DriverRejected, match="other arguments"):
        make(delivery_limit=5)


def test_tls_is_spoken_and_an_unknown_certificate_refused(tmp_path: Path, namespace: str) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    settings = {
        "listeners.ssl.default": str(port),
        "ssl_options.certfile": str(certificate),
        "ssl_options.keyfile": str(key),
        "ssl_options.cacertfile": str(certificate),
    }
    node = ProcessServer(RabbitMQ(settings), folder=tmp_path / "node")
    (tmp_path / "node").mkdir()
    node.start()
    try:
        address = f"amqps://guest:guest@127.0.0.1:{port}/%2F"
        with pytest.raises(DriverRejected, match="certificate is not trusted"):
            connect(address, namespace=namespace, clock=None).open()
        driver = connect(f"{address}?cafile={certificate}", namespace=namespace, clock=None)
        driver.open()
        driver.send([message()])
        driver.close()
    finally:
        node.close()


def test_a_move_to_itself_is_refused_by_whatever_address(make: Make, node: ProcessServer) -> None:
    driver, alias = make(), make(node.url().replace("127.0.0.1", "localhost"))
    driver.send([message(str(number)) for number in range(3)])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        move(driver, alias, clock=SystemClock(), queues=["default"])
    assert "here." not in rabbitmqctl(node, "list_bindings", "routing_key"), "the probe was left behind"
    assert [delivery.message.body for delivery in claim(driver, limit=3)] == ["0", "1", "2"]


def test_a_move_to_another_namespace_of_one_host_brings_all(make: Make, node: ProcessServer) -> None:
    driver = make()
    driver.send([message(str(number)) for number in range(3)])
    other = connect(f"{node.url()}?delay_unit=0.01", namespace=f"{driver.namespace}-e", clock=None)
    other.open()
    [result] = move(driver, other, clock=SystemClock(), queues=["default"])
    assert result.moved == 3
    assert driver.count(["default"])[0].pending == 0
    other.close()
