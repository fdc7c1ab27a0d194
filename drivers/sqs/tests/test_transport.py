"""What the driver does on a good day: batches, successors, hand-outs that are given back, dead letters, large payloads, costs."""

import threading
import time

import msgspec
import pytest

from queuekit import ConfigurationError, Job, JobContext, PayloadTooLarge, Queue
from queuekit.contract import Again, Dead, Done, DriverUnavailable, Failure, QueueClosed, Released, Url, Wakeup
from queuekit.move import move
from queuekit_integration.harness import wait_until
from queuekit_sqs import FolderStore, S3Store, SqsDriver
from queuekit_sqs.settings import Settings


def claim_all(driver, count, *, lease=30):
    found = []

    def enough():
        found.extend(driver.claim(["default"], limit=count - len(found), lease=lease))
        return len(found) >= count

    wait_until(enough, f"{count} jobs to be lent")
    return found


def entries(stub, action):
    return [body["Entries"] for name, body in stub.bodies if name == action]


def test_batches_are_of_ten(h, stub):
    driver = h.through(stub)
    driver.send([h.message() for _ in range(25)])
    assert sorted(map(len, entries(stub, "SendMessageBatch"))) == [5, 10, 10]


def test_batches_hold_no_more_bytes_than_a_request_may(h, stub):
    driver = h.through(stub)
    driver.send([h.message("x" * 100_000) for _ in range(6)])
    assert sorted(map(len, entries(stub, "SendMessageBatch"))) == [2, 2, 2]


