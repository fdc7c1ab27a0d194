"""How payloads become text: JSON, bytes as base64, and a hook for encryption or compression."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from queuekit.errors import ConfigurationError

__all__ = ["BASE64", "Codec", "encode_json"]

BASE64 = "base64"
"""The codec of payloads that are bytes."""


class Codec(Protocol):
    """Turns an encoded payload into other text and back, for example encrypted. Every worker needs the same one."""

    @property
    def name(self) -> str:
        """The name that travels with the payload and finds the codec on the other side."""
        ...

    def encode(self, data: bytes) -> str:
        """Return any Unicode text for the payload's JSON."""
        ...

    def decode(self, text: str) -> bytes:
        """Return the JSON again; raise ValueError for text that this codec did not write."""
        ...


def encode_json(value: Any, *, what: str) -> bytes:
    """Encode as JSON; raises `ConfigurationError` naming the kind of value that has no JSON form."""
    encoded = _encode(value, what)
    if b"null" in encoded:
        _refuse_not_finite(value, what)
    return encoded


def _encode(value: Any, what: str) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_encode_model)
    except UnicodeEncodeError as error:
        message = f"{what} cannot be encoded as JSON: a text holds a lone surrogate (position {error.start})"
        raise ConfigurationError(message) from error
    except Exception as error:  # a model's own code may raise anything
        detail = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        message = f"{what} cannot be encoded as JSON: {detail}"
        raise ConfigurationError(message) from error


def _encode_model(value: Any) -> Any:
    """Encode pydantic models without importing pydantic."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        message = f"values of type {type(value).__name__} have no JSON form"
        raise TypeError(message)
    return dump(mode="json")


def _refuse_not_finite(value: Any, what: str) -> None:
    """Refuse NaN and infinities, which JSON would turn into null in silence."""
    stack: list[tuple[str, Any]] = [("$", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, float) and not math.isfinite(item):
            message = f"{what} holds {item!r} at {path}, which JSON cannot carry: send a text or null"
            raise ConfigurationError(message)
        stack.extend(_inside(path, item))


def _inside(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{path}.{name}", item) for name, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None) or ()
    return [(f"{path}.{name}", getattr(value, name, None)) for name in names]


def encode_bytes(value: bytes | bytearray | memoryview) -> str:
    """Return bytes as base64."""
    return base64.b64encode(value).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Return base64 as bytes; raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        message = f"not base64: {error}"
        raise ValueError(message) from error
