"""What one sets for this driver: where the service is, how queues behave, how long things may take; every bound checked here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from queuekit.contract import ConfigurationError, Url

__all__ = [
    "LARGEST",
    "LONGEST_DELAY",
    "LONGEST_FIFO_WAIT",
    "LONGEST_LEASE",
    "LONGEST_POLL",
    "ROOM",
    "UNIQUE_WINDOW",
    "Settings",
]

LONGEST_DELAY = 900
"""Seconds for which SQS delays a message."""
LONGEST_FIFO_WAIT = 36_000
"""Seconds for which a FIFO message is hidden at most between two attempts: what is left of its 12 hours."""
UNIQUE_WINDOW = 300
"""Seconds for which FIFO queues drop what has the deduplication id of an accepted message (SQS API reference, SendMessage)."""
LONGEST_LEASE = 43_200
"""Seconds for which SQS hides a received message in all, extensions included: 12 hours from its receipt."""
LONGEST_POLL = 20
LARGEST = 1 << 20
"""Bytes of a message with its attributes, and of all messages of a request together."""
ROOM = 4096
"""Bytes left to the attribute: what a body may have is `message_bytes` without them."""
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
RETENTION = (60, 1_209_600)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options of one driver."""

    region: str | None = None
    """None: as boto3 finds it (AWS_REGION, the profile)."""
    endpoint: str | None = None
    """Another address than the region's own: an emulator, a VPC endpoint."""
    access_key: str | None = None
    """None: credentials as boto3 finds them."""
    secret_key: str | None = None
    fifo: bool = False
    create: bool = False
    """Create queues that do not exist, instead of refusing to work with them."""
    retention: int = 1_209_600
    """Seconds for which queues that the driver creates keep a message that nobody settles."""
    poll: int = 2
    """Seconds of one long poll: stopping in good order takes up to as long."""
    polls: int = 4
    """Polls of one queue that may run at once while it is full."""
    connect_timeout: float = 5.0
    read_timeout: float = 10.0
    """Seconds without an answer after which a request counts as lost (a poll: so much beyond its own length)."""
    patience: float = 5.0
    """Seconds for which throttling and server errors are ridden out before they reach the caller."""
    message_bytes: int = LARGEST
    """Bytes of a message, and of all messages of a request together; less where the queue's MaximumMessageSize is."""
    offload: str | None = None
    """Where payloads go that are too large for a message: `s3://bucket/prefix` or a folder's path."""

    def __post_init__(self) -> None:
        if self.region is not None and not REGION.fullmatch(self.region):
            raise ConfigurationError(f"{self.region!r} is no AWS region: write it as in sqs://eu-west-1")
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigurationError("access_key and secret_key are set together, or neither is")
        _whole("poll", self.poll, 1, LONGEST_POLL)
        _whole("polls", self.polls, 1, 32)
        _whole("message_bytes", self.message_bytes, 2 * ROOM, LARGEST)
        _whole("retention", self.retention, *RETENTION)
        for name in ("connect_timeout", "read_timeout", "patience"):
            _seconds(name, getattr(self, name))

    def __repr__(self) -> str:
        """Leave the secret out."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "secret_key")
        return f"Settings({', '.join(shown)})"

    @classmethod
    def from_url(cls, url: Url) -> Settings:
        """Read `sqs://KEY:SECRET@region?option=value`; raises `ConfigurationError` for what does not fit."""
        if url.path.strip("/") or url.port is not None:
            raise ConfigurationError(f"{url} has a path or port: write sqs://eu-west-1?endpoint=http://host:port")
        url.refuse_unknown(READERS)
        options: dict[str, Any] = {name: READERS[name](name, text) for name, text in url.options.items()}
        return cls(region=url.host or None, access_key=url.user, secret_key=url.password, **options)

    @property
    def credentials(self) -> Mapping[str, str]:
        """What a boto3 session takes."""
        if self.access_key is None or self.secret_key is None:
            return {}
        return {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name}={value!r} is refused: give a whole number from {least} to {most:,}")


def _seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        raise ConfigurationError(f"{name}={value!r} is refused: give a number of seconds above 0, at most 3600")


def _read_flag(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise ConfigurationError(f"{name}={text!r} is refused: give true or false")
    return text == "true"


def _read_whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{name}={text!r} is refused: give a whole number")
    return int(text)


def _read_seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name}={text!r} is refused: give seconds as a number") from None


def _read_endpoint(name: str, text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ConfigurationError(f"{name}={text!r} is refused: give an address such as http://localhost:4566")
    return text


def _read_text(name: str, text: str) -> str:
    if not text:
        raise ConfigurationError(f"{name} is empty")
    return text


READERS = {
    "endpoint": _read_endpoint,
    "fifo": _read_flag,
    "create": _read_flag,
    "retention": _read_whole,
    "message_bytes": _read_whole,
    "poll": _read_whole,
    "polls": _read_whole,
    "connect_timeout": _read_seconds,
    "read_timeout": _read_seconds,
    "patience": _read_seconds,
    "offload": _read_text,
}
"""The options of an address, and how each is read."""
