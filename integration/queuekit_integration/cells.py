"""One cell of the matrix: a scenario on a driver, run or, where the driver lacks a need, its refusal asserted."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

import queuekit
from queuekit import Job, Queue, UnsupportedError
from queuekit.contract import Store
from queuekit.errors import ConfigurationError
from queuekit_integration.expectations import Gap, Stronger, Weaker
from queuekit_integration.harness import Harness, cell
from queuekit_integration.registry import Scenario
from queuekit_integration.servers import CannotCauseError

__all__ = ["REFUSALS", "Cell", "NotRunError", "run"]


class NotRunError(Exception):
    """This machine, or whoever provides the server, cannot run a cell; the message says what is missing."""


@dataclass(frozen=True)
class Cell:
    """A scenario on a driver."""

    harness: type[Harness]
    scenario: Scenario

    def __str__(self) -> str:
        return f"{self.harness.name}-{self.scenario.id}-{self.scenario.name}"

    def record(self, path: Path, outcome: str, detail: str, seconds: float) -> None:
        """Append the result of a run."""
        line = {
            "scenario": self.scenario.id,
            "name": self.scenario.name,
            "driver": self.harness.name,
            "profile": self.harness.profile,
            "outcome": outcome,
            "detail": detail[:500],
            "duration": round(seconds, 3),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "version": queuekit.__version__,
            "python": platform.python_version(),
            "commit": _commit(),
        }
        with path.open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(line) + b"\n")


@cache
def _commit() -> str:
    """Return the commit of the checkout that runs; empty outside of one, or where git is not installed."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def run(cell_: Cell) -> str:
    """Run the scenario, or assert what its column says of it; return the verdict.

    That is "holds", "refused", "no_server", "no_file", "no_keyspace", "no_sessions" or "no_clock", or the text of the column's own expectation: "weaker: …",
    "stronger: …", "gap: …".
    Raises `NotRunError` where the server or a fault cannot be had here.
    """
    if reason := cell_.harness.unavailable():
        raise NotRunError(reason)
    match cell_.harness.expectations.get(cell_.scenario.id):
        case Weaker() as weaker:
            _show_weaker(cell_, weaker)
            return str(weaker)
        case Stronger() as stronger:
            _show_stronger(cell_, stronger)
            return str(stronger)
        case Gap() as gap:
            _show_failure(cell_, f"{gap} is closed: remove it from the expectations")
            return str(gap)
        case None:
            return _hold(cell_)


def _show_weaker(cell_: Cell, weaker: Weaker) -> None:
    """Run what shows the weaker sentence, and that the stronger one does not hold."""
    allowed, seen = frozenset(weaker.anomalies), set[str]()
    if weaker.shown_by is not None:
        _show_failure(cell_, f"the promise itself holds, so {str(weaker)!r} is to be removed from the expectations")
        cell_ = dataclasses.replace(cell_, scenario=dataclasses.replace(cell_.scenario, body=weaker.shown_by))
    verdict = _hold(cell_, allowed=allowed, seen=seen)
    assert verdict == "holds", (
        f"the column promises less in {cell_.scenario.id}, and there is nothing to promise: {verdict}"
    )
    assert seen == allowed, f"never seen, so not to be allowed: {', '.join(sorted(allowed - seen))}"


def _show_stronger(cell_: Cell, stronger: Stronger) -> None:
    """Run what shows the stronger sentence, and that the scenario waits for something else."""
    _show_failure(cell_, f"the promise itself holds, so {str(stronger)!r} is to be removed from the expectations")
    shown = dataclasses.replace(cell_, scenario=dataclasses.replace(cell_.scenario, body=stronger.shown_by))
    verdict = _hold(shown)
    assert verdict == "holds", f"the column promises more in {cell_.scenario.id}, and nothing could show it: {verdict}"


def _show_failure(cell_: Cell, otherwise: str) -> None:
    """Run the scenario; fail with `otherwise` when it passes."""
    try:
        _hold(cell_)
    except NotRunError:
        raise
    except (Exception, pytest.fail.Exception):  # whatever it fails by
        return
    raise AssertionError(otherwise)


