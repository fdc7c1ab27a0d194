"""Faults as library code: a proxy that harms connections, and what can be done to processes, disks and clocks.

Every fault counts how often it really hit: a scenario whose fault never fired proves nothing.
"""

from queuekit_integration.faults.clocks import ShiftedClock
from queuekit_integration.faults.disks import SmallDisk
from queuekit_integration.faults.interruptions import interrupted_at_every_step
from queuekit_integration.faults.load import burning
from queuekit_integration.faults.proxy import Proxy
from queuekit_integration.faults.resources import few_files, little_memory

__all__ = ["Proxy", "ShiftedClock", "SmallDisk", "burning", "few_files", "interrupted_at_every_step", "little_memory"]
