"""In which order a worker looks at its queues: by weight, and none starves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from queuekit.durations import checked_name, refuse, whole
from queuekit.errors import ConfigurationError

__all__ = ["Shares"]


class Shares:
    """Smooth weighted round robin (as in nginx): each claim begins with the queue that is owed most."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self._owed = dict.fromkeys(weights, 0)
        self._total = sum(weights.values())
        self.names = tuple(weights)

    @classmethod
    def of(cls, queues: Mapping[str, int] | Sequence[str]) -> Shares:
        """Check what a caller gave: names with weights, or names."""
        if isinstance(queues, str) or not isinstance(queues, Iterable):
            raise refuse("queues", queues, 'give a list of names, or a mapping such as {"high": 3, "default": 1}')
        names = [checked_name("queues", name) for name in queues]
        weights = dict(queues) if isinstance(queues, Mapping) else dict.fromkeys(names, 1)
        if not weights:
            message = "queues is empty: name at least one, or leave it out for all"
            raise ConfigurationError(message)
        for name, weight in weights.items():
            whole(f"the weight of queue {name!r}", weight, least=1, most=1000)
        return cls(weights)

    def order(self) -> tuple[str, ...]:
        """Return all queues, the one whose turn it is first, then by what they are owed."""
        if len(self.names) == 1:
            return self.names
        for name, weight in self.weights.items():
            self._owed[name] += weight
        order = tuple(sorted(self.names, key=self._owed.__getitem__, reverse=True))
        self._owed[order[0]] -= self._total
        return order
