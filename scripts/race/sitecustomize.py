"""Gives every Python program that a test starts the race mode of the test itself; conftest.py puts this on its path."""

import os
import sys

if interval := os.environ.get("QUEUEKIT_SWITCH_INTERVAL"):
    sys.setswitchinterval(float(interval))
