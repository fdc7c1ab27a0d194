"""What the service does on bad days: throttling, server errors, duplicates, lost order, expired leases and credentials."""

import os
import threading
import time

import boto3
import pytest

from queuekit import Backoff, Job, Queue
from queuekit.contract import (
    Again,
    AmbiguousSend,
    BackendFull,
    Done,
    DriverRejected,
    DriverUnavailable,
    PartialSend,
    Patience,
    SystemClock,
    Url,
)
from queuekit_integration.harness import wait_until
from queuekit_sqs import SqsDriver


def ids(deliveries):
    return [delivery.message.id for delivery in deliveries]


def claim_all(driver, count, *, lease=30):
    found = []

    def enough():
        found.extend(driver.claim(["default"], limit=count - len(found), lease=lease))
        return len(found) >= count

    wait_until(enough, f"{count} jobs to be lent")
    return found


def test_throttling_is_ridden_out(h, stub):
    driver = h.through(stub)
    stub.refuse("SendMessageBatch", "ThrottlingException", times=5)
    driver.send([h.message()])
    assert stub.fired["refuse ThrottlingException"] == 5
    assert len(claim_all(driver, 1)) == 1
    assert driver.claim(["default"], limit=5, lease=30) == [], "a throttled send was applied"


def test_throttling_without_end_is_told_within_the_callers_time(h, stub):
    driver = h.through(stub)
    stub.refuse("SendMessageBatch", "RequestThrottled", times=1000)
    begin = time.monotonic()
    with pytest.raises(DriverUnavailable):
        driver.send([h.message()], patience=Patience(0.3, clock=SystemClock()))
    assert time.monotonic() - begin < 3
    stub.heal()
    assert driver.claim(["default"], limit=5, lease=30) == []


def test_a_worker_goes_on_after_throttling_and_server_errors(h, stub):
    queue = Queue(h.through(stub), namespace=h.namespace)
    ran = []

    def note(payload):
        ran.append(payload)

    queue.register("t", note)
    stub.refuse("ReceiveMessage", "ThrottlingException", times=3)
    stub.refuse("ReceiveMessage", "InternalError", status=500, times=3)
    stub.refuse("DeleteMessageBatch", "ServiceUnavailable", status=503, times=2)
    with queue, queue.worker(concurrency=2):
        queue.dispatch_many(Job("t", i) for i in range(20))
        wait_until(lambda: len(ran) == 20, "all jobs to run")
        queue.drain(20)
    assert sorted(ran) == list(range(20)), "something ran twice"
    assert stub.fired["refuse InternalError"] == 3


def test_a_lease_that_nobody_extends_ends_and_its_holder_is_refused(h, stub):
    driver = h.through(stub)
    driver.send([h.message()])
    first = h.claim_one(driver, lease=1)
    [second] = claim_all(driver, 1)
    assert (second.attempt, second.recovered) == (2, True)
    before = stub.requests.copy()
    assert [extension.held for extension in driver.extend([first], lease=30)] == [False]
    assert driver.settle([Done(first)]) == ["lost"]
    assert stub.requests == before, "the driver knows that the lease is over, and asked all the same"
    assert driver.settle([Done(second)]) == ["applied"]


def test_a_redrive_policy_and_the_driver_count_alike(h):
    driver = h.driver()
    client = driver.native()
    letters = client.create_queue(QueueName=f"{h.namespace}--default--dead")["QueueUrl"]
    dead = client.get_queue_attributes(QueueUrl=letters, AttributeNames=["QueueArn"])
    policy = f'{{"deadLetterTargetArn":"{dead["Attributes"]["QueueArn"]}","maxReceiveCount":"3"}}'
    client.set_queue_attributes(QueueUrl=h.queue_url(), Attributes={"RedrivePolicy": policy})
    driver.send([h.message()])
    for attempt in (1, 2, 3):
        [delivery] = claim_all(driver, 1)
        assert delivery.attempt == attempt
        driver.settle([Again(delivery)])
    assert driver.claim(["default"], limit=1, lease=30) == []
    assert [counts.failed for counts in driver.count(["default"])] == [1]


