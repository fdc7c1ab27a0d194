"""The memory driver: every promise of the contract in one process, and its executable specification."""

from queuekit.memory.broker import Broker
from queuekit.memory.driver import MemoryDriver

__all__ = ["Broker", "MemoryDriver"]
