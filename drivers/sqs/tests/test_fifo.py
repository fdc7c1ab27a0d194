"""FIFO queues: order among the jobs of one key, whatever becomes of them; and ids that count once."""

import msgspec
import pytest

from queuekit import AmbiguousDispatch, Backoff, ConfigurationError, Job, JobContext, Queue
from queuekit.contract import Again, Done, PartialSend, Released, UnsupportedError
from queuekit.move import move
from queuekit_integration.harness import wait_until


def bodies(deliveries):
    return [delivery.message.body for delivery in deliveries]


def test_a_group_whose_head_is_in_flight_waits_and_other_groups_run(fifo):
    driver = fifo.driver()
    driver.send([fifo.message("a1", key="a"), fifo.message("a2", key="a"), fifo.message("b1", key="b")])
    found = driver.claim(["default"], limit=10, lease=30)
    assert sorted(bodies(found)) == ["a1", "b1"]
    assert driver.claim(["default"], limit=10, lease=30) == []
    driver.settle([Done(delivery) for delivery in found])
    assert bodies(driver.claim(["default"], limit=10, lease=30)) == ["a2"]


def test_a_retry_keeps_its_place(fifo):
    driver = fifo.driver()
    driver.send([fifo.message(f"a{i}", key="a") for i in range(3)])
    first = fifo.claim_one(driver)
    driver.settle([Again(first, delay=1)])
    assert driver.claim(["default"], limit=10, lease=30) == [], "a later one overtook the retry"
    again = wait_until(lambda: driver.claim(["default"], limit=10, lease=30), "the retry to be due")
    assert [(d.message.body, d.attempt) for d in again] == [("a0", 2)]


def test_a_keyed_job_that_is_given_back_keeps_its_place_and_is_charged(fifo):
    driver = fifo.driver()
    driver.send([fifo.message(f"a{i}", key="a") for i in range(2)])
    driver.settle([Released(fifo.claim_one(driver))])
    again = fifo.claim_one(driver)
    assert (again.message.body, again.attempt) == ("a0", 2)


def test_a_job_without_a_key_that_is_given_back_is_not_charged(fifo):
    driver = fifo.driver()
    driver.send([fifo.message("one")])
    driver.settle([Released(fifo.claim_one(driver))])
    assert fifo.claim_one(driver).attempt == 1


def test_a_changed_job_waits_hidden_and_its_wait_is_no_attempt(fifo):
    driver = fifo.driver()
    driver.send([fifo.message("old")])
    first = fifo.claim_one(driver)
    driver.settle([Released(first, 1.0, successor=fifo.message("new", id=first.message.id))])
    assert driver.claim(["default"], limit=10, lease=30) == []
    again = wait_until(lambda: driver.claim(["default"], limit=10, lease=30), "the wait to end")
    assert [(d.message.body, d.attempt) for d in again] == [("new", 1)]


def test_the_same_id_twice_is_one_job_and_every_successor_is_a_new_one(fifo):
    driver = fifo.driver()
    message = fifo.message("same")
    driver.send([message])
    driver.send([message])
    for attempt in (1, 2, 3):
        delivery = fifo.claim_one(driver)
        assert delivery.attempt == attempt
        assert driver.claim(["default"], limit=10, lease=30) == []
        driver.settle([Again(delivery, successor=fifo.message(f"changed {attempt}", id=message.id))])


def sent(stub):
    return [
        [entry["MessageBody"] for entry in body["Entries"]] for name, body in stub.bodies if name == "SendMessageBatch"
    ]


def test_an_entry_that_failed_is_not_sent_after_one_of_its_group_that_was_accepted(fifo):
    with fifo.stub() as stub:
        driver = fifo.through(stub)
        stub.fail_entries("SendMessageBatch", {0, 2}, "InternalError")
        messages = [fifo.message(body, key=body[0]) for body in ("a1", "a2", "b1")]
        with pytest.raises(PartialSend) as caught:
            driver.send(messages)
        assert set(caught.value.failed) == {messages[0].id}, "a1 would come after a2; b1 harms nobody"
        assert sent(stub) == [["a1", "a2", "b1"], ["b1"]]


