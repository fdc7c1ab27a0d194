"""The matrix as a build product: statements × results → docs/guarantees.md and .json."""
