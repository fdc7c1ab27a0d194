"""Stored bytes of every version are read the same for ever."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from queuekit import Backoff
from queuekit.envelope import Undecodable, UnknownVersion, decode, rewrite

GOLDEN = (Path(__file__).parent / "golden" / "envelope_v1.json").read_text("utf-8")


def test_version_1_reads_as_it_was_written() -> None:
    envelope = decode(GOLDEN)
    assert (envelope.v, envelope.type, envelope.retries, envelope.timeout) == (1, "emails.send", 5, 30.0)
    assert (envelope.sent, envelope.deadline, envelope.settle, envelope.snoozes) == (
        1700000000.125,
        1700000600.0,
        "sync",
        2,
    )
    assert envelope.backoff == Backoff.exponential(1, max=300, jitter=0.2)
    assert envelope.headers == {"traceparent": "00-ab-cd-01"}
    assert msgspec.json.decode(envelope.payload) == {"to": "a@b.c", "subject": "hï \0"}


def test_what_this_version_does_not_know_is_kept() -> None:
    before, after = msgspec.json.decode(GOLDEN), msgspec.json.decode(rewrite(GOLDEN, snoozes=3))
    assert after.pop("snoozes") == 3
    before.pop("snoozes")
    assert after == before


@pytest.mark.parametrize(
    "body", ["", "null", "[]", "{}", '{"v":1}', '{"v":1,"id":5,"type":"t"}', "\udcff\udcfe", '{"v":0}']
)
def test_what_is_no_envelope_is_undecodable(body: str) -> None:
    with pytest.raises(Undecodable):
        decode(body)


def test_the_future_is_told_from_garbage() -> None:
    with pytest.raises(UnknownVersion, match="version 2"):
        decode('{"v":2,"anything":[1]}')
