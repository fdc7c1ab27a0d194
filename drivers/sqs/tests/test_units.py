"""Parts by themselves: what no emulator can be made to do."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from botocore.exceptions import ReadTimeoutError

from queuekit.contract import Again, AmbiguousSend, DriverUnavailable, Message, SystemClock
from queuekit.ids import new_id
from queuekit_integration.faults import interrupted_at_every_step
from queuekit_integration.harness import wait_until
from queuekit_sqs.lent import Lent, delivery_of
from queuekit_sqs.offload import S3Store
from queuekit_sqs.sending import Posted, Sender
from queuekit_sqs.settings import Settings
from queuekit_sqs.settling import Settling
from queuekit_sqs.threads import Threads
from queuekit_sqs.wire import label_of, parcel_of


def parcel():
    message = Message(new_id(), "default", "t", "{}")
    return parcel_of(message, label_of(message), delay=0.0, now=0.0, settings=Settings())


def test_a_payload_whose_reading_breaks_off_is_trouble_that_passes():
    def read():
        raise ReadTimeoutError(endpoint_url="s3")

    store = S3Store("bucket", settings=Settings(region="eu-west-1"))
    store._client = SimpleNamespace(get_object=lambda **_: {"Body": SimpleNamespace(read=read)})
    with pytest.raises(DriverUnavailable, match="S3 does not answer"):
        store.get("name")


def test_whoever_shares_a_request_that_fails_in_an_unknown_way_is_told_that_its_fate_is_unknown(monkeypatch):
    sender = Sender(None, None, Threads(2, name="test"), Settings())
    first, second, third = parcel(), parcel(), parcel()
    under_way, joined = threading.Event(), threading.Event()
    answers = []

    def post(batch, **_):
        if not under_way.is_set():
            under_way.set()
            joined.wait(5)
            return Posted(accepted=[p.id for p in batch])
        if len(batch) == 2:
            raise RuntimeError("now")
        return Posted(accepted=[p.id for p in batch])

    monkeypatch.setattr(sender, "_post", post)
    threads = [threading.Thread(target=lambda p=p: answers.append(sender.send([p]))) for p in (first, second, third)]
    threads[0].start()
    under_way.wait(5)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(sender._waiting["default"]) == 2, "two to wait for the next request")
    joined.set()
    for thread in threads:
        thread.join(5)
    assert [answer.accepted for answer in answers if answer.accepted] == [[first.id]]
    unknown = {id: error for answer in answers for id, error in answer.unknown.items()}
    assert set(unknown) == {second.id, third.id}
    assert all(isinstance(error, AmbiguousSend) for error in unknown.values())
    assert sender.send([parcel()]).accepted


@pytest.mark.parametrize("fifo", [False, True])
def test_no_interruption_of_one_sender_at_any_step_keeps_another_waiting(monkeypatch, fifo):
    """Ctrl-C, or the timeout of the handler that dispatches; whoever sends next, or shared its request, is answered all the same."""
    sender = Sender(None, None, Threads(2, name="test", idle=0.05), Settings(fifo=fifo))
    monkeypatch.setattr(sender, "_post", lambda batch, **_: Posted(accepted=[p.id for p in batch]))
    answered = []

    def together() -> None:
        other = threading.Thread(target=lambda: answered.append(sender.send([parcel()])))
        other.start()
        others.append(other)
        sender.send([parcel()])

    others = []
    files = ["queuekit_sqs/sending.py", "queuekit_sqs/threads.py"]
    for _ in interrupted_at_every_step(together, files):
        other = threading.Thread(target=lambda: answered.append(sender.send([parcel()])))
        other.start()
        others.append(other)
        for one in others:
            one.join(5)
            assert not one.is_alive(), "it waits for an answer that nobody will give"
        others.clear()


def test_a_retry_that_becomes_too_long_to_wait_in_place_is_sent_before_its_message_is_deleted(monkeypatch):
    """At the end of the 12 hours for which a message can be hidden, while the service turns requests away."""
    clock, sent, done = SystemClock(), [], []

    def request(operation, queue, entries):
        done.append(operation)
        if len(done) == 1:
            raise DriverUnavailable("throttled")
        return [True] * len(entries)

    def send(parcels, **_):
        sent.extend(parcels)
        return Posted(accepted=[p.id for p in parcels])

    def pack(message, label, delay):
        return parcel_of(message, label, delay=delay, now=0.0, settings=Settings())

    sender = SimpleNamespace(send=send)
    threads = Threads(2, name="test")
    settling = Settling(None, None, sender, Settings(), clock, threads=threads, store=None, pack=pack)
    monkeypatch.setattr(settling, "_request", request)
    message = Message(new_id(), "default", "t", "{}")
    now = clock.monotonic()
    lent = Lent(
        service_id="m",
        queue="default",
        handle="h",
        label=label_of(message),
        body="{}",
        ends=now + 60,
        last=now + 30,
        count=1,
        hidden=0,
        arrived=now,
        message=message,
    )
    outcome = Again(delivery_of(lent, message), 20.0)
    with pytest.raises(DriverUnavailable):
        settling.settle([outcome])
    lent.last = now + 10
    assert settling.settle([outcome]) == ["applied"]
    assert done == ["change_message_visibility_batch", "delete_message_batch"]
    assert [p.id for p in sent] == [message.id], "its message is deleted, and nothing is in its place"
