"""The driver's options, checked where they are given, and the connection string they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from queuekit.contract import ConfigurationError, Url, check_file, read_flag, read_number, read_whole, refuse

OWN = ("schema", "migrate", "connections", "timeout", "listen", "poll_interval", "pgbouncer")
LIBPQ = (
    "application_name", "channel_binding", "gssencmode", "host", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "krbsrvname", "passfile", "require_auth", "requirepeer", "service", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslpassword", "sslrootcert", "sslsni",
    "target_session_attrs", "tcp_user_timeout",
)  # fmt: skip
"""What may stand in the address for libpq (chapter "Parameter Key Words" of PostgreSQL's manual); docs/postgres.md lists it."""
TAKEN = {
    "connect_timeout": "timeout= bounds connecting too",
    "options": "the driver gives its sessions settings of its own; set others for the role (ALTER ROLE … SET …)",
}
"""What libpq knows and an address may not say, and why."""
CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
}
"""Values that libpq looks at when it connects alone, as at the next two: each mistake would look like a server that is away."""
WHOLE = ("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")
FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
LONGEST = 86_400.0
"""Seconds of a time limit: libpq and the server count them in milliseconds, of which an integer has 24 days."""
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")
"""Short enough for every name that is made from it."""
PATIENCE = 0.8
"""The share of the time limit after which the server itself gives a statement up: then its end is known."""
SESSION = (
    "enable_seqscan=off", "enable_bitmapscan=off", "enable_hashjoin=off", "enable_mergejoin=off", "jit=off",
    "default_transaction_isolation=read\\ committed", "plan_cache_mode=force_generic_plan",
)  # fmt: skip
"""Every statement on the path of a message finds its rows through one index. A planner that saw an almost empty table
when a statement was prepared would keep reading the whole table when it has a million rows. And since the plan is the same
whatever is asked for, each session makes it once: planning takes longer than settling one job."""


PORT = 5432


def from_url(url: Url) -> tuple[str, dict[str, Any]]:
    """Return libpq's connection string and the driver's own options."""
    for name in TAKEN.keys() & url.options.keys():
        raise ConfigurationError(f"{url}: {name}= is refused: {TAKEN[name]}")
    url.refuse_unknown({*OWN, *LIBPQ}, several_hosts=True)
    ports = [port for _, port in url.hosts]
    parts: dict[str, Any] = {
        "host": ",".join(host for host, _ in url.hosts) or None,
        "port": ",".join(str(port or PORT) for port in ports) if any(ports) else None,
        "user": url.user,
        "password": url.password,
        "dbname": url.path.lstrip("/") or None,
    }
    parts.update({name: value for name, value in url.options.items() if name in LIBPQ})
    own: dict[str, Any] = {name: value for name, value in url.options.items() if name in OWN}
    readers = {"timeout": read_number, "poll_interval": read_number, "connections": read_whole}
    readers |= dict.fromkeys(("migrate", "listen", "pgbouncer"), read_flag)
    own = {name: readers[name](name, text) if name in readers else text for name, text in own.items()}
    return _conninfo({name: value for name, value in parts.items() if value is not None}), own


def _conninfo(parts: Mapping[str, Any]) -> str:
    """Return the connection string of libpq's own; an older one does not know every option."""
    try:
        return make_conninfo("", **parts)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"this libpq refuses an option of the address: {error}") from None


def parts_of(conninfo: str) -> Mapping[str, Any]:
    """Take a connection string (or postgresql:// URI, as libpq reads it) apart."""
    if not isinstance(conninfo, str):
        raise refuse("conninfo", conninfo, "write postgresql://user@host/database or host=… dbname=…")
    if conninfo.startswith(("postgresql://", "postgres://")):
        _refuse_own(Url.parse(conninfo))
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        message = (
            "conninfo is not a connection string of libpq's (its options alone, percent-encoded values): "
            "write postgresql://user@host/database or host=… dbname=…"
        )
        raise ConfigurationError(message) from None
    _check(parts)
    return parts


def _check(parts: Mapping[str, Any]) -> None:
    """Raise for values that libpq would refuse at each connection."""
    for name, choices in CHOICES.items():
        if parts.get(name, choices[0]) not in choices:
            raise refuse(name, parts[name], f"give one of {', '.join(choices)}")
    for name in WHOLE:
        if name in parts:
            read_whole(name, str(parts[name]))
    for name in FILES:
        path = str(parts.get(name, ""))
        named_otherwise = (name == "sslrootcert" and path == "system") or (name == "sslkey" and ":" in path)
        if path and not named_otherwise:
            check_file(name, path)


def _refuse_own(url: Url) -> None:
    """Raise for options of an address that are arguments here; libpq would take them for its own."""
    if own := [name for name in url.options if name in OWN]:
        message = (
            f"{url}: {', '.join(own)} is no option of libpq's: give PostgresDriver the argument {own[0]}=…, "
            "or the whole address to Queue"
        )
        raise ConfigurationError(message)


def with_defaults(parts: Mapping[str, Any], *, timeout: float, session: bool) -> str:
    """Return the connection string with what detects a dead peer, and the session's settings.

    Of several hosts the first that takes writes is meant: libpq would stay with a standby that it reaches first.
    """
    defaults: dict[str, Any] = {
        "application_name": "queuekit",
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout * 1000),
    }
    if "," in str(parts.get("host", "")):
        defaults["target_session_attrs"] = "read-write"
    if session:
        limit = f"statement_timeout={int(timeout * PATIENCE * 1000)}"
        defaults["options"] = " ".join(f"-c {setting}" for setting in (*SESSION, limit))
    return make_conninfo("", **{**defaults, **parts})


def where(parts: Mapping[str, Any]) -> str:
    """Return the server and database in words, without secrets."""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{parts.get('host') or ''}{port}/{parts.get('dbname') or ''}"


def checked_schema(schema: str) -> str:
    """Return a schema's name; refuses what would need quoting anywhere."""
    if not isinstance(schema, str) or not SCHEMA.fullmatch(schema):
        message = f"schema={schema!r} is refused: give up to 40 lower-case letters, digits and underscores"
        raise ConfigurationError(message)
    return schema