def test_when_an_entry_failed_the_later_ones_of_its_group_are_not_sent(fifo):
    with fifo.stub() as stub:
        driver = fifo.through(stub)
        stub.fail_entries("SendMessageBatch", {9}, "InvalidMessageContents", sender=True)
        messages = [fifo.message(f"a{i}", key="a") for i in range(12)] + [fifo.message("b0", key="b")]
        with pytest.raises(PartialSend) as caught:
            driver.send(messages)
        assert set(caught.value.failed) == {messages[i].id for i in (9, 10, 11)}
        assert sent(stub)[1:] == [["b0"]]


def unique(**options):
    return Job("t", {"a": 1}, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"unique_for": 60},
        {"unique_key": "k"},
        {"unique_for": 300, "until": "start"},
        {"unique_for": 300, "on_conflict": "raise"},
        {"unique_for": 300, "on_conflict": "replace"},
    ],
)
def test_any_other_uniqueness_than_the_services_own_is_refused_with_both_remedies(fifo, options):
    with pytest.raises(UnsupportedError, match=r"unique_for=300.*store=") as caught:
        fifo.queue().dispatch(unique(**options))
    assert (caught.value.driver, caught.value.feature) == ("sqs", "unique")


def test_standard_queues_have_no_unique_jobs(h):
    with pytest.raises(UnsupportedError, match="store="):
        h.queue().dispatch(unique(unique_for=300))


def test_a_unique_dispatch_whose_answer_was_lost_is_one_job_when_it_is_repeated(fifo):
    with fifo.stub() as stub:
        driver = fifo.through(stub)
        queue = Queue(driver, namespace=fifo.namespace)
        stub.break_after("SendMessageBatch")
        with pytest.raises(AmbiguousDispatch):
            queue.dispatch(unique(unique_for=300))
        queue.dispatch(unique(unique_for=300))
        first = fifo.claim_one(driver)
        assert driver.claim(["default"], limit=10, lease=30) == []
        driver.settle([Again(first, delay=0)])
        assert fifo.claim_one(driver).attempt == 2


def test_a_delay_is_refused(fifo):
    queue = Queue(fifo.make_driver(virtual=False), namespace=fifo.namespace)
    with queue, pytest.raises(UnsupportedError, match="delay"):
        queue.dispatch(Job("t", delay=5))


def test_each_key_runs_in_order_one_at_a_time_also_through_failures(fifo):
    seen = {}
    running = set()
    queue = fifo.queue()

    @queue.job(name="t", retries=3, backoff=Backoff.constant(0))
    def note(ctx: JobContext, key: str, i: int) -> None:
        assert key not in running
        running.add(key)
        try:
            if ctx.attempt == 1 and i % 3 == 0:
                raise ValueError(key)
            seen.setdefault(key, []).append(i)
        finally:
            running.discard(key)

    keys = ["alpha", "β with spaces", "c" * 300]
    queue.dispatch_many(note.using(key=key).job(key=key, i=i) for i in range(8) for key in keys)
    with queue.worker(concurrency=6):
        wait_until(lambda: sum(map(len, seen.values())) == 24, "all jobs to run", seconds=40)
    assert seen == {key: list(range(8)) for key in keys}


@pytest.mark.parametrize("late", [False, True], ids=["polled before it is due", "polled after it"])
def test_a_wait_uses_no_attempt_however_soon_its_successor_is_received(fifo, late):
    driver = fifo.driver()
    driver.send([fifo.message("1")])
    for _ in range(3):
        delivery = fifo.claim_one(driver, lease=30)
        assert delivery.attempt == 1
        changed = msgspec.structs.replace(delivery.message, body=delivery.message.body + "!")
        driver.settle([Released(delivery, delay=0.3, successor=changed)])
        if late:
            fifo.advance(0.5)
        else:
            assert driver.claim(["default"], limit=1, lease=30) == []
            fifo.advance(1.2)


def test_a_move_to_itself_is_refused_before_the_service_drops_what_it_knows(fifo):
    driver = fifo.driver()
    driver.send([fifo.message("one")])
    with pytest.raises(ConfigurationError, match="are the same backend"):
        move(driver, fifo.driver(), clock=fifo.clock, queues=["default"])
    assert fifo.claim_one(driver).message.body == "one"
