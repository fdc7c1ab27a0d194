"""The core's own findings: clocks, connections, versions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from queuekit import ConfigurationError, Queue, VirtualClock, doctor
from queuekit.contract import Finding
from queuekit.memory import MemoryDriver
from queuekit.memory.driver import LIMITS


class Timed(MemoryDriver):
    """A driver whose backend's clock is off by some seconds, and takes a second to say so."""

    def __init__(self, clock: VirtualClock, *, off: float, trip: float = 0.0, **limits: Any) -> None:
        super().__init__(clock=clock, limits=msgspec.structs.replace(LIMITS, **limits))
        self.clock, self.off, self.trip = clock, off, trip

    def server_time(self) -> float:
        self.clock.advance(self.trip / 2)
        now = self.clock.time() + self.off
        self.clock.advance(self.trip / 2)
        return now


def found(driver: MemoryDriver, clock: VirtualClock, setting: str, concurrency: int = 10) -> Finding:
    [finding] = [f for f in Queue(driver, clock=clock).doctor(concurrency=concurrency) if f.setting == setting]
    return finding


@pytest.mark.parametrize(
    ("off", "level"), [(0.05, "ok"), (-0.05, "ok"), (0.5, "note"), (3600.0, "warning"), (-3600.0, "warning")]
)
def test_the_clocks_are_compared(off: float, level: str):
    clock = VirtualClock()
    finding = found(Timed(clock, off=off), clock, "clock")
    assert finding.level == level
    assert f"{-off:+.3f} s" in finding.value


def test_a_slow_answer_is_no_clock_that_is_off():
    clock = VirtualClock()
    finding = found(Timed(clock, off=0.9, trip=2.0), clock, "clock")
    assert finding.level == "ok"
    assert "± 1.000 s" in finding.value


def test_fewer_connections_than_jobs_at_once_are_a_warning():
    clock = VirtualClock()
    driver = Timed(clock, off=0.0, connections=5)
    assert found(driver, clock, "connections", concurrency=5).level == "ok"
    finding = found(driver, clock, "connections", concurrency=6)
    assert finding.level == "warning"
    assert "6 connections" in finding.remedy


def test_a_worker_with_too_few_connections_says_so_at_its_start(caplog: pytest.LogCaptureFixture):
    clock = VirtualClock()
    queue = Queue(Timed(clock, off=0.0, connections=1))
    with queue.worker(concurrency=2) as worker:
        assert worker.ready(10)
    assert "at most 1 connections" in caplog.text


def test_a_driver_of_another_version_is_found(monkeypatch: pytest.MonkeyPatch):
    class Dist:
        def __init__(self, name: str, version: str) -> None:
            self.name, self.version = name, version

    class Point:
        def __init__(self, dist: Dist) -> None:
            self.dist = dist

    points = {
        "a": Point(Dist("queuekit-a", "1.0")),
        "b": Point(Dist("queuekit-b", "0.9")),
        "c": Point(Dist("other", "7")),
    }
    monkeypatch.setattr(doctor, "available", lambda: points)
    levels = {f.setting: f.level for f in doctor.examine_installation("1.0")}
    assert {name: levels[name] for name in ("queuekit-a", "queuekit-b")} == {
        "queuekit-a": "ok",
        "queuekit-b": "warning",
    }
    assert "other" not in levels


def test_the_worst_level_counts():
    def finding(level: Any) -> Finding:
        return Finding(level=level, setting="s", value="v", promise="p")

    assert doctor.worst([]) == "ok"
    assert doctor.worst([finding("note"), finding("error"), finding("warning")]) == "error"


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="concurrency"):
        Queue("memory://").doctor(concurrency=0)
