"""The short cut for deliveries: what pika goes by must still be true."""

from __future__ import annotations

import struct

from queuekit_rabbitmq.stream import Arrival, Stream


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivery(body: bytes) -> bytes:
    method = b"\x00\x3c\x00\x3c" + b"\x01c" + struct.pack(">QB", 7, 0) + b"\x00" + b"\x04jobs"
    header = struct.pack(">HHQH", 60, 0, len(body), 0)
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    return b"".join([frame(1, method), frame(2, header), *(frame(3, piece) for piece in pieces)])


def stream_of(arrived: list[Arrival]) -> Stream:
    stream: Stream = Stream.__new__(Stream)
    stream._frame_buffer = stream._rest = b""
    stream._number, stream.consumers, stream._arrived = 1, {b"c"}, []
    stream._on_arrivals, stream._on_confirm = arrived.extend, None
    stream.bytes_received = 0
    return stream


def test_a_body_that_is_still_on_its_way_is_a_sign_of_life() -> None:
    """Pika's heartbeat looks whether `bytes_received` has grown, and ends a connection on which nothing has come."""
    arrived: list[Arrival] = []
    stream, data = stream_of(arrived), delivery(b"x" * 5000)
    counts = []
    for start in range(0, len(data), 500):
        stream._on_data_available(data[start : start + 500])
        counts.append(stream.bytes_received)
    assert [body for *_, body in arrived] == [b"x" * 5000]
    assert counts == sorted(set(counts)), "pika would take a link on which a large body travels for dead"
    assert counts[-1] == len(data)
