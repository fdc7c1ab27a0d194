"""Tests of an application that dispatches jobs: a queue on a virtual clock, and asserts on what was dispatched.

The fake is the memory driver, with the codec, retries and states of production; the catalogue proves it like every other.
"""

from queuekit.testing.fake import FakeQueue, fake
from queuekit.testing.two_phase import TwoPhase

__all__ = ["FakeQueue", "TwoPhase", "fake"]
