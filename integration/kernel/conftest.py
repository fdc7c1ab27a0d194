"""Registers the nightly profile before Hypothesis looks for it."""

from __future__ import annotations

import queuekit_integration.programs  # noqa: F401 - its import registers the profile
