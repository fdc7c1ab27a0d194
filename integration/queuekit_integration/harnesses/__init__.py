"""The harnesses of queuekit's own drivers."""

from queuekit_integration.harnesses.embedded import MemoryHarness, SqliteHarness

HARNESSES = {"memory": MemoryHarness, "sqlite": SqliteHarness}

__all__ = ["HARNESSES", "MemoryHarness", "SqliteHarness"]
