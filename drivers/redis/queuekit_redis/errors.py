"""What Redis' errors mean, mapped once at the driver's edge. Texts of errors name the server, never credentials."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from queuekit.contract import BackendFull, DriverError, DriverRejected, DriverUnavailable, mapped

__all__ = ["is_elsewhere", "redis_errors", "translated"]

CODES: dict[str, tuple[type[DriverError], str]] = {
    "OOM": (BackendFull, "the server has no memory left for it (maxmemory); nothing was stored: make room"),
    "MISCONF": (BackendFull, "the server cannot save to its disk and takes no writes; nothing was stored: make room"),
    "NOREPLICAS": (DriverUnavailable, "too few replicas are connected (min-replicas-to-write)"),
    "LOADING": (DriverUnavailable, "the server is still loading its data"),
    "BUSY": (DriverUnavailable, "a script of somebody else keeps the server busy"),
    "READONLY": (DriverUnavailable, "this server is a replica now; the new primary is looked for"),
    "MASTERDOWN": (DriverUnavailable, "the replica has lost its primary"),
    "CLUSTERDOWN": (DriverUnavailable, "the cluster is down or does not serve this slot"),
    "TRYAGAIN": (DriverUnavailable, "the slot is being moved"),
    "ASK": (DriverUnavailable, "the slot is being moved"),
    "MOVED": (DriverUnavailable, "the slot was moved"),
    "UNBLOCKED": (DriverUnavailable, "the server ended the wait"),
    "WRONGTYPE": (
        DriverRejected,
        "a key of queuekit holds a value of another type: somebody else wrote there; delete that key or use another namespace",
    ),
    "CROSSSLOT": (DriverRejected, "keys lie in several slots"),
    "NOPERM": (DriverRejected, "the user lacks a permission; docs/redis.md lists what is needed"),
    "NOAUTH": (DriverRejected, "the server wants a password"),
    "WRONGPASS": (DriverRejected, "user name or password is wrong, or the user is disabled"),
    "NOPROTO": (DriverRejected, "the server does not speak this protocol version"),
}
"""What an error reply begins with, and what it means."""

CLASSES: dict[type[BaseException], str] = {
    OutOfMemoryError: "OOM",
    redis.BusyLoadingError: "LOADING",
    AuthenticationError: "WRONGPASS",
    AuthorizationError: "NOPERM",
    NoPermissionError: "NOPERM",
    ReadOnlyError: "READONLY",
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
}
"""Replies that the client knows by class; it cuts their code off."""

_CODE = re.compile(r"\b(" + "|".join(CODES) + r")\b")


def is_elsewhere(error: BaseException | None) -> bool:
    """Whether the server that was asked is not the one that has the keys (any more)."""
    return isinstance(error, (MovedError, ReadOnlyError)) or (
        isinstance(error, ResponseError) and "READONLY" in str(error)
    )


def translated(error: BaseException, *, server: str, doing: str) -> DriverError:
    """Return queuekit's error for one of the client's."""
    code = _code_of(error)
    if code is not None:
        kind, meaning = CODES[code]
        return kind(f"{server}: {meaning} ({code}, while {doing})")
    if (lasting := _lasting(error, server)) is not None:
        return lasting
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, RedisClusterException, OSError)):
        return DriverUnavailable(f"{server} cannot be reached while {doing}: {error}")
    return DriverRejected(f"{server} refused while {doing}: {error}")


def _lasting(error: BaseException | None, server: str) -> DriverRejected | None:
    """Return what it means that TLS failed for a reason which does not pass; the client counts it among broken connections."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return DriverRejected(f"{server}: its certificate is not trusted ({error.verify_message})")
        if isinstance(error, FileNotFoundError) and server.startswith(("rediss://", "valkeys://")):
            # It was there when the driver was built, and no network says that.
            return DriverRejected(f"{server}: a file of ssl_ca_certs, ssl_certfile or ssl_keyfile is gone")
        error = error.__cause__ or error.__context__
    return None


def _code_of(error: BaseException) -> str | None:
    for kind, code in CLASSES.items():
        if isinstance(error, kind):
            return code
    if not isinstance(error, ResponseError):
        return None
    if "can't run this command" in str(error):
        return "NOPERM"  # said from inside a script, without its code
    found = _CODE.search(str(error))
    return None if found is None else found[1]


@contextmanager
def redis_errors(server: str, *, doing: str) -> Iterator[None]:
    """Map what the client raises to queuekit's errors."""
    translate = lambda error: translated(error, server=server, doing=doing)  # noqa: E731 - one expression, used twice
    with mapped({RedisError: translate, RedisClusterException: translate, OSError: translate}, doing=doing):
        yield
