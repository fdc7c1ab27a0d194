"""What one sets for this driver: where the service is, how queues behave, how long things may take; every bound checked here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from queuekit.contract import ConfigurationError, Url, flag, read_flag, read_number, read_whole, refuse, seconds, whole

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
LONGEST_TIMEOUT = 3600.0


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
        for name in TEXTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigurationError(f"{name} ({type(value).__name__}) is refused: give a text, or leave it out")
        if self.region is not None and not REGION.fullmatch(self.region):
            raise ConfigurationError(f"{self.region!r} is no AWS region: write it as in sqs://eu-west-1")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise refuse("endpoint", self.endpoint, "give an address such as http://localhost:4566")
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigurationError("access_key and secret_key are set together, or neither is")
        for name in FLAGS:
            flag(name, getattr(self, name))
        for name, (least, most) in WHOLE.items():
            whole(name, getattr(self, name), least=least, most=most)
        for name in SECONDS:
            checked = seconds(name, getattr(self, name), zero=False, most=LONGEST_TIMEOUT)
            msgspec.structs.force_setattr(self, name, checked)

    def __repr__(self) -> str:
        """Leave the secret out."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "secret_key")
        return f"Settings({', '.join(shown)})"

    @classmethod
    def of(cls, given: Settings | Url | str | None, options: Mapping[str, Any]) -> Settings:
        """Return settings as they are given: made already, as an address, or as options by name."""
        if given is not None and options:
            message = f"{', '.join(options)} beside settings is refused: set that in the settings or the address too"
            raise ConfigurationError(message)
        if isinstance(given, Settings):
            return given
        if given is not None:
            return cls.from_url(given if isinstance(given, Url) else Url.parse(given))
        if unknown := [name for name in options if name not in cls.__struct_fields__]:
            known = ", ".join(sorted(cls.__struct_fields__))
            raise ConfigurationError(f"the sqs driver has no option {unknown[0]!r} (its options: {known})")
        return cls(**options)

    @classmethod
    def from_url(cls, url: Url) -> Settings:
        """Read `sqs://KEY:SECRET@region?option=value`; raises `ConfigurationError` for what does not fit."""
        if url.scheme != "sqs":
            raise ConfigurationError(f"{url} is no address of SQS: write sqs://eu-west-1")
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


def _as_it_is(name: str, text: str) -> str:
    """Return the text; what it may be is checked with the other settings."""
    del name
    return text


TEXTS = ("region", "endpoint", "access_key", "secret_key", "offload")
FLAGS = ("fifo", "create")
WHOLE = {"retention": RETENTION, "message_bytes": (2 * ROOM, LARGEST), "poll": (1, LONGEST_POLL), "polls": (1, 32)}
"""Whole numbers, the least and the most of each."""
SECONDS = ("connect_timeout", "read_timeout", "patience")
READERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(("endpoint", "offload"), _as_it_is),
    **dict.fromkeys(FLAGS, read_flag),
    **dict.fromkeys(WHOLE, read_whole),
    **dict.fromkeys(SECONDS, read_number),
}
"""The options of an address, and how each is read."""
