"""What a broker does to its clients, and what the driver makes of it (FQ-01 to FQ-12 of the plan)."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from queuekit import Job, Queue
from queuekit.contract import (
    AmbiguousSend,
    BackendFull,
    Delivery,
    DispatchTimeout,
    Done,
    DriverRejected,
    DriverUnavailable,
    Message,
    PartialSend,
    Patience,
    QueueClosed,
    Released,
    SystemClock,
)
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import wait_until
from queuekit_integration.servers import ProcessServer, RabbitMQ
from queuekit_integration.servers.rabbitmq import rabbitmqctl
from queuekit_rabbitmq import RabbitMQDriver
from queuekit_rabbitmq.broker import Broker

Make = Callable[..., RabbitMQDriver]
FOR_EVER = "1000000000000000"


def message(body: str = "{}", **fields: Any) -> Message:
    return Message(new_id(), fields.pop("queue", "default"), "t", body, **fields)


def claim(driver: RabbitMQDriver, *, seconds: float = 10.0, limit: int = 1) -> list[Delivery]:
    """Claim, and wait for it without letting the broker push."""
    found: list[Delivery] = wait_until(
        lambda: driver.claim(["default"], limit=limit, lease=30), "a job to be claimable", seconds=seconds
    )
    return found


def within(seconds: float) -> Patience:
    return Patience(seconds, clock=SystemClock())


def client(node: ProcessServer) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(node.url()))


def test_fq_01_a_channel_that_the_server_closes_gives_its_jobs_back_and_is_replaced(make: Make) -> None:
    driver, other = make(), make()
    driver.send([message()])
    [held] = claim(driver)
    session: Any = driver._links._lending.session
    session.call(lambda: session.channel.basic_ack(4711))
    wait_until(lambda: not session.alive, "the server to close the channel")
    assert driver.extend([held], lease=30)[0].held is False
    [again] = claim(other)
    assert (again.message.id, again.attempt, again.recovered) == (held.message.id, 2, True)
    assert driver.settle([Done(held)]) == ["lost"], "an old delivery was acknowledged on a new channel"
    assert other.settle([Done(again)]) == ["applied"]
    driver.send([message("next")])
    assert claim(driver)[0].message.body == "next"


def test_what_was_lost_stays_lost_when_it_is_settled_again(make: Make, node: ProcessServer) -> None:
    proxy = Proxy(node.host, node.port)
    driver = make(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F")
    driver.send([message()])
    held = claim(driver)
    proxy.reset_on(b"\x00\x3c\x00\x50", direction="up")
    proxy.refuse()
    settled, lent = driver.exchange([Done(delivery) for delivery in held], ["default"], limit=5, lease=30)
    assert (settled, lent) == (["lost"], []), "the answer was dropped because nothing could be lent"
    assert driver.settle([Done(delivery) for delivery in held]) == ["lost"]
    proxy.heal()
    proxy.close()


def test_fq_02_a_queue_deleted_under_its_consumer_is_made_again(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    driver = make()
    assert driver.claim(["default"], limit=1, lease=30, wait=0.2) == []
    session = driver._links._lending.session
    connection = client(node)
    connection.channel().queue_delete(f"{namespace}:default")
    connection.close()
    consumer: Any = driver._links._lending.consumer
    wait_until(
        lambda: consumer._sources[f"{namespace}:default"].subscription is None, "the broker to cancel the consumer"
    )
    sender = make()
    sender.send([message("after")])
    found = wait_until(lambda: driver.claim(["default"], limit=1, lease=30, wait=0.5), "the job to be pushed")
    assert found[0].message.body == "after"
    assert driver._links._lending.session is session, "the connection was given up for a deleted queue"


def test_fq_02_what_is_sent_to_a_deleted_queue_is_sent_again_to_a_new_one(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    driver = make()
    driver.send([message(priority=9)])
    connection = client(node)
    for name in (f"{namespace}:default", f"{namespace}:default:9"):
        connection.channel().queue_delete(name)
    connection.close()
    driver.send([message("a"), message("b", priority=9)])
    assert [delivery.message.body for delivery in claim(driver, limit=2)] == ["b", "a"]


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_fq_03_and_04_an_alarm_ends_a_dispatch_in_time_and_lets_workers_drain(
    make: Make, node: ProcessServer, alarm: str
) -> None:
    raised, ended = {
        "memory": (["set_vm_memory_high_watermark", "absolute", "1"], ["set_vm_memory_high_watermark", "0.6"]),
        "disk": (["set_disk_free_limit", FOR_EVER], ["set_disk_free_limit", "50MB"]),
    }[alarm]
    driver = make()
    driver.send([message("before")])
    rabbitmqctl(node, *raised)
    try:
        with pytest.raises(AmbiguousSend):  # a client learns of an alarm by publishing
            driver.send([message("during")], patience=within(1.0))
        with pytest.raises(DispatchTimeout, match=r"takes no messages at the moment: low on"):
            driver.send([message("never")], patience=within(0.3))
        [delivery] = claim(driver)
        assert delivery.message.body == "before"
        assert driver.settle([Done(delivery)]) == ["applied"]
    finally:
        rabbitmqctl(node, *ended)
    driver.send([message("after")])
    bodies = [claim(driver)[0].message.body for _ in range(2)]
    assert bodies == ["during", "after"], "what had left came once, what had not never did"


def test_fq_05_a_delivery_held_too_long_costs_its_channel_and_is_lent_again(namespace: str, tmp_path: Any) -> None:
    node = ProcessServer(RabbitMQ({"consumer_timeout": "1500"}), folder=tmp_path)
    node.start()
    try:
        driver = connect(node.url(), namespace=namespace, clock=None)
        driver.open()
        driver.send([message()])
        [held] = wait_until(lambda: driver.claim(["default"], limit=1, lease=30), "the job")
        wait_until(lambda: not driver.extend([held], lease=30)[0].held, "the broker to take it back", seconds=10)
        [again] = wait_until(lambda: driver.claim(["default"], limit=1, lease=30), "the job to come back")
        assert again.attempt == 2
        assert driver.settle([Done(held)]) == ["lost"]
        assert driver.settle([Done(again)]) == ["applied"]
        driver.close()
    finally:
        node.close()


def test_fq_05_a_job_held_for_as_long_as_the_broker_allows_is_handed_on_before(make: Make) -> None:
    driver = make(consumer_timeout=0.5)
    driver.send([message("long"), message("other")])
    long, other = claim(driver, limit=2)
    assert driver.limits.longest_lease is not None
    wait_until(lambda: not driver.extend([long], lease=30)[0].held, "its time to end")
    assert driver.settle([Done(long)]) == ["already_settled"]
    assert driver.settle([Done(other)]) == ["applied"], "one job's time ended another one's lease"
    [again] = claim(driver)
    assert (again.message.id, again.attempt) == (long.message.id, 2)


def test_fq_06_closed_connections_are_made_again_and_what_was_on_its_way_is_ambiguous(
    make: Make, node: ProcessServer
) -> None:
    driver = make()
    driver.send([message("before")])
    [held] = claim(driver)
    node.freeze()
    outcome: list[BaseException] = []

    def send() -> None:
        try:
            driver.send([message("on its way")])
        except AmbiguousSend as error:
            outcome.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    publisher: Any = driver._links._publishing
    wait_until(lambda: publisher.publisher._outstanding, "the message to leave")
    publisher.session.call(publisher.session.connection._adapter_disconnect_stream)
    sender.join(10)
    node.thaw()
    assert len(outcome) == 1
    rabbitmqctl(node, "close_all_connections", "test")
    wait_until(lambda: driver.extend([held], lease=30)[0].held is False, "the loss to be noticed")
    driver.send([message("after")])
    bodies = {delivery.message.body for delivery in (claim(driver)[0], claim(driver)[0])}
    assert {"before", "after"} & bodies


def test_a_batch_cut_between_its_confirms_says_of_each_message_what_is_known(make: Make, node: ProcessServer) -> None:
    proxy = Proxy(node.host, node.port)
    driver = make(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F", window=10)
    driver.send([message("first")])
    proxy.reset_on(b"\x00\x3c\x00\x50", direction="down", skip=2)
    sent = [message(str(number)) for number in range(200)]
    with pytest.raises(PartialSend) as caught:
        driver.send(sent)
    proxy.heal()
    partial = caught.value
    assert len(partial.accepted) + len(partial.failed) + len(partial.unknown) == 200
    assert partial.accepted
    assert partial.failed
    assert len(partial.unknown) <= 10, "more were on their way than the window allows"
    there = {delivery.message.id for delivery in claim(make(), limit=201)}
    assert there >= set(partial.accepted), "a confirmed message is not there"
    assert not there & set(partial.failed), "a message that never left is there"
    proxy.close()


def test_fq_07_a_full_queue_refuses_a_message_for_certain(make: Make, node: ProcessServer, namespace: str) -> None:
    driver = make()
    rabbitmqctl(node, "set_policy", namespace, f"^{namespace}:default$", '{"max-length":1}', "--apply-to", "queues")
    try:
        wait_until(lambda: _refused(driver), "the queue to be full")
        assert driver.count(["default"])[0].pending <= 2
    finally:
        rabbitmqctl(node, "clear_policy", namespace)


def _refused(driver: Any) -> bool:
    try:
        driver.send([message()])
    except BackendFull:
        return True
    return False


def test_fq_07_a_confirm_that_does_not_come_leaves_the_message_unknown(make: Make, node: ProcessServer) -> None:
    driver = make()
    driver.send([message("before")])
    node.freeze()
    with pytest.raises(AmbiguousSend):
        driver.send([message("perhaps")], patience=within(0.5))
    node.thaw()
    assert [claim(driver)[0].message.body for _ in range(2)] == ["before", "perhaps"]


def test_fq_07_a_dispatch_without_a_timeout_ends_with_the_drivers_own(make: Make, node: ProcessServer) -> None:
    driver = make(confirm_timeout=0.7)
    driver.send([message("before")])
    session: Any = driver._links._publishing
    node.freeze()
    begin = time.monotonic()
    with pytest.raises(AmbiguousSend):
        driver.send([message("perhaps")])
    session.session.blocked = "an alarm"
    with pytest.raises(DriverUnavailable, match=r"within 0\.7 s; nothing was sent"):
        driver.send([message("not sent")], patience=Patience(cancel=threading.Event(), clock=SystemClock()))
    took = time.monotonic() - begin
    node.thaw()
    assert 1.4 <= took < 4


def test_fq_08_what_cannot_be_routed_is_never_dropped_in_silence(
    make: Make, node: ProcessServer, namespace: str
) -> None:
    rabbitmqctl(node, "add_user", namespace, "secret")
    rabbitmqctl(node, "set_permissions", namespace, f"^{namespace}:", ".*", ".*")
    try:
        driver = make(f"amqp://{namespace}:secret@{node.host}:{node.port}/%2F")
        driver.send([message("routed")])
        rabbitmqctl(node, "set_permissions", namespace, "^$", ".*", ".*")
        time.sleep(0.1)
        connection = client(node)
        connection.channel().queue_delete(f"{namespace}:default")
        connection.close()
        with pytest.raises((DriverRejected, DriverUnavailable)) as caught:
            driver.send([message("lost?")])
        assert "secret" not in str(caught.value)
    finally:
        rabbitmqctl(node, "delete_user", namespace)


def test_fq_09_an_application_stopped_and_started_loses_nothing(make: Make, node: ProcessServer) -> None:
    driver = make()
    driver.send([message("ready"), message("delayed", delay=2.0)])
    rabbitmqctl(node, "stop_app")
    with pytest.raises(DriverUnavailable):
        driver.send([message("never")])
    rabbitmqctl(node, "start_app")
    assert [claim(driver, seconds=20)[0].message.body for _ in range(2)] == ["ready", "delayed"]


def test_fq_10_a_handler_that_burns_the_processor_misses_no_heartbeat(make: Make, namespace: str) -> None:
    driver = make(heartbeat=1)
    queue = Queue(driver, namespace=namespace)
    attempts: list[int] = []

    @queue.job(name="busy")
    def busy() -> None:
        from queuekit import current_job  # noqa: PLC0415 - inside the job

        attempts.append(current_job().attempt)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            pass

    busy.dispatch()
    queue.start_workers(1)
    wait_until(lambda: attempts, "the handler to start")
    queue.drain(20)
    assert attempts == [1]
    queue.close()


def test_fq_11_the_delivery_limit_sets_poison_aside_once(make: Make) -> None:
    sender = make(delivery_limit=3)
    sender.send([message("poison")])
    for attempt in range(1, 5):
        victim = make(delivery_limit=3)
        [delivery] = claim(victim)
        assert delivery.attempt == attempt
        session: Any = victim._links._lending.session
        session.close()  # as a crash does
    wait_until(lambda: sender.count(["default"])[0].failed == 1, "it to be set aside")
    assert sender.count(["default"])[0].pending == 0


def test_fq_12_what_was_pushed_and_not_claimed_goes_back_at_once_in_order_and_uncharged(make: Make) -> None:
    driver, other = make(), make()
    driver.send([message(str(i)) for i in range(10)])
    [first] = driver.claim(["default"], limit=8, lease=30, wait=5)[:1]
    consumer: Any = driver._links._lending.consumer
    wait_until(lambda: len(consumer._outstanding) == 8, "the rest to be pushed")
    driver.close()
    back = [claim(other)[0] for _ in range(10)]
    assert sorted(delivery.message.body for delivery in back) == [str(i) for i in range(10)]
    uncharged = [delivery.message.body for delivery in back if delivery.attempt == 1]
    assert uncharged == sorted(uncharged)
    charged = [delivery.message.body for delivery in back if delivery.attempt == 2]
    assert first.message.body in charged


def test_a_connection_that_is_lost_while_it_is_opened_is_unavailable_and_not_refused(
    node: ProcessServer, namespace: str
) -> None:
    proxy = Proxy(node.host, node.port)
    try:
        for step in range(8):
            proxy.lose_reply(skip=step)
            driver = connect(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F", namespace=namespace, clock=None)
            with contextlib.suppress(DriverUnavailable):
                driver.open()
            driver.close()
        assert proxy.fired["lose_reply"] >= 4
    finally:
        proxy.close()


def _claim_until_closed(driver: RabbitMQDriver) -> None:
    with contextlib.suppress(QueueClosed):
        driver.claim(["default"], limit=1, lease=30, wait=1)


def test_a_session_closed_while_it_connects_leaves_no_socket_and_no_thread(make: Make) -> None:
    for _ in range(10):
        driver = make()
        thread = threading.Thread(target=_claim_until_closed, args=(driver,))
        thread.start()
        driver.close()
        thread.join(10)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("queuekit-amqp")]
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("queuekit-amqp")], f"{names} to end")


def test_what_was_taken_is_lent_though_more_cannot_be_fetched(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the broker thinks that we hold it, and nobody does, until `consumer_timeout` ends the whole channel."""
    driver = make()
    assert driver.claim(["default"], limit=2, lease=5, wait=0.1) == []
    driver.send([message()])
    consumer = driver._links.lending().consumer
    wait_until(lambda: consumer._outstanding, "the broker to push it")

    def fetch(*_: Any, **__: Any) -> list[Any]:
        raise DriverUnavailable("the broker is slow")

    monkeypatch.setattr(consumer, "fetch", fetch)
    assert len(driver.claim(["default", "other"], limit=2, lease=5)) == 1


