"""What PostgreSQL's errors mean, by SQLSTATE (appendix A of its manual), mapped once at the driver's edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from queuekit.contract import AmbiguousSend, BackendFull, DriverError, DriverRejected, DriverUnavailable

MEANINGS: dict[str, tuple[type[DriverError], str]] = {
    "25P03": (DriverUnavailable, "the session was ended for idling in its transaction; it is tried again"),
    "25006": (DriverUnavailable, "the server takes no writes (a standby, or read-only): it may have changed roles"),
    "28000": (DriverRejected, "the server refuses this user: check user, database and pg_hba.conf"),
    "28P01": (DriverRejected, "the password is wrong"),
    "3D000": (DriverRejected, "there is no such database"),
    "3F000": (DriverRejected, "queuekit's schema is not there: run `queuekit migrate`"),
    "40001": (DriverUnavailable, "the transaction kept colliding with others; it is tried again"),
    "40P01": (DriverUnavailable, "the transaction kept running into deadlocks; it is tried again"),
    "42501": (DriverRejected, "this role may not do that: grant it the rights of docs/postgres.md"),
    "42P01": (DriverRejected, "queuekit's tables are not there: run `queuekit migrate`"),
    "42883": (DriverRejected, "queuekit's functions are not there: run `queuekit migrate`"),
    "53100": (BackendFull, "the server's disk is full; nothing was stored: make room"),
    "53200": (BackendFull, "the server has no memory for it; nothing was stored"),
    "53300": (DriverUnavailable, "the server has no connection left: raise max_connections, or use fewer"),
    "55P03": (DriverUnavailable, "a lock was not to be had in time; it is tried again"),
    "57014": (DriverUnavailable, "the statement was cancelled, or ran longer than its time limit"),
    "57P01": (DriverUnavailable, "the session was ended by an administrator; it is tried again"),
    "57P02": (DriverUnavailable, "the server crashed; it is tried again"),
    "57P03": (DriverUnavailable, "the server is starting or stopping; it is tried again"),
}
PASSING_CLASSES = ("08", "53", "57", "58")
"""Connection, resources, operator, system: somebody else's trouble, expected to pass."""
RETRIED = ("40001", "40P01", "57P01")
"""Provably rolled back, and expected to succeed when repeated at once; after 57P01 on another connection."""
UNKNOWN_END = ("08", "57P02", "40003")
"""After these the transaction may have been committed; after all others with a SQLSTATE it was not."""
REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    "does not exist": "3D000",
    "is not permitted to log in": "28000",
    "certificate": "28000",
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "too many connections": "53300",
    "starting up": "57P03",
    "shutting down": "57P03",
}
"""A connection that was refused carries no SQLSTATE, only the server's English sentence."""


UNUSABLE = (" value: ", "invalid integer value", "definition of service", "certificate file", "private key file")
"""Words by which libpq says that it cannot use an option or its file, whatever the server is."""


class TimedOut(psycopg.OperationalError):
    """The server did not answer within the driver's time limit."""


@contextmanager
def postgres_errors(doing: str, *, secret: str | None = None, sending: bool = False) -> Iterator[None]:
    """Map what psycopg raises to queuekit's errors; `sending` tells apart what may have been applied."""
    try:
        yield
    except OSError as error:
        message = f"postgres: {error} (while {doing})"
        raise DriverUnavailable(message) from error
    except psycopg.Error as error:
        raise translated(error, doing, secret=secret, sending=sending) from _safe(error, secret)


def translated(error: psycopg.Error, doing: str, *, secret: str | None = None, sending: bool = False) -> DriverError:
    """Return queuekit's error for psycopg's."""
    state = error.sqlstate
    text = _without(secret, str(error).strip().partition("\n")[0])
    if sending and (state is None or state.startswith(UNKNOWN_END)) and isinstance(error, psycopg.OperationalError):
        return AmbiguousSend(f"the connection was lost before the server answered ({text}, while {doing})")
    kind, meaning = _meaning(error)
    return kind(f"postgres: {meaning} ({text}, while {doing})" if meaning else f"postgres: {text} (while {doing})")


def refused(error: psycopg.Error, where: str, *, secret: str | None) -> DriverError:
    """Return queuekit's error for a connection that did not come about: nothing was sent."""
    text = _without(secret, " ".join(str(error).split()))
    if any(words in text for words in UNUSABLE):
        return DriverRejected(
            f"{where}: libpq cannot use an option of the connection: correct it, or its file ({text})"
        )
    state = next((state for words, state in REFUSALS.items() if words in text), None)
    kind, meaning = MEANINGS[state] if state else (DriverUnavailable, "the server cannot be reached")
    return kind(f"{where}: {meaning} ({text})")


def _meaning(error: psycopg.Error) -> tuple[type[DriverError], str]:
    state = error.sqlstate
    if state in MEANINGS:
        return MEANINGS[state]
    passing = isinstance(error, psycopg.OperationalError) if state is None else state.startswith(PASSING_CLASSES)
    return (DriverUnavailable if passing else DriverRejected), ""


def _safe(error: psycopg.Error, secret: str | None) -> psycopg.Error | None:
    """Leave an error that quotes the password out of the chain of causes."""
    return None if secret and secret in str(error) else error


def _without(secret: str | None, text: str) -> str:
    return text.replace(secret, "***") if secret else text
