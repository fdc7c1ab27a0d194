"""Frames of AMQP 0-9-1 (section 4.2), many in one buffer: pika hands the socket each of them alone, at ten times the cost."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import pika

__all__ = ["BLANK", "Properties", "acknowledgements", "content", "decoded", "encoded", "fleeting", "publication"]

METHOD, HEADER, BODY, END = 1, 2, 3, b"\xce"
BASIC, PUBLISH, ACK = 60, 40, 80
MANDATORY = b"\x01"
USUAL = b"\x10\xa0"
"""Flags of properties that are delivery mode, message id and type alone."""
PERSISTENT = 2
MODE = bytes((PERSISTENT,))
BLANK = b"\0queuekit blank"
"""The body of a message that uses up what a consumer may be pushed, and is dropped by whoever is pushed it: no job's body begins so."""
_frame = struct.Struct(">BHI").pack
_publish = struct.Struct(">HHH").pack
_header = struct.Struct(">BHIHHQ").pack
_ack = struct.Struct(">BHIHHQBB").pack

Properties: TypeAlias = tuple[str | None, str | None, Mapping[str, Any]]
"""Message id, type, headers."""


def encoded(id: str, type: str, headers: Mapping[str, Any] | None = None) -> bytes:
    """Return the properties of a persistent message as they travel."""
    if headers:
        properties: Any = pika.BasicProperties(
            delivery_mode=PERSISTENT, message_id=id, type=type, headers=dict(headers)
        )
        return b"".join(properties.encode())
    return b"".join((USUAL, MODE, _short(id), _short(type)))


def fleeting(id: str, **fields: str) -> bytes:
    """Return the properties of a message that is not stored on disk."""
    properties: Any = pika.BasicProperties(delivery_mode=1, message_id=id, **fields)
    return b"".join(properties.encode())


def decoded(data: bytes) -> Properties:
    """Read properties as they came."""
    if data[:2] == USUAL:
        middle = 4 + data[3]
        return data[4:middle].decode(), data[middle + 1 :].decode(), {}
    properties: Any = pika.BasicProperties().decode(data)  # type: ignore[no-untyped-call,unused-ignore]
    return properties.message_id, properties.type, properties.headers or {}


def publication(channel: int, exchange: str, key: str) -> bytes:
    """Return the frame that begins a mandatory publish; `content` follows it."""
    method = b"".join((_publish(BASIC, PUBLISH, 0), _short(exchange), _short(key), MANDATORY))
    return b"".join((_frame(METHOD, channel, len(method)), method, END))


def content(channel: int, properties: bytes, body: bytes, *, most: int) -> tuple[bytes, ...]:
    """Return the frames with a message's properties and body; a body frame holds at most `most` bytes."""
    length = len(body)
    header = _header(HEADER, channel, 12 + len(properties), BASIC, 0, length)
    if 0 < length <= most:
        return header, properties, END, _frame(BODY, channel, length), body, END
    frames = [header, properties, END]
    for start in range(0, length, most):
        piece = body[start : start + most]
        frames += (_frame(BODY, channel, len(piece)), piece, END)
    return tuple(frames)


def acknowledgements(channel: int, run: int, tags: Iterable[int]) -> bytes:
    """Return the frames that acknowledge everything up to `run` (0: nothing), and each of `tags`."""
    frames = [_ack(METHOD, channel, 13, BASIC, ACK, run, 1, END[0])] if run else []
    frames += [_ack(METHOD, channel, 13, BASIC, ACK, tag, 0, END[0]) for tag in tags]
    return b"".join(frames)


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data