def test_only_the_failed_entries_of_a_batch_are_sent_again(h, stub):
    driver = h.through(stub)
    stub.fail_entries("SendMessageBatch", {2, 5}, "InternalError")
    messages = [h.message() for _ in range(10)]
    driver.send(messages)
    sent = [len(body["Entries"]) for action, body in stub.bodies if action == "SendMessageBatch"]
    assert sent == [10, 2]
    assert sorted(ids(claim_all(driver, 10))) == sorted(message.id for message in messages)
    assert driver.claim(["default"], limit=5, lease=30) == []


def test_entries_that_are_the_senders_fault_are_reported_each(h, stub):
    driver = h.through(stub)
    stub.fail_entries("SendMessageBatch", {2, 5}, "InvalidMessageContents", sender=True)
    messages = [h.message() for _ in range(10)]
    with pytest.raises(PartialSend) as caught:
        driver.send(messages)
    assert set(caught.value.failed) == {messages[2].id, messages[5].id}
    assert len(caught.value.accepted) == 8
    assert all(isinstance(error, DriverRejected) for error in caught.value.failed.values())


def test_after_a_server_error_a_send_is_unknown_and_not_repeated(h, stub):
    driver = h.through(stub)
    stub.break_after("SendMessageBatch")
    with pytest.raises(AmbiguousSend):
        driver.send([h.message()])
    assert len(claim_all(driver, 1)) == 1
    assert driver.claim(["default"], limit=5, lease=30) == []


def test_a_message_delivered_twice_runs_twice_and_settles_twice(h, stub):
    driver = h.through(stub)
    driver.send([h.message()])
    stub.duplicate()
    one, two = driver.claim(["default"], limit=5, lease=30)
    assert one.message.id == two.message.id
    assert one.token != two.token
    assert driver.settle([Done(one), Done(two)]) == ["applied", "applied"]
    assert stub.fired["duplicated"] == 1


def test_lost_order_loses_nothing(h, stub):
    driver = h.through(stub)
    messages = [h.message() for _ in range(5)]
    driver.send(messages)
    stub.reorder()
    found = driver.claim(["default"], limit=5, lease=30)
    assert ids(found) == [message.id for message in reversed(messages)]


def test_a_poll_that_finds_nothing_where_something_is_only_costs_time(h, stub):
    driver = h.through(stub)
    driver.send([h.message()])
    stub.miss()
    assert driver.claim(["default"], limit=1, lease=30) == []
    stub.miss()
    assert len(driver.claim(["default"], limit=1, lease=30, wait=10.0)) == 1
    assert stub.fired["miss"] == 2


@pytest.mark.parametrize("code", ["MessageNotInflight", "InvalidParameterValue", "ReceiptHandleIsInvalid"])
def test_a_late_heartbeat_loses_its_lease_and_no_other(h, stub, code):
    driver = h.through(stub)
    driver.send([h.message() for _ in range(3)])
    deliveries = claim_all(driver, 3)
    text = "Value … for parameter ReceiptHandle is invalid. Reason: not available for visibility timeout change"
    stub.fail_entries("ChangeMessageVisibilityBatch", {1}, code, message=text, sender=True)
    assert [extension.held for extension in driver.extend(deliveries, lease=30)] == [True, False, True]
    assert driver.settle([Done(delivery) for delivery in deliveries]) == ["applied", "lost", "applied"]


def test_a_throttled_heartbeat_is_sent_again(h, stub):
    driver = h.through(stub)
    driver.send([h.message()])
    deliveries = claim_all(driver, 1)
    stub.refuse("ChangeMessageVisibilityBatch", "ThrottlingException", times=2)
    assert [extension.held for extension in driver.extend(deliveries, lease=30)] == [True]


def test_too_much_in_flight_is_a_full_backend(h, stub):
    driver = h.through(stub)
    stub.refuse("ReceiveMessage", "OverLimit")
    with pytest.raises(BackendFull, match="in flight"):
        driver.claim(["default"], limit=1, lease=30)