def test_single_sends_of_many_threads_travel_together(h, stub):
    driver = h.through(stub)
    threads = [threading.Thread(target=lambda: [driver.send([h.message()]) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, entries(stub, "SendMessageBatch"))) == 80
    assert stub.requests["SendMessageBatch"] < 60
    assert len(claim_all(driver, 80)) == 80


def test_claims_never_ask_for_more_than_their_limit(h, stub):
    driver = h.through(stub)
    driver.send([h.message() for _ in range(30)])
    found = driver.claim(["default"], limit=3, lease=30, wait=2.0, wakeup=Wakeup())
    assert 1 <= len(found) <= 3
    asked = [body["MaxNumberOfMessages"] for name, body in stub.bodies if name == "ReceiveMessage"]
    assert sum(asked) <= 3 + (3 - len(found))


def test_an_idle_queue_is_polled_for_as_long_as_was_asked(h, stub):
    driver = h.through(stub)
    driver.close()
    patient = h.through(stub, poll=3)
    stub.miss(times=3)
    assert patient.claim(["default"], limit=1, lease=30, wait=0.5) == []
    assert {body["WaitTimeSeconds"] for name, body in stub.bodies if name == "ReceiveMessage"} == {3}
    assert len([name for name, _ in stub.bodies if name == "ReceiveMessage"]) == 4
    patient.send([h.message()])  # ends the poll


def test_what_arrives_when_nobody_claims_any_more_is_given_back_uncharged(h):
    driver, other = h.driver(), h.driver()
    assert driver.claim(["default"], limit=1, lease=60, wait=0.2, wakeup=Wakeup()) == []
    other.send([h.message()])  # the poll that still runs takes it
    [delivery] = claim_all(other, 1)
    assert delivery.attempt == 1


def test_closing_gives_back_what_a_poll_still_brings(h):
    driver, other = h.driver(), h.driver()
    assert driver.claim(["default"], limit=1, lease=60, wait=0.1, wakeup=Wakeup()) == []
    other.send([h.message()])
    begin = time.monotonic()
    driver.close()
    assert time.monotonic() - begin < 5
    [delivery] = claim_all(other, 1)
    assert delivery.attempt == 1
    with pytest.raises(QueueClosed):
        driver.claim(["default"], limit=1, lease=30)


def test_attempts_are_counted_over_every_kind_of_successor(h):
    driver = h.driver()
    first = h.message("1")
    driver.send([first])
    delivery = h.claim_one(driver)
    driver.settle([Again(delivery)])  # hidden for no time
    delivery = h.claim_one(driver)
    assert delivery.attempt == 2
    driver.settle([Again(delivery, successor=h.message("2", id=first.id))])  # a message of its own
    delivery = h.claim_one(driver)
    assert (delivery.attempt, delivery.message.body) == (3, "2")
    driver.settle([Released(delivery)])  # not counted
    delivery = h.claim_one(driver)
    assert delivery.attempt == 3
    driver.settle([Again(delivery, delay=1)])
    assert driver.claim(["default"], limit=1, lease=30) == []
    [delivery] = claim_all(driver, 1)
    assert (delivery.attempt, delivery.message.id) == (4, first.id)


def test_a_dead_letter_says_why_and_runs_again_when_it_is_replayed(h):
    driver = h.driver()
    message = h.message('{"a":1}')
    driver.send([message])
    failure = Failure(1, 1000.0, "error", "ValueError", "no", "trace")
    driver.settle([Dead(h.claim_one(driver), "error", failure)])
    assert driver.claim(["default"], limit=1, lease=30) == []
    client = driver.native()
    [letter] = client.receive_message(
        QueueUrl=h.queue_url("default--dead"), MessageAttributeNames=["queuekit"], VisibilityTimeout=0
    )["Messages"]
    label = msgspec.json.decode(letter["MessageAttributes"]["queuekit"]["StringValue"])
    assert (letter["Body"], label["reason"], label["state"]) == (message.body, "error", "failed")
    assert label["error"]["kind"] == "ValueError"
    assert driver.replay("default") == [message.id]
    again = h.claim_one(driver)
    assert (again.message.id, again.message.body, again.attempt, again.generation) == (message.id, message.body, 1, 1)
    assert driver.replay("default") == []


def test_a_job_that_is_kept_for_no_time_leaves_no_dead_letter(h):
    driver = h.driver()
    driver.send([h.message(retain=0.0)])
    assert driver.settle([Dead(h.claim_one(driver), "error")]) == ["applied"]
    assert driver.claim(["default"], limit=1, lease=30) == []
    assert driver.replay("default") == []


def test_twelve_hours_after_its_receipt_a_lease_is_over(h, stub):
    driver = h.through(stub)
    driver.send([h.message()])
    delivery = h.claim_one(driver)
    delivery.receipt.last = time.monotonic() + 20
    assert [extension.held for extension in driver.extend([delivery], lease=30)] == [True]
    [[entry]] = entries(stub, "ChangeMessageVisibilityBatch")
    assert entry["VisibilityTimeout"] <= 20, "asked for more than the service gives"
    delivery.receipt.last = time.monotonic()
    assert [extension.held for extension in driver.extend([delivery], lease=30)] == [False]


def test_follow_ups_are_stored_before_the_job_ends(h, stub):
    driver = h.through(stub)
    driver.send([h.message("first")])
    delivery = h.claim_one(driver)
    driver.settle([Done(delivery, follow_ups=(h.message("next", delay=1),))])
    actions = [name for name, _ in stub.bodies if name in {"SendMessageBatch", "DeleteMessageBatch"}]
    assert actions == ["SendMessageBatch", "SendMessageBatch", "DeleteMessageBatch"]
    [following] = claim_all(driver, 1)
    assert following.message.body == "next"


def test_at_saturation_a_job_costs_a_third_of_a_request(h):
    queue = h.queue()
    queue.register("t", lambda payload: None)
    driver = queue.driver
    queue.dispatch_many(Job("t", i) for i in range(100))  # the worker's demand is measured with these
    count = 1000
    with queue.worker(concurrency=10) as worker:
        wait_until(lambda: worker.done >= 100, "the first jobs to be settled")
    before = sum(driver.requests.values())
    queue.dispatch_many(Job("t", i) for i in range(count))
    with queue.worker(concurrency=10) as worker:
        wait_until(lambda: worker.done >= count, "all jobs to be settled")
    cost = (sum(driver.requests.values()) - before) / count
    assert cost <= 0.35, f"{cost:.2f} requests a job; {dict(driver.requests)}"


@pytest.fixture(params=["folder", "s3"])
def offloading(request, h, tmp_path):
    """Return a queue whose large payloads go elsewhere, and that place's store."""
    if request.param == "folder":
        store = FolderStore(tmp_path / "payloads")
    else:
        settings = Settings.from_url(Url.parse(h.server.url()))
        store = S3Store("payloads", "jobs/", settings=settings)
        store._client.create_bucket(
            Bucket="payloads", CreateBucketConfiguration={"LocationConstraint": settings.region}
        )
    settings = Settings.from_url(Url.parse(h.url()))
    queue = Queue(SqsDriver(settings, namespace=h.namespace, store=store), namespace=h.namespace)
    with queue:
        yield queue, store


def test_a_large_payload_goes_elsewhere_and_is_removed_with_its_job(offloading):
    queue, store = offloading
    seen = []

    @queue.job(name="t", retries=1)
    def note(ctx: JobContext, text: str) -> None:
        seen.append((ctx.attempt, len(text)))
        if ctx.attempt == 1:
            raise ValueError("once more")

    handle = note.using(backoff=None).dispatch(text="x" * 600_000)
    name = f"{queue.namespace}.{handle.id}.0.0"
    assert len(store.get(name)) > 600_000
    with queue.worker(concurrency=1):
        wait_until(lambda: len(seen) == 2, "both attempts")
        wait_until(lambda: store.get(name) is None, "the payload to be removed")
    assert seen == [(1, 600_000), (2, 600_000)]


def test_without_a_place_for_it_a_large_payload_is_refused_before_anything_is_sent(h, stub):
    queue = Queue(h.through(stub), namespace=h.namespace)
    with queue, pytest.raises(PayloadTooLarge):
        queue.dispatch(Job("t", "x" * 600_000))
    assert not stub.requests["SendMessageBatch"]


def test_a_payload_that_cannot_be_read_now_keeps_no_other_job_back(h, tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    driver = SqsDriver(Settings.from_url(Url.parse(h.url())), namespace=h.namespace, store=store)
    driver.prepare(["default"])
    small, large = h.message(), h.message(body='"' + "x" * 1_200_000 + '"')
    driver.send([large])
    driver.send([small])
    real = store.get

    def get(name):
        raise DriverUnavailable("S3 does not answer")

    monkeypatch.setattr(store, "get", get)
    found = []
    wait_until(
        lambda: found.extend(d.message.id for d in _claimed(driver)) or small.id in found, "the other job to be lent"
    )
    monkeypatch.setattr(store, "get", real)
    late = []
    wait_until(lambda: late.extend(_claimed(driver)) or late, "the job to be lent when its payload can be read")
    assert [(d.message.id, d.message.body == large.body, d.attempt) for d in late] == [(large.id, True, 1)]
    driver.close()


def _claimed(driver):
    try:
        return driver.claim(["default"], limit=5, lease=30)
    except DriverUnavailable:
        return []


def test_a_queue_is_known_by_whatever_address(h, stub):
    driver, alias = h.driver(), h.through(stub)
    assert driver.same_queue(alias, "default")
    assert alias.same_queue(driver, "default")
    with h.elsewhere():
        other = h.driver()
    assert not driver.same_queue(other, "default")


def test_a_move_to_itself_is_refused_and_one_to_another_namespace_is_none(h):
    driver = h.driver()
    driver.send([h.message() for _ in range(3)])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        move(driver, h.driver(), clock=h.clock, queues=["default"])
    with h.elsewhere():
        other = h.driver()
    [result] = move(driver, other, clock=h.clock, queues=["default"])
    assert result.moved == 3
    assert len(claim_all(other, 3)) == 3
