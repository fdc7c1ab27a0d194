"""How a message travels."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.contract import Concurrency, ConfigurationError, DriverRejected, Message, Rate, Unique, UnsupportedError
from queuekit_sqs.settings import LONGEST_DELAY, Settings
from queuekit_sqs.wire import ATTRIBUTE, FORBIDDEN, Label, label_of, message_of, parcel_of, read_label

STANDARD, FIFO = Settings(region="eu-west-1"), Settings(region="eu-west-1", fifo=True)


def parcel(message, *, delay=0.0, settings=STANDARD, label=None):
    return parcel_of(message, label or label_of(message), delay=delay, now=1000.0, settings=settings)


def received(sent):
    entry = sent.entry(0)
    return {"MessageId": "m", "Body": entry["MessageBody"], "MessageAttributes": entry["MessageAttributes"]}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_was(body):
    raw = received(parcel(Message("i", "q", "t", body)))
    assert raw["Body"]
    assert not FORBIDDEN.search(raw["Body"])
    label = read_label(raw)
    assert message_of(raw, label, "q") == Message("i", "q", "t", body)


def test_bytes_that_were_no_text_arrive_as_they_were():
    body = b"\xff\x00".decode("utf-8", "surrogateescape")
    raw = received(parcel(Message("i", "q", "t", body)))
    assert message_of(raw, read_label(raw), "q").body == body


def test_key_tags_and_retention_travel():
    message = Message("i", "q", "t", "{}", key="k", tags=("a", "b"), retain=5.0)
    raw = received(parcel(message, settings=FIFO))
    assert message_of(raw, read_label(raw), "q") == message


def test_a_job_has_one_attribute_whatever_it_carries():
    message = Message("i", "q", "t", "{}", key="k", tags=tuple(f"tag{i}" for i in range(20)), retain=5.0)
    assert list(parcel(message, settings=FIFO).entry(0)["MessageAttributes"]) == [ATTRIBUTE]
    with pytest.raises(DriverRejected, match="bytes"):
        parcel(Message("i", "q", "t", "{}", tags=tuple(f"{'x' * 50}{i}" for i in range(30_000))))


def test_another_programs_envelope_keeps_its_id():
    raw = {"MessageId": "m", "Body": '{"v":1,"id":"the-id","type":"mail.send","payload":{}}'}
    assert read_label(raw) == Label(id="the-id", type="mail.send")


@pytest.mark.parametrize("body", ["no json", "[]", '{"id":5}', '{"v":1}', "\ud800"])
def test_anything_else_is_a_job_of_its_own(body):
    raw = {"MessageId": "m", "Body": body}
    assert read_label(raw) == Label(id="m")
    assert message_of(raw, read_label(raw), "q").body == body


def test_a_body_that_exhausts_the_decoders_stack_is_a_job_of_its_own():
    body = '{"a":' * 50_000
    message = message_of(sent := {"Body": body, "MessageId": "m"}, read_label(sent), "default")
    assert (message.id, message.body) == ("m", body)


def test_a_broken_attribute_or_encoding_harms_nobody():
    attribute = {ATTRIBUTE: {"StringValue": "no json"}}
    assert read_label({"MessageId": "m", "Body": "x", "MessageAttributes": attribute}) == Label(id="m")
    assert message_of({"Body": "=no base64"}, Label(id="i", form="base64"), "q").body == "=no base64"
    assert message_of({"Body": "=" + base64.b64encode(b"ok").decode()}, Label(id="i", form="base64"), "q").body == "ok"


@pytest.mark.parametrize(("delay", "seconds"), [(0.0, 0), (0.01, 1), (1.0, 1), (1.5, 2), (900.0, 900)])
def test_a_delay_is_rounded_up_to_seconds(delay, seconds):
    assert parcel(Message("i", "q", "t", "{}"), delay=delay).entry(0).get("DelaySeconds", 0) == seconds


@pytest.mark.parametrize("delay", [-1.0, LONGEST_DELAY + 1.0, float("nan"), float("inf")])
def test_a_delay_that_sqs_does_not_know_is_refused(delay):
    with pytest.raises(ConfigurationError, match="delay"):
        parcel(Message("i", "q", "t", "{}"), delay=delay)


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"priority": 9}, "use amqp:// or an engine"),
        ({"concurrency": Concurrency("k", 1)}, "store="),
        ({"rate": Rate("k", 1, 1.0)}, "store="),
        ({"unique": Unique("s", 300)}, "store="),
        ({"key": "k"}, "store="),
    ],
)
def test_no_field_is_ignored_in_silence(fields, remedy):
    with pytest.raises(UnsupportedError, match=remedy):
        parcel(Message("i", "q", "t", "{}", **fields))


def test_unique_jobs_of_one_scope_share_what_fifo_queues_compare():
    def entry(scope, *, id, key=None, sends=0):
        message = Message(id, "q", "t", "{}", key=key, unique=Unique(scope, 300))
        label = Label(id=id, key=key, sends=sends)
        made = parcel(message, settings=FIFO, label=label).entry(0)
        return made["MessageGroupId"], made["MessageDeduplicationId"]

    assert entry("s", id="i") == entry("s", id="j")
    assert entry("s", id="i")[1] != entry("other", id="i")[1]
    assert entry("s", id="i", key="k")[0] == "k.k"
    assert entry("s", id="i", sends=1)[1] == "i:0:1", "a successor would be swallowed"
    assert all(len(text) <= 128 for text in entry("q" * 60 + "t" * 300, id="i"))


@pytest.mark.parametrize(
    "unique", [Unique("s"), Unique("s", 60), Unique("s", 300, "start"), Unique("s", 300, "end", "raise")]
)
def test_a_scope_that_fifo_queues_cannot_hold_is_refused(unique):
    with pytest.raises(UnsupportedError, match="unique"):
        parcel(Message("i", "q", "t", "{}", unique=unique), settings=FIFO)


def test_a_group_is_the_key_or_the_jobs_own():
    def group(key):
        return parcel(Message("i", "q", "t", "{}", key=key), settings=FIFO).entry(0)["MessageGroupId"]

    assert group(None) == "i"
    assert group("customer-42") == "k.customer-42"
    assert len({group(key) for key in ("ä", "ö", "x" * 300, "x" * 301, "a b")}) == 5
    assert all(len(group(key)) <= 128 for key in ("ä", "x" * 500))


def test_every_successor_has_a_new_deduplication_id():
    message = Message("i", "q", "t", "{}")
    labels = [Label(id="i", sends=sends, generation=generation) for sends in (0, 1, 2) for generation in (0, 1)]
    seen = [parcel(message, settings=FIFO, label=label).entry(0)["MessageDeduplicationId"] for label in labels]
    assert len(set(seen)) == 6
    assert seen[0] == "i"