def test_a_poll_that_is_cut_is_polled_again(h):
    proxy = h.proxy()
    driver = h.driver(through=proxy)
    other = h.driver()
    cut = threading.Timer(0.4, proxy.reset_all)
    cut.start()
    with pytest.raises(DriverUnavailable):
        driver.claim(["default"], limit=1, lease=2, wait=20.0)
    wait_until(lambda: proxy.fired["reset_all"], "the cut to be counted")
    other.send([h.message()])
    # What the emulator handed to the poll that was cut comes back with its lease's end.
    wait_until(lambda: driver.claim(["default"], limit=1, lease=30, wait=1.0), "the job to be lent")


def test_expired_credentials_are_read_anew(h, stub, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "old")
    driver = SqsDriver(region="eu-west-1", endpoint=f"http://127.0.0.1:{stub.port}", create=True, namespace=h.namespace)
    driver.open()
    driver.prepare(["default"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    stub.refuse("SendMessageBatch", "ExpiredToken", status=403)
    driver.send([h.message()])
    key = driver.native()._request_signer._credentials.access_key
    driver.close()
    assert key == "NEW"


def test_a_queue_that_was_deleted_is_made_again_where_that_is_asked_for(h):
    driver = h.driver()
    driver.native().delete_queue(QueueUrl=h.queue_url())
    driver.send([h.message()])
    assert len(claim_all(driver, 1)) == 1


def test_a_queue_that_was_deleted_is_a_clear_error_and_comes_back_with_the_queue(h):
    h.client().create_queue(QueueName=f"{h.namespace}--default--dead")
    url = h.url().replace("create=true", "create=false")
    careful = SqsDriver.from_url(Url.parse(url), namespace=h.namespace)
    careful.open()
    careful.prepare(["default"])
    client = careful.native()
    client.delete_queue(QueueUrl=h.queue_url())
    with pytest.raises(DriverRejected, match="does not exist"):
        careful.send([h.message()])
    with pytest.raises(DriverUnavailable, match="does not exist"):
        careful.claim(["default"], limit=1, lease=30)
    client.create_queue(QueueName=f"{h.namespace}--default")
    careful.send([h.message()])
    assert len(claim_all(careful, 1)) == 1
    careful.close()


def test_a_wrong_clock_is_told_as_such(h, stub):
    driver = h.through(stub)
    stub.refuse("SendMessageBatch", "RequestTimeTooSkewed", status=403, message="Signature expired")
    with pytest.raises(DriverRejected, match="clock"):
        driver.send([h.message()])


def test_the_emulator_keeps_what_it_accepted_when_it_is_killed(h):
    driver = h.driver()
    messages = [h.message() for _ in range(30)]
    driver.send(messages)
    held = claim_all(driver, 10, lease=2)
    h.server.kill()
    with pytest.raises((DriverUnavailable, AmbiguousSend)):
        driver.send([h.message()])
    h.server.start()
    rest = claim_all(driver, 20)
    assert not set(ids(rest)) & set(ids(held))
    again = claim_all(driver, 10)
    assert sorted(ids(again) + ids(rest)) == sorted(message.id for message in messages)
    assert {delivery.attempt for delivery in again} == {2}


def test_a_worker_outlives_the_death_of_the_service(h):
    queue = h.queue()
    ran = []

    @queue.job(name="t", backoff=Backoff.constant(0))
    def note(i: int) -> None:
        ran.append(i)
        time.sleep(0.01)

    with queue.worker(concurrency=4, lease=2):
        queue.dispatch_many(note.job(i) for i in range(200))
        wait_until(lambda: len(ran) > 20, "work to be under way")
        h.server.kill()
        h.server.start()
        wait_until(lambda: set(ran) == set(range(200)), "every job to run")
        queue.drain(30)
    assert len(ran) - 200 <= 120, "more ran twice than was held when the service died"


def test_a_fork_has_connections_of_its_own(h):
    driver = h.driver()
    driver.send([h.message()])
    pid = os.fork()
    if not pid:
        try:
            driver.send([h.message()])
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    driver.send([h.message()])
    assert len(claim_all(driver, 3)) == 3


def test_the_default_session_is_left_alone(h):
    h.driver()
    assert boto3.DEFAULT_SESSION is None