def _hold(cell_: Cell, *, allowed: frozenset[str] = frozenset(), seen: set[str] | None = None) -> str:
    """Run the scenario, or what asserts that the driver lacks a need; note what was allowed and seen."""
    with cell(cell_.harness) as harness:
        harness.allowed, harness.scenario = allowed, cell_.scenario
        missing = harness.lacks(cell_.scenario.needs)
        if "server" in missing:
            _has_no_server(harness)
            return "no_server"
        if "file" in missing:
            _has_no_file(harness)
            return "no_file"
        if "keyspace" in missing:
            _has_no_keyspace(harness)
            return "no_keyspace"
        if "sessions" in missing:
            _has_no_sessions(harness)
            return "no_sessions"
        if "server_clock" in missing:
            _has_no_clock(harness)
            return "no_clock"
        if missing:
            return _say_less(harness, missing)
        _can_cause(harness, cell_.scenario)
        try:
            cell_.scenario.body(harness)
        except CannotCauseError as error:
            raise NotRunError(str(error)) from error
        left = harness.leaks()
        assert not left, f"left over in the backend: {left}"
        if seen is not None:
            seen |= harness.tolerated
    return "holds"


def _say_less(harness: Harness, missing: list[str]) -> str:
    """Assert what is said where a need is missing: that it is refused, or the column's weaker sentence."""
    refused = [need for need in missing if need not in harness.without]
    for need in refused:
        assert need in REFUSALS, (
            f"{harness.column} lacks {need}, which no call asks for: say in `without` what holds instead"
        )
        REFUSALS[need](harness)
    for need in set(missing) - set(refused):
        show = harness.without[need].shown_by
        assert show is not None, f"nothing shows what {harness.column} says without {need}"
        show(harness)
    return "refused" if refused else str(harness.without[missing[0]])


def _can_cause(harness: Harness, scenario: Scenario) -> None:
    cannot = [fault for fault in scenario.faults if fault not in harness.faults()]
    if cannot:
        assert harness.server is not None
        raise NotRunError(
            f"a {harness.name} server from the {harness.server.provider} cannot be hit by: {', '.join(cannot)}"
        )


def _has_no_server(harness: Harness) -> None:
    """Assert that faults of a server cannot reach this driver: using it opens no socket."""
    before = _sockets()
    driver = harness.driver()
    driver.send([harness.message()])
    driver.claim(["default"], limit=1, lease=10.0)
    opened = _sockets() - before
    assert not opened, f"{harness.name} has no server in its harness, and opened {len(opened)} sockets"


def _has_no_file(harness: Harness) -> None:
    """Assert that faults of a file cannot reach this driver: using it keeps no file open."""
    before = _files()
    driver = harness.driver()
    driver.send([harness.message()])
    opened = _files() - before
    assert not opened, f"{harness.name} has no file in its harness, and opened {', '.join(sorted(opened))}"


def _has_no_clock(harness: Harness) -> None:
    """Assert that this driver claims no clock but this machine's: `doctor` has none to compare with."""
    with contextlib.closing(harness.queue()) as queue:
        settings = [finding.setting for finding in queue.doctor()]
    assert "clock" not in settings, f"{harness.name} has a clock of its own, and no feature says so"


def _has_no_keyspace(harness: Harness) -> None:
    """Assert that faults of a key-value server cannot reach this driver: its native client knows no such commands."""
    driver: Any = harness.driver()
    native = driver.native()
    assert not hasattr(native, "flushall"), (
        f"{harness.name} has no keyspace in its harness, and {native!r} drops all keys"
    )


def _has_no_sessions(harness: Harness) -> None:
    """Assert that faults of a SQL server's sessions cannot reach this driver: its native client has no such sessions."""
    driver: Any = harness.driver()
    native = driver.native() if hasattr(driver, "native") else None
    assert not hasattr(native, "pgconn"), (
        f"{harness.name} has no sessions in its harness, and {native!r} has a session of PostgreSQL"
    )


def _sockets() -> set[str]:
    return {target for target in _opened() if target.startswith("socket:")}


def _files() -> Counter[str]:
    return Counter(target for target in _opened() if Path(target).is_file())


