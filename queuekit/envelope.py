"""The envelope: what a message's body says. Described for other languages in docs/envelope.md; one JSON object."""

from __future__ import annotations

from typing import Any

import msgspec

from queuekit.backoff import Backoff

__all__ = ["VERSION", "Envelope", "Template", "Undecodable", "UnknownVersion", "decode", "rewrite"]

VERSION = 1
HEAD = f'{{"v":{VERSION},"id":"'


class Undecodable(ValueError):
    """The body is not an envelope; its bytes are kept as they are."""


class UnknownVersion(ValueError):
    """A newer queuekit wrote it: a worker that understands it may exist, so the job is given back."""


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One job as it travels. Fields that this version does not know are ignored here and kept by `rewrite`."""

    v: int
    id: str
    type: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    codec: str | None = None
    """None: the payload stands here as JSON. Else it is a string made by the codec of that name."""
    sent: float = 0.0
    """When it was dispatched, in seconds since the epoch by the dispatcher's clock."""
    retries: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    deadline: float | None = None
    """Not worth starting after this instant."""
    delivery: str | None = None
    settle: str | None = None
    headers: dict[str, str] | None = None
    attempts: int = 0
    """Attempts made under earlier messages of this job: transports send a successor for every retry."""
    snoozes: int = 0
    strange: int = 0
    """How often in a row it was given back by workers that do not know its type."""
    generation: int = 0
    due: float | None = None
    """Not to be started before this instant: a delay longer than the backend's longest travels in hops until then."""


_decoder = msgspec.json.Decoder(Envelope)
_version = msgspec.json.Decoder(dict[str, Any])


def decode(body: str) -> Envelope:
    """Read a body; raises `Undecodable` or `UnknownVersion`."""
    try:
        envelope = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise _what_is_wrong(body, error) from error
    if envelope.v != VERSION:
        raise _what_is_wrong(body, ValueError(f"version {envelope.v}"))
    return envelope


def _what_is_wrong(body: str, error: Exception) -> ValueError:
    try:
        version = _version.decode(body).get("v")
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        version = None
    if isinstance(version, int) and version > VERSION:
        return UnknownVersion(f"envelope version {version}; this worker reads up to {VERSION}")
    return Undecodable(str(error))


def rewrite(body: str, **changes: float) -> str:
    """Return the body with some of its numbers changed and everything else, known or not, kept."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    for name, value in changes.items():
        fields[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(fields).decode()


class Template:
    """The constant part of the envelopes of one kind of dispatch, encoded once; ids and payloads are put in per job."""

    __slots__ = ("_constant", "_type")

    def __init__(self, constant: Envelope) -> None:
        fields = msgspec.to_builtins(constant)
        self._type = f'","type":{msgspec.json.encode(constant.type).decode()},"sent":'
        for name in ("v", "id", "type", "payload"):
            fields.pop(name, None)
        self._constant = "".join(
            f"{msgspec.json.encode(name).decode()}:{msgspec.json.encode(value).decode()},"
            for name, value in fields.items()
        )

    def body(self, id: str, payload: str, sent: float, deadline: float | None) -> str:
        """Return the envelope as text. `payload` is JSON already, `id` a UUID: neither needs escaping."""
        limit = "" if deadline is None else f'"deadline":{deadline!r},'
        return f'{HEAD}{id}{self._type}{sent:.3f},{limit}{self._constant}"payload":{payload}}}'