def test_what_a_slow_broker_hands_over_too_late_is_lent_to_the_next_claim(
    make: Make, node: ProcessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim that asked for it has given up; the broker thinks that this connection holds it, so somebody must."""
    driver = make(heartbeat=60)
    driver.send([message(str(number)) for number in range(3)])
    driver.settle([Done(claim(driver)[0])])
    monkeypatch.setattr("queuekit_rabbitmq.lender.ANSWER", 0.5)
    node.freeze()
    with pytest.raises(DriverUnavailable):
        driver.claim(["default"], limit=2, lease=5)
    with pytest.raises(DriverUnavailable):
        driver.claim(["default"], limit=2, lease=5)
    node.thaw()
    wait_until(lambda: not driver._links.lending().consumer._getting, "the broker to answer")
    monkeypatch.undo()
    found: list[Delivery] = []
    wait_until(lambda: found.extend(claim(driver)) or len(found) == 2, "what came too late to be lent")
    assert [delivery.message.body for delivery in found] == ["1", "2"]
    assert {delivery.attempt for delivery in found} == {1}


def test_what_was_given_back_and_came_too_late_is_lent_to_the_next_claim(
    make: Make, node: ProcessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = make(heartbeat=60)
    driver.send([message("0")])
    driver.settle([Released(claim(driver)[0])])
    monkeypatch.setattr("queuekit_rabbitmq.lender.ANSWER", 0.5)
    node.freeze()
    with pytest.raises(DriverUnavailable):
        driver.claim(["default"], limit=1, free=1, lease=5)
    node.thaw()
    wait_until(lambda: not driver._links.lending().consumer._getting, "the broker to answer")
    monkeypatch.undo()
    [found] = claim(driver)
    assert (found.message.body, found.attempt) == ("0", 1)


@contextlib.contextmanager
def memory_alarm(node: ProcessServer) -> Iterator[None]:
    rabbitmqctl(node, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        rabbitmqctl(node, "set_vm_memory_high_watermark", "0.6")


@pytest.mark.parametrize("told", [True, False])
def test_a_worker_that_turns_slow_during_an_alarm_keeps_what_it_runs_and_what_it_was_pushed(
    make: Make, node: ProcessServer, namespace: str, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """It cannot give anything back then; with its connection it would give back what it runs as well."""
    monkeypatch.setattr("queuekit_rabbitmq.links.ANSWER", 0.5)
    driver = make()
    assert driver.claim(["default"], limit=10, free=1, lease=30, wait=0.1) == []
    driver.send([message(str(number)) for number in range(10)])
    consumer = driver._links.lending().consumer
    wait_until(lambda: len(consumer._outstanding) == 10, "the broker to push them")
    driver._links.publishing().broker.back("default")
    [running] = driver.claim(["default"], limit=1, free=1, lease=30)
    with contextlib.ExitStack() as alarm:
        with consumer.asking([("default", f"{namespace}:default")]):  # so that nothing is given back before
            alarm.enter_context(memory_alarm(node))
            if told:
                with pytest.raises(AmbiguousSend):
                    driver.send([message("during")], patience=within(0.5))
        time.sleep(4)  # what nobody claims is given back after a second
        assert driver.extend([running], lease=30)[0].held, "a running job was given back with its connection"
        assert driver.settle([Done(running)]) == ["applied"]
        pushed = claim(driver, limit=2)
        assert [delivery.message.body for delivery in pushed] == ["1", "2"], (
            "what it was pushed waits for its free slots"
        )
        assert driver.settle([Done(delivery) for delivery in pushed]) == ["applied"] * 2
    others = make()
    left = [*map(str, range(3, 10)), *(["during"] if told else [])]
    found: list[Delivery] = []
    wait_until(
        lambda: found.extend(claim(others, seconds=30)) or len(found) == len(left), "another worker to run the rest"
    )
    assert [delivery.message.body for delivery in found] == left
    assert {delivery.attempt for delivery in found} == {1}


def test_a_process_that_is_asked_what_it_holds_during_an_alarm_still_acknowledges(
    make: Make, node: ProcessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm blocks every connection that publishes, and reads nothing more from it: no acknowledgement, for one."""
    monkeypatch.setattr("queuekit_rabbitmq.settler.ANSWER", 2.0)
    holder, asking = make(), make()
    holder.send([message()])
    [held] = claim(holder)
    asking.count(["default"])
    session, go = holder._links.lending().session, threading.Event()
    session.call(lambda: (go.wait(20), None)[1])
    counted = threading.Thread(target=lambda: asking.count(["default"]))
    counted.start()
    counted.join()
    with memory_alarm(node):
        time.sleep(0.5)
        go.set()
        time.sleep(0.5)
        assert holder.settle([Done(held)]) == ["applied"]


@pytest.mark.parametrize(
    "properties",
    [
        pika.BasicProperties(message_id=b"\xff\xfe", type=b"\xff"),
        pika.BasicProperties(message_id="a", headers={"queuekit-retain": "for ever"}),
        pika.BasicProperties(message_id="a", headers={"queuekit-tags": 7, "queuekit-priority": 99}),
        pika.BasicProperties(message_id="a", headers={"queuekit-attempts": -3, "queuekit-generation": True}),
    ],
)
def test_properties_that_queuekit_never_wrote_keep_no_other_job_back(
    make: Make, node: ProcessServer, namespace: str, properties: pika.BasicProperties
) -> None:
    driver = make()
    connection = client(node)
    connection.channel().basic_publish("", f"{namespace}:default", b"garbage", properties)
    connection.close()
    driver.send([message("good")])
    found = claim(driver, limit=2)
    found += [] if len(found) == 2 else claim(driver, limit=2)
    assert [delivery.message.body for delivery in found] == ["garbage", "good"]
    assert driver.settle([Done(delivery) for delivery in found]) == ["applied"] * 2


def test_what_is_given_back_behind_an_alarm_is_not_sent_as_well_when_the_alarm_is_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays where it is; a successor that left later would be a second job."""
    monkeypatch.setattr("queuekit_rabbitmq.links.ANSWER", 0.3)
    driver, other = make(), make()
    assert driver.claim(["default"], limit=2, lease=5, wait=0.1) == []
    publishing = driver._links.publishing()
    publishing.broker.back("default")
    monkeypatch.setattr(Broker, "takes_messages", lambda *_: True)
    publishing.session.blocked = "an alarm"
    other.send([message()])
    time.sleep(2)
    publishing.session.call(publishing.session._on_unblocked)
    publishing.session.ask(lambda answer: answer.set_result(None), doing="waiting", timeout=5)
    driver.send([message(body="later")])
    both = (driver, other)
    found = [d.message.id for _ in range(6) for one in both for d in one.claim(["default"], limit=1, lease=5, wait=0.3)]
    assert len(found) == len(set(found)) == 2


def test_a_job_that_stood_still_with_its_worker_for_longer_than_a_lease_runs_all_the_same(
    node: ProcessServer, namespace: str
) -> None:
    """The broker knows of no such lease: as long as the connection lives, nobody else can have the job."""
    queue = Queue(node.url(), namespace=namespace)
    ran: list[int] = []

    @queue.job(name="stand")
    def stand(payload: int) -> None:
        ran.append(payload)
        ctypes.PyDLL(None).usleep(600_000)  # keeps the interpreter to itself, so that nothing is renewed meanwhile

    with queue.worker(concurrency=4, lease=0.2) as worker:
        assert worker.ready(20)
        queue.dispatch_many([Job("stand", number) for number in range(12)])
        wait_until(lambda: len(set(ran)) == 12, f"every job to run: {ran}", seconds=40)
    queue.close()
    assert sorted(ran) == list(range(12))
