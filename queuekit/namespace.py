"""The namespace that a driver works in: named by whoever builds it, else by its queue, else the default."""

from __future__ import annotations

from queuekit.durations import checked_name
from queuekit.errors import ConfigurationError

__all__ = ["NAMESPACE", "Namespace"]

NAMESPACE = "queuekit"
"""Where jobs are unless somebody names another."""


class Namespace:
    """A driver's namespace, which can be named once: what was stored under one name is not found under another."""

    __slots__ = ("_fixed", "name")

    def __init__(self, name: str | None = None) -> None:
        self.name = NAMESPACE if name is None else checked_name("namespace", name)
        self._fixed = name is not None

    def fix(self) -> None:
        """Let nobody name another from now on: the driver was opened."""
        self._fixed = True

    def take(self, name: str, *, driver: str) -> bool:
        """Take the name that a queue gives; return whether that changed anything.

        Raises `ConfigurationError` where another was named before, or the driver was opened in another.
        """
        if name == self.name:
            self._fixed = True
            return False
        if self._fixed:
            message = (
                f"namespace={name!r} is refused: the {driver} driver works in {self.name!r} already; build the driver "
                f"with namespace={name!r} and hand it over before it is opened, or leave the queue's namespace out"
            )
            raise ConfigurationError(message)
        self.name, self._fixed = checked_name("namespace", name), True
        return True
