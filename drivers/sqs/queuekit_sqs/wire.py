"""How a message travels: its envelope as the body, what only the driver needs in one attribute beside it."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

import msgspec

from queuekit.contract import ConfigurationError, DriverRejected, Failure, Message, Unique, UnsupportedError
from queuekit_sqs.settings import LONGEST_DELAY, LONGEST_FIFO_WAIT, UNIQUE_WINDOW, Settings

__all__ = ["ATTRIBUTE", "Label", "Parcel", "message_of", "parcel_of", "read_label"]

ATTRIBUTE = "queuekit"
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that a message must not have (SQS API reference, SendMessage)."""


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands in the attribute."""

    id: str
    type: str = ""
    base: int = 0
    """Attempts made under earlier messages of this job."""
    generation: int = 0
    sends: int = 0
    """How often this job was sent before: makes every deduplication id a new one."""
    due: float | None = None
    """FIFO, which has no delay of a message: not to be lent before this instant."""
    key: str | None = None
    tags: tuple[str, ...] = ()
    retain: float | None = None
    form: str = ""
    """How the body is written: as it is, `base64`, or `elsewhere` (the body is the address in the object store)."""
    recovered: bool = False
    """An earlier lease ran out under an earlier message."""
    reason: str | None = None
    """Dead letters: why, how it ended (failed or cancelled), and the last error."""
    state: str | None = None
    error: Failure | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Label)


class Parcel(msgspec.Struct, kw_only=True):
    """One entry of a batch to be sent."""

    id: str
    queue: str
    body: str
    label: Label
    attribute: str
    delay: int
    size: int
    group: str | None = None
    """FIFO: what keeps order among the messages that share it."""
    deduplication: str | None = None

    def entry(self, number: int) -> dict[str, Any]:
        """Return it as SendMessageBatch takes it."""
        entry: dict[str, Any] = {
            "Id": str(number),
            "MessageBody": self.body,
            "MessageAttributes": {ATTRIBUTE: {"DataType": "String", "StringValue": self.attribute}},
        }
        if self.delay:
            entry["DelaySeconds"] = self.delay
        if self.group is not None:
            entry["MessageGroupId"] = self.group
            entry["MessageDeduplicationId"] = self.deduplication
        return entry


def label_of(message: Message) -> Label:
    """Return the label of a job's first message."""
    return Label(id=message.id, type=message.type, key=message.key, tags=message.tags, retain=message.retain)


def parcel_of(message: Message, label: Label, *, delay: float, now: float, settings: Settings) -> Parcel:
    """Write a message that is due in `delay` seconds; raises for what this service cannot carry."""
    fifo = settings.fifo
    refuse_unsupported(message, delay, fifo=fifo)
    label = msgspec.structs.replace(label, due=now + delay if fifo and delay else None)
    body = message.body
    if label.form == "":
        body, form = _written(body)
        label = msgspec.structs.replace(label, form=form)
    attribute = _encoder.encode(label).decode()
    size = len(body.encode()) + len(attribute.encode()) + len(ATTRIBUTE) + len("String")
    if size > settings.message_bytes:
        most = settings.message_bytes
        raise DriverRejected(f"job {message.id}: {size:,} bytes as a message, and SQS carries {most:,}")
    return Parcel(
        id=message.id,
        queue=message.queue,
        body=body,
        label=label,
        attribute=attribute,
        delay=0 if fifo else math.ceil(delay),
        size=size,
        group=_group(label, message.unique) if fifo else None,
        deduplication=_deduplication(label, message.unique) if fifo else None,
    )


def refuse_unsupported(message: Message, delay: float, *, fifo: bool) -> None:
    """Raise for a field that this driver cannot honour: the core asks `Limits` before, other callers may not."""
    paired = 'pair it with a store, as in Queue("sqs://…", store="redis://…")'
    for feature, asked, remedy in (
        ("priority", message.priority != 4, "use amqp:// or an engine: a store brings no priorities"),
        ("concurrency", message.concurrency is not None, paired),
        ("rate_limit", message.rate is not None, paired),
        ("unique", message.unique is not None and not (fifo and _in_window(message.unique)), paired),
        ("key", message.key is not None and not fifo, paired),
    ):
        if asked:
            text = f"the sqs driver cannot honour {feature}: {remedy}"
            raise UnsupportedError(text, driver="sqs", feature=feature, remedy=remedy)
    longest = LONGEST_FIFO_WAIT if fifo else LONGEST_DELAY
    if not 0 <= delay <= longest:
        raise ConfigurationError(f"delay={delay!r} is refused: give a number of seconds from 0 to {longest:,}")


def _in_window(unique: Unique) -> bool:
    """Tell whether this is what a deduplication id can do: drop others for a fixed time, and tell nobody."""
    return (unique.ttl, unique.until, unique.on_conflict) == (UNIQUE_WINDOW, "end", "return")


def _written(body: str) -> tuple[str, str]:
    """Return the body as SQS takes it, and its form: no message is empty or has a control character."""
    if body and not FORBIDDEN.search(body):
        return body, ""
    return "=" + base64.b64encode(body.encode("utf-8", "surrogateescape")).decode(), "base64"


def _group(label: Label, unique: Unique | None = None) -> str:
    """Return the message group: the key as a text that SQS allows, else the unique scope's, else the job's own.

    Queues with high throughput compare deduplication ids within a group only.
    """
    if label.key is None:
        return label.id if unique is None else f"u.{_short(unique.scope)}"
    if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", label.key):
        return f"k.{label.key}"
    return f"h.{_short(label.key)}"


def _short(text: str) -> str:
    import hashlib  # noqa: PLC0415 - only for unique jobs, and for keys that are no plain words

    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _deduplication(label: Label, unique: Unique | None = None) -> str:
    """Return the unique scope's id for a job's first message, else a new one: within five minutes SQS drops what has an old one."""
    if not label.sends and not label.generation:
        return label.id if unique is None else f"u.{_short(unique.scope)}"
    return f"{label.id}:{label.generation}:{label.sends}"


def read_label(received: dict[str, Any]) -> Label:
    """Read a received message's label; a message that queuekit did not write gets one made of what it says itself."""
    attribute = received.get("MessageAttributes", {}).get(ATTRIBUTE, {}).get("StringValue")
    if attribute is not None:
        try:
            return _decoder.decode(attribute)
        except (msgspec.MsgspecError, RecursionError):
            return Label(id=received["MessageId"])
    return _foreign(received)


class _Envelope(msgspec.Struct):
    id: str
    type: str


_envelope = msgspec.json.Decoder(_Envelope)


def _foreign(received: dict[str, Any]) -> Label:
    """Label what another program sent: the envelope has the job's id and type; anything else is a job of its own."""
    try:
        envelope = _envelope.decode(received["Body"])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return Label(id=received["MessageId"])
    return Label(id=envelope.id, type=envelope.type)


def message_of(received: dict[str, Any], label: Label, queue: str) -> Message:
    """Read a received message, except for a body that is elsewhere."""
    body: str = received["Body"]
    if label.form == "base64":
        try:
            body = base64.b64decode(body[1:], validate=True).decode("utf-8", "surrogateescape")
        except binascii.Error:
            body = received["Body"]  # no envelope either: the core parks it with its bytes as they are
    return Message(
        id=label.id, queue=queue, type=label.type, body=body, key=label.key, tags=label.tags, retain=label.retain
    )
