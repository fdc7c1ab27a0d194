"""Parts by themselves: what no emulator can be made to do."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from botocore.exceptions import ReadTimeoutError

from queuekit.contract import Again, AmbiguousSend, DriverUnavailable, Message, SystemClock
from queuekit.ids import new_id
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whoever_shares_a_request_with_one_who_is_interrupted_is_told_that_its_fate_is_unknown(monkeypatch, error):
    sender = Sender(None, None, Threads(2, name="test"), Settings())
    first, second, third = parcel(), parcel(), parcel()
    joined = threading.Event()
    answers = []

    def post(batch, **_):
        if joined.is_set():
            return Posted(accepted=[p.id for p in batch])
        joined.set()
        raise error("now")

    real = sender._next

    def take(queue):
        if not joined.is_set():
            waiter.start()
            while len(sender._waiting[queue]) < 2:
                pass
        return real(queue)

    waiter = threading.Thread(target=lambda: answers.append(sender.send([second])))
    monkeypatch.setattr(sender, "_post", post)
    monkeypatch.setattr(sender, "_next", take)
    with pytest.raises(error):
        sender.send([first])
    waiter.join(5)
    [answer] = answers
    assert isinstance(answer.unknown[second.id], AmbiguousSend)
    assert sender.send([third]).accepted == [third.id]


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
