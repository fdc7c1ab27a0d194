"""What the server's settings mean for the promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from queuekit.contract import DriverRejected, Finding

__all__ = ["Server", "findings"]

OLDEST = (6, 2)
CONFIG = (
    "maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save", "stop-writes-on-bgsave-error", "timeout",
    "tcp-keepalive", "min-replicas-to-write", "cluster-require-full-coverage", "lua-time-limit",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """What a server says about itself."""

    name: str
    version: str
    info: dict[str, str]
    config: dict[str, str] = field(default_factory=dict)
    """Empty where the server does not tell, as many hosted ones do."""

    @classmethod
    def ask(cls, command: Callable[..., Any]) -> Server:
        """Ask a server; reads only."""
        info: dict[str, str] = {}
        for section in ("server", "memory", "persistence", "replication", "cluster"):
            info |= _info(command("INFO", section))
        valkey = info.get("valkey_version")
        name, version = ("Valkey", valkey) if valkey else ("Redis", info.get("redis_version", "0"))
        return cls(name, version, info, _config(command))

    @property
    def too_old(self) -> bool:
        """Whether it lacks commands that the scripts need."""
        parts = tuple(int(part) for part in self.version.split(".")[:2] if part.isdecimal())
        return self.name == "Redis" and parts < OLDEST


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def _config(command: Callable[..., Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        for name in CONFIG:
            reply = command("CONFIG", "GET", name)
            pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
            found |= {key.decode(): value.decode("utf-8", "replace") for key, value in pairs}
    except DriverRejected:
        return {}
    return found


def findings(server: Server) -> list[Finding]:
    """Judge every setting that bears on a promise."""
    found = [_version(server), _replicas(server)]
    if not server.config:
        message = "the server does not tell its settings (CONFIG GET is not permitted), so nothing can be said of memory and disk"
        return [*found, Finding(level="note", setting="CONFIG", value="not permitted", promise=message)]
    config = server.config
    found += [
        _eviction(config),
        _append_only(config, server.info),
        _sync(config),
        _snapshots(config),
        _timeout(config),
        _keepalive(config),
    ]
    if server.info.get("cluster_enabled") == "1":
        found.append(_coverage(config))
    return found


def _version(server: Server) -> Finding:
    return Finding(
        level="error" if server.too_old else "ok",
        setting="version",
        value=f"{server.name} {server.version}",
        promise="all features work from Redis 6.2 on, and on every Valkey",
        remedy="update the server" if server.too_old else "",
    )


def _replicas(server: Server) -> Finding:
    count = server.info.get("connected_slaves", "0")
    if server.info.get("role") == "slave":
        return Finding(
            level="error",
            setting="role",
            value="replica",
            promise="a replica takes no writes: nothing can be sent or claimed",
            remedy="give the primary's address, or ?sentinel=NAME",
        )
    return Finding(
        level="note",
        setting="connected_slaves",
        value=count,
        promise="replication is asynchronous: a failover may lose what was accepted in the last moments, and lend again what was settled then",
    )


def _eviction(config: dict[str, str]) -> Finding:
    policy, limit = config.get("maxmemory-policy", ""), config.get("maxmemory", "0")
    safe = policy == "noeviction"
    if safe:
        promise = "a full server refuses new jobs and keeps the old ones"
        return Finding(level="ok", setting="maxmemory-policy", value=policy, promise=promise)
    full = limit != "0"
    promise = (
        "a full server throws keys away, and jobs with them"
        if full
        else "with a maxmemory set, a full server would throw jobs away"
    )
    return Finding(
        level="error" if full else "warning",
        setting="maxmemory-policy",
        value=policy,
        promise=promise,
        remedy="CONFIG SET maxmemory-policy noeviction",
    )


def _append_only(config: dict[str, str], info: dict[str, str]) -> Finding:
    value = config.get("appendonly", "")
    if value != "yes":
        promise = "accepted jobs live in memory: a restart loses what was accepted since the last snapshot"
        return Finding(
            level="warning", setting="appendonly", value=value, promise=promise, remedy="CONFIG SET appendonly yes"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        promise = "the last write to the append-only file failed: nothing new is on disk"
        return Finding(
            level="error", setting="aof_last_write_status", value=info["aof_last_write_status"], promise=promise,
            remedy="make room on the disk",
        )  # fmt: skip
    return Finding(level="ok", setting="appendonly", value=value, promise="accepted jobs survive the server's process")


def _sync(config: dict[str, str]) -> Finding:
    value = config.get("appendfsync", "")
    promises = {
        "always": "accepted jobs are on disk before the dispatch returns",
        "everysec": "a crash of the server's machine loses the last two seconds at most; one of its process what came while a sync of the disk lasted",
        "no": "a crash of the server's machine loses what the system had not written yet, often 30 seconds",
    }
    levels: dict[str, Literal["ok", "note"]] = {"always": "ok", "everysec": "note"}
    promise = promises.get(value, "unknown")
    if config.get("appendonly") != "yes":
        promise = f"has no effect without appendonly; with it: {promise}"
    return Finding(
        level=levels.get(value, "warning"),
        setting="appendfsync",
        value=value,
        promise=promise,
        remedy="" if value == "always" else "CONFIG SET appendfsync always",
    )


def _snapshots(config: dict[str, str]) -> Finding:
    value = config.get("save", "")
    stops = config.get("stop-writes-on-bgsave-error") == "yes"
    promise = (
        "no snapshots: only the append-only file keeps jobs over a restart" if not value else "snapshots are taken"
    )
    if value and stops:
        promise += "; when one fails, the server takes no more jobs until there is room (dispatch raises BackendFull)"
    return Finding(level="note", setting="save", value=value or "(none)", promise=promise)


def _timeout(config: dict[str, str]) -> Finding:
    value = config.get("timeout", "0")
    promise = (
        "idle connections stay open"
        if value == "0"
        else f"the server closes connections idle for {value} s; they are made anew"
    )
    return Finding(level="ok" if value == "0" else "note", setting="timeout", value=value, promise=promise)


def _keepalive(config: dict[str, str]) -> Finding:
    value = config.get("tcp-keepalive", "")
    if value == "0":
        return Finding(
            level="warning",
            setting="tcp-keepalive",
            value=value,
            promise="the server keeps connections of machines that vanished, for ever",
            remedy="CONFIG SET tcp-keepalive 300",
        )
    return Finding(
        level="ok", setting="tcp-keepalive", value=value, promise="connections of vanished machines are closed"
    )


def _coverage(config: dict[str, str]) -> Finding:
    value = config.get("cluster-require-full-coverage", "")
    if value == "yes":
        promise = "while any slot has no primary, the whole cluster refuses, also the slot of this namespace"
        return Finding(
            level="note", setting="cluster-require-full-coverage", value=value, promise=promise,
            remedy="CONFIG SET cluster-require-full-coverage no",
        )  # fmt: skip
    promise = "only slots without a primary refuse"
    return Finding(level="ok", setting="cluster-require-full-coverage", value=value, promise=promise)
