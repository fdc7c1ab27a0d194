"""The jobs that are measured, as they travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

__all__ = ["BODY", "Ids", "batches"]

BODY = (
    '{"v":1,"id":"%s","type":"noop","sent":1700000000.000,'
    '"payload":{"j":{"i":1,"user":123456,"path":"/a/b/c","tags":["x","y"]}}}'
)
Ids: TypeAlias = Sequence[str]


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut into batches."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
