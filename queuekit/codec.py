"""How payloads become text: JSON, bytes as base64, and a hook for encryption or compression."""

from __future__ import annotations

import base64
import binascii
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
    try:
        return msgspec.json.encode(value, enc_hook=_encode_model)
    except UnicodeEncodeError as error:
        message = f"{what} cannot be encoded as JSON: a text holds a lone surrogate (position {error.start})"
        raise ConfigurationError(message) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
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
