"""What can be said about an installation and a backend before anything goes wrong: findings, each about one promise."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Sequence

from queuekit.clock import Clock
from queuekit.contract import Driver, Finding
from queuekit.drivers import available

__all__ = ["LEVELS", "examine", "examine_installation", "worst"]

LEVELS = ("ok", "note", "warning", "error")
"""From harmless to a promise that does not hold."""
SKEW_NOTED, SKEW_WARNED = 0.1, 1.0
"""Seconds that this machine's clock may differ from the backend's. Within NTP's usual reach nothing depends on it."""


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst level found; `ok` when there is nothing."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")


def examine_installation(version: str) -> list[Finding]:
    """Look at the interpreter and the installed drivers; no backend is touched. `version` is queuekit's own."""
    return [_python(), Finding(level="ok", setting="queuekit", value=version, promise=""), *_distributions(version)]


def examine(driver: Driver, features: frozenset[str], clock: Clock, *, concurrency: int) -> list[Finding]:
    """Look at an open driver: what it says of its backend, the two clocks, and connections against `concurrency`."""
    findings: list[Finding] = list(driver.diagnose())  # type: ignore[attr-defined]  # the caller checked the feature
    if "server_clock" in features:
        findings.append(_clocks(driver, clock))
    if driver.limits.connections is not None:
        findings.append(_connections(driver.limits.connections, concurrency))
    return findings


def _python() -> Finding:
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    value = f"{platform.python_version()} on {platform.system()}{', free-threaded' if free else ''}"
    return Finding(level="ok", setting="python", value=value, promise="")


def _distributions(version: str) -> Sequence[Finding]:
    """Say which installed driver was built for another version; all of queuekit's own are released together."""
    points = available().values()
    own = {point.dist.name: point.dist.version for point in points if point.dist is not None}
    return [_distribution(name, found, version) for name, found in sorted(own.items()) if name.startswith("queuekit-")]


def _distribution(name: str, found: str, version: str) -> Finding:
    if found == version:
        return Finding(level="ok", setting=name, value=found, promise="")
    return Finding(
        level="warning",
        setting=name,
        value=found,
        promise=f"It was not tested with queuekit {version}: what the matrix says was proven for equal versions.",
        remedy=f"pip install 'queuekit=={version}' '{name}=={version}'",
    )


def _clocks(driver: Driver, clock: Clock) -> Finding:
    """Compare the clocks; half of the round trip is the comparison's own uncertainty."""
    before = clock.time()
    server = driver.server_time()  # type: ignore[attr-defined]  # the caller checked the feature
    after = clock.time()
    skew = (before + after) / 2 - server
    unsure = (after - before) / 2
    value = f"{skew:+.3f} s against the backend (± {unsure:.3f} s)"
    off = max(0.0, abs(skew) - unsure)
    if off < SKEW_NOTED:
        promise = "An instant that is computed here (`at`, `deadline`) means the same to the backend."
        return Finding(level="ok", setting="clock", value=value, promise=promise)
    return Finding(
        level="warning" if off >= SKEW_WARNED else "note",
        setting="clock",
        value=value,
        promise=(
            "An instant that is computed here (`at`, `deadline`) is off by this much. "
            "Delays, leases, retries and deadlines from now on go by the backend's clock and are exact."
        ),
        remedy="run NTP (chrony, systemd-timesyncd) on this machine",
    )


def _connections(most: int, concurrency: int) -> Finding:
    setting, value = "connections", f"at most {most} in one process, for {concurrency} jobs at once"
    if most >= concurrency:
        promise = "Every running handler can dispatch without waiting for another one's connection."
        return Finding(level="ok", setting=setting, value=value, promise=promise)
    return Finding(
        level="warning",
        setting=setting,
        value=value,
        promise="Handlers that dispatch wait for one another's connection, and may fail with PoolTimeout.",
        remedy=f"allow the driver {concurrency} connections, or run fewer jobs at once",
    )
