"""The null driver: validates and encodes like every other, then drops."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.contract import (
    Clock,
    Delivery,
    Extension,
    Limits,
    Message,
    Namespace,
    Outcome,
    Patience,
    QueueClosed,
    Settlement,
    SystemClock,
    Url,
    Wakeup,
)

__all__ = ["NullDriver"]

LIMITS = Limits(name="null", durable=False, shared=True, unique_ids=False, discards=True, keys=False, limits=False)


class NullDriver:
    """Accepts everything and keeps nothing: for switching background work off."""

    limits = LIMITS

    def __init__(self, *, namespace: str | None = None, clock: Clock | None = None) -> None:
        self._namespace = Namespace(namespace)
        self._clock = clock or SystemClock()
        self._closed = False

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> NullDriver:
        """Build the driver for `null://`."""
        url.refuse_unknown(set())
        return cls(namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The name under which nothing is kept."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Drop what is sent to this namespace; see the contract."""
        self._namespace.take(namespace, driver=self.limits.name)

    def open(self) -> None:
        """Do nothing."""
        self._check()

    def close(self) -> None:
        """Refuse all further use. Idempotent."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            message = "this queue was closed; build a new one"
            raise QueueClosed(message)

    def prepare(self, queues: Sequence[str]) -> None:
        """Do nothing."""
        del queues
        self._check()

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Drop the messages."""
        del messages
        self._check()
        if patience is not None:
            patience.check()

    def claim(
        self,
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
        wait: float = 0.0,
        wakeup: Wakeup | None = None,
    ) -> list[Delivery]:
        """Wait, and lend nothing."""
        del queues, limit, lease, free, recover
        self._check()
        if wait > 0:
            self._clock.wait(wakeup or Wakeup(), wait)
        return []

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Answer that every lease is lost: none was ever given."""
        self._check()
        return ["lost"] * len(outcomes)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Answer that every lease is lost: none was ever given."""
        del lease
        self._check()
        return [Extension(held=False)] * len(deliveries)
