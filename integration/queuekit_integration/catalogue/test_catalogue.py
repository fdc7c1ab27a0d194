"""Runs the catalogue: one test a cell."""

from __future__ import annotations

from pathlib import Path

from queuekit_integration.cells import Cell
from queuekit_integration.plugin import run_cell


def test_scenario(queuekit_cell: Cell, queuekit_results: Path | None) -> None:
    run_cell(queuekit_cell, queuekit_results)
