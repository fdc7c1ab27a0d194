"""The worker runtime: claim, start, wait, settle."""
