"""What the server's settings say about the promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from queuekit.contract import Finding
from queuekit_postgres.schema import OLDEST
from queuekit_postgres.work import Work

SETTINGS = (
    "synchronous_commit", "fsync", "full_page_writes", "max_connections", "superuser_reserved_connections", "autovacuum",
    "idle_in_transaction_session_timeout", "statement_timeout", "default_transaction_isolation", "server_encoding",
    "server_version", "server_version_num", "synchronous_standby_names",
)  # fmt: skip
OLD = 300.0
"""Seconds after which an open transaction begins to matter: vacuum keeps every row that ended since it began."""
NEAR = 0.8
"""The share of the server's connections that is used, above which new ones may soon be refused."""


def diagnose(work: Work, *, connections: int) -> list[Finding]:
    """Look at every setting that bears on a promise."""
    settings = dict(_settings(work))
    state = _state(work)
    return [
        _version(settings),
        *_durability(settings),
        _connections(settings, state["sessions"], connections),
        _switch(
            settings,
            "autovacuum",
            kept="Space of jobs that ended is used again.",
            broken="Every job leaves dead rows behind that nobody clears: claims slow down without end.",
        ),
        _oldest_transaction(state["oldest"]),
        _idle_in_transaction(settings),
        _statement_timeout(settings),
        _encoding(settings),
        _standby(state["standby"]),
        _replication(settings, state["replicas"]),
    ]


def _settings(work: Work) -> Iterable[tuple[str, str]]:
    """Read the values that a plain session of this role has, not those that the driver sets for its own."""
    # reset_val is what the session started with; the driver's own start-up options stand in it, hence statement_timeout's.
    rows = work.connection.execute("SELECT name, reset_val FROM pg_settings WHERE name = ANY(%s)", (list(SETTINGS),))
    return [(str(name), str(value)) for name, value in rows.fetchall()]


def _state(work: Work) -> dict[str, Any]:
    row = work.connection.execute(
        "SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
        "(SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity "
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'), "
        "(SELECT count(*) FROM pg_stat_replication)"
    ).fetchone()
    return dict(zip(("standby", "sessions", "oldest", "replicas"), row, strict=True))


def _ok(setting: str, value: str, promise: str) -> Finding:
    return Finding(level="ok", setting=setting, value=value, promise=promise)


def _version(settings: dict[str, str]) -> Finding:
    value, number = settings["server_version"], int(settings["server_version_num"])
    if number >= OLDEST:
        return _ok("server_version", value, "Every statement that the driver uses is there.")
    return Finding(
        level="error",
        setting="server_version",
        value=value,
        promise="The driver refuses servers older than PostgreSQL 13.",
        remedy="upgrade the server to PostgreSQL 13 or newer",
    )


def _durability(settings: dict[str, str]) -> Iterator[Finding]:
    commit = settings["synchronous_commit"]
    if commit == "off":
        yield Finding(
            level="warning",
            setting="synchronous_commit",
            value=commit,
            promise="The last half second of accepted jobs and settlements may be lost when the server crashes.",
            remedy="ALTER ROLE … SET synchronous_commit = on",
        )
    else:
        yield _ok("synchronous_commit", commit, "A job that was accepted is on the server's disk.")
    for setting in ("fsync", "full_page_writes"):
        yield _switch(
            settings,
            setting,
            kept="A crash of the machine leaves the database whole.",
            broken="A crash of the machine may corrupt the whole database, jobs included.",
        )


def _switch(settings: dict[str, str], setting: str, *, kept: str, broken: str) -> Finding:
    value = settings[setting]
    if value == "on":
        return _ok(setting, value, kept)
    return Finding(level="error", setting=setting, value=value, promise=broken, remedy=f"{setting} = on")


def _connections(settings: dict[str, str], sessions: int, most: int) -> Finding:
    room = int(settings["max_connections"]) - int(settings["superuser_reserved_connections"])
    value = f"{settings['max_connections']} ({sessions} in use, this process opens up to {most + 1})"
    full = most + 1 > room or sessions > NEAR * room
    if not full:
        return _ok("max_connections", value, "The server takes this process's connections.")
    return Finding(
        level="warning",
        setting="max_connections",
        value=value,
        promise="The server may refuse connections when every process opens all that it may.",
        remedy="raise max_connections, set connections= lower, or put PgBouncer between (pgbouncer=true)",
    )


def _oldest_transaction(seconds: float | None) -> Finding:
    age = seconds or 0.0
    value = f"{age:.0f} s"
    if age < OLD:
        return _ok("oldest transaction", value, "Vacuum can clear what ended jobs leave behind.")
    return Finding(
        level="warning",
        setting="oldest transaction",
        value=value,
        promise="Vacuum keeps every row that ended since it began: tables grow, and claims slow down.",
        remedy="find it in pg_stat_activity (xact_start) and end it; set idle_in_transaction_session_timeout",
    )


def _idle_in_transaction(settings: dict[str, str]) -> Finding:
    value = settings["idle_in_transaction_session_timeout"]
    if value != "0":
        return _ok("idle_in_transaction_session_timeout", f"{value} ms", "A forgotten transaction ends by itself.")
    return Finding(
        level="note",
        setting="idle_in_transaction_session_timeout",
        value="0",
        promise="A transaction that somebody forgot stays open for ever, and keeps vacuum from clearing ended jobs.",
        remedy="ALTER DATABASE … SET idle_in_transaction_session_timeout = '5min'",
    )


def _statement_timeout(settings: dict[str, str]) -> Finding:
    value = settings["statement_timeout"]
    bounded = value != "0"
    level: Literal["ok", "note"] = "ok" if bounded else "note"
    promise = (
        "A statement that cannot go on is given up by the server too."
        if bounded
        else "The driver gives up by its own clock, and the server goes on with the statement until it ends by itself."
    )
    remedy = "" if bounded else "ALTER ROLE … SET statement_timeout = '10s'"
    return Finding(level=level, setting="statement_timeout", value=f"{value} ms", promise=promise, remedy=remedy)


def _encoding(settings: dict[str, str]) -> Finding:
    value = settings["server_encoding"]
    if value == "UTF8":
        return _ok("server_encoding", value, "Queue and type names of any language can be stored.")
    return Finding(
        level="warning",
        setting="server_encoding",
        value=value,
        promise="Type names, steps and errors outside of this encoding are refused; bodies are bytes and are not touched.",
        remedy="createdb --encoding=UTF8 --template=template0 …, and move the schema there",
    )


def _standby(standby: bool) -> Finding:
    if not standby:
        return _ok("pg_is_in_recovery", "false", "The server takes writes.")
    return Finding(
        level="error",
        setting="pg_is_in_recovery",
        value="true",
        promise="A standby takes no jobs.",
        remedy="connect to the primary: target_session_attrs=read-write",
    )


def _replication(settings: dict[str, str], replicas: int) -> Finding:
    names = settings["synchronous_standby_names"]
    value = f"{replicas} replicas, synchronous: {names or 'none'}"
    if replicas and not names:
        return Finding(
            level="note",
            setting="synchronous_standby_names",
            value=value,
            promise="A failover to a replica that lags loses the jobs and settlements that it had not received.",
            remedy="synchronous_standby_names = 'ANY 1 (*)' if no accepted job may be lost in a failover",
        )
    return _ok(
        "synchronous_standby_names",
        value,
        "What was accepted survives the loss of this server as far as replicas hold it.",
    )
