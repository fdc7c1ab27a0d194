"""What is stored is what was sent, whatever it holds."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from queuekit.contract import Concurrency, Message, Rate, Unique
from queuekit_redis import codec

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
BODY = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
SECONDS = st.integers(1, 10**9).map(lambda micros: micros / 1_000_000)
MESSAGES = st.builds(
    Message,
    id=st.uuids().map(str),
    queue=st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True),
    type=TEXT,
    body=BODY,
    priority=st.integers(0, 9),
    key=st.none() | TEXT,
    concurrency=st.none() | st.builds(Concurrency, TEXT, st.integers(1, 99)),
    rate=st.none() | st.builds(Rate, TEXT, st.integers(1, 99), SECONDS),
    unique=st.none()
    | st.builds(
        Unique,
        TEXT,
        st.none() | SECONDS,
        st.sampled_from(["end", "start"]),
        st.sampled_from(["return", "raise", "replace"]),
    ),
    retain=st.none() | st.integers(0, 10**6).map(float),
    tags=st.lists(TEXT, max_size=3).map(tuple),
)


@given(MESSAGES)
def test_a_stored_message_is_read_back_as_it_was(message):
    rank, record = 9 - message.priority, codec.stored_record(message)
    value = f"{message.queue}:{rank}:000000000001:{message.id}\n1700000000000000\n{record}"
    assert codec.message_of(value.encode("utf-8", "surrogateescape")) == (message, 1_700_000_000_000_000)


@given(st.recursive(TEXT | st.integers(-1, 2**53) | st.booleans(), lambda inner: st.lists(inner, max_size=3)))
def test_both_ways_of_packing_mean_the_same(value):
    assert msgspec.msgpack.decode(codec._pack_raw(value)) == msgspec.msgpack.decode(codec.pack(value))


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: raw[-1] >= 0x80))
def test_bytes_that_were_no_text_are_packed_as_they_are(raw):
    assert codec.pack([raw.decode("utf-8", "surrogateescape")]).endswith(raw)


@given(st.floats(0, 10**9))
def test_a_duration_is_never_cut_short(seconds):
    assert codec.micros(seconds) >= seconds * 1_000_000 - 0.001