def _opened() -> list[str]:
    """Return what this process has open, each as often as it has."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(entry.readlink()))
    return found


def _refuses(harness: Harness, feature: str, call: Callable[[Queue], object]) -> None:
    """Assert that a call is refused with a sentence that names driver, feature and remedy."""
    queue = harness.queue(virtual=True)
    try:
        call(queue)
    except UnsupportedError as error:
        assert error.driver == queue.driver.limits.name
        assert error.feature == feature
        assert error.remedy
        assert error.remedy in str(error)
        assert error.driver in str(error)
        return
    message = f"{queue.driver.limits.name} lacks {feature} and did not say so"
    raise AssertionError(message)


def _job(**options: Any) -> Callable[[Queue], object]:
    return lambda queue: queue.dispatch(Job("t", **options))


def _no_processes(harness: Harness) -> None:
    """Assert that a driver of one process refuses to be used from another."""
    import os  # noqa: PLC0415 - only here

    driver = harness.driver()
    setattr(driver, "_pid", os.getpid() + 1)  # noqa: B010 - as if this were a fork
    try:
        driver.send([harness.message()])
    except ConfigurationError as error:
        assert "process" in str(error)
        return
    finally:
        setattr(driver, "_pid", os.getpid())  # noqa: B010
    message = "a driver of one process was used from another and did not say so"
    raise AssertionError(message)


def _no_pair(harness: Harness) -> None:
    """Assert that an engine refuses a store, and that a transport alone takes one."""
    driver = harness.make_driver(virtual=True)
    if not isinstance(driver, Store):
        assert Queue(driver, store="memory://").supports("unique")
        return
    try:
        Queue(driver, store="memory://")
    except ConfigurationError as error:
        assert "leave store out" in str(error)
        return
    message = "an engine was paired with a store, and did not say that it needs none"
    raise AssertionError(message)


def _no_bound_on_connections(harness: Harness) -> None:
    """Assert that a driver without a bound is not warned of one."""
    queue = harness.queue()
    if queue.supports("diagnose"):
        assert "connections" not in {finding.setting for finding in queue.doctor(concurrency=10_000)}


def _required(feature: str) -> Callable[[Harness], None]:
    """Return what asserts that a feature without a verb of the API is refused where an application requires it."""

    def refuse(harness: Harness) -> None:
        _refuses(harness, feature, lambda queue: Queue(queue.driver, requires=[feature]))

    return refuse


REFUSALS: dict[str, Callable[[Harness], None]] = {
    "browse": lambda h: _refuses(h, "browse", lambda q: q.jobs()),
    "concurrency": lambda h: _refuses(h, "concurrency", _job(concurrency=("k", 1))),
    "connections": _no_bound_on_connections,
    "control": lambda h: _refuses(h, "control", lambda q: q.cancel("0")),
    "count": lambda h: _refuses(h, "count", lambda q: q.stats()),
    "delay": lambda h: _refuses(h, "delay", _job(delay=1)),
    "diagnose": lambda h: _refuses(h, "diagnose", lambda q: q.doctor()),
    "exchange": _required("exchange"),
    "key": lambda h: _refuses(h, "key", _job(key="k")),
    "migrate": _required("migrate"),
    "pair": _no_pair,
    "pause": lambda h: _refuses(h, "pause", lambda q: q.pause("default")),
    "priority": lambda h: _refuses(h, "priority", _job(priority=9)),
    "processes": _no_processes,
    "purge": lambda h: _refuses(h, "purge", lambda q: q.purge("default")),
    "rate_limit": lambda h: _refuses(h, "rate_limit", _job(rate_limit="1/s")),
    "records": lambda h: _refuses(h, "records", lambda q: q.prune()),
    "registry": lambda h: _refuses(h, "registry", lambda q: q.workers()),
    "store": _required("store"),
    "transactional": lambda h: _refuses(h, "transactional", lambda q: q.dispatch(Job("t"), connection=object())),
    "transactional_settle": lambda h: _refuses(h, "transactional_settle", _job(settle="transaction")),
    "unique": lambda h: _refuses(h, "unique", _job(unique_for=5)),
    "window": lambda h: _refuses(h, "unique", _job(unique_for=300)),
}
"""What a driver without a need must say. Needs without an entry (fencing, leases by time, order, unique ids) cannot be asked
for through the API; a column that lacks one of those has a weaker sentence for it in `Harness.without`."""
