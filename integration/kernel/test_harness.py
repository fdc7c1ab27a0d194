"""What a cell started ends with it, whatever fails: what is left over would trouble the next one."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from queuekit.contract import DriverUnavailable
from queuekit_integration.harness import Harness, cell
from queuekit_integration.harnesses.embedded import MemoryHarness
from queuekit_integration.programs.limits import limits_of
from queuekit_integration.programs.machine import machine_of


class CountingHarness(MemoryHarness):
    closed: ClassVar[list[Harness]] = []

    def close(self) -> None:
        self.closed.append(self)
        super().close()


class AwayHarness(CountingHarness):
    def driver(self, **_: Any) -> Any:
        raise DriverUnavailable("not there")


def test_one_part_that_cannot_be_ended_keeps_no_other_from_ending() -> None:
    ended: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            ended.append(self.name)
            if self.name == "first":
                raise TimeoutError("it hangs")

    with pytest.raises(TimeoutError, match="it hangs"), cell(MemoryHarness) as harness:
        harness._drivers += [Part("first"), Part("second")]
    assert ended == ["first", "second"]


@pytest.mark.parametrize("machine", [machine_of, limits_of], ids=["model", "limits"])
def test_a_program_whose_driver_cannot_be_had_closes_its_cell(machine: Any) -> None:
    before = len(CountingHarness.closed)
    with pytest.raises(DriverUnavailable):
        machine(AwayHarness)()
    assert len(CountingHarness.closed) == before + 1
