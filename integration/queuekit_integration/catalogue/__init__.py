"""The catalogue: every module registers the scenarios of one group."""
