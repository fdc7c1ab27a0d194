"""The memory driver's verbs: a broker in this process, opened, waited on, and closed."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from queuekit.contract import (
    Clock,
    ConfigurationError,
    Delivery,
    Extension,
    Finding,
    Limits,
    Message,
    Outcome,
    Page,
    Patience,
    Progress,
    Query,
    QueueClosed,
    QueueCounts,
    Receipt,
    Record,
    Settlement,
    State,
    SystemClock,
    Url,
    Wakeup,
    WorkerInfo,
)
from queuekit.memory.broker import Broker

LIMITS = Limits(
    name="memory",
    batch=10_000,
    body_bytes=64 << 20,
    resolution=0.005,
    durable=False,
    shared=False,
)

_shared: dict[tuple[str, str], Broker] = {}
_shared_lock = threading.Lock()


class MemoryDriver:
    """Jobs in this process's memory: fast, complete, and gone when the process ends.

    `broker` lets several drivers (and so several queues) share one state, which is one namespace; `memory://name` does
    the same by name within a process. A plain `memory://` is private. Other processes cannot take part, and using a driver after a fork
    raises `ConfigurationError`.
    """

    limits: Limits

    def __init__(
        self,
        *,
        broker: Broker | None = None,
        namespace: str | None = None,
        clock: Clock | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.limits = limits
        self.broker = broker if broker is not None else Broker(clock or SystemClock())
        if namespace is not None:
            self.work_in(namespace)
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> MemoryDriver:
        """Build the driver for `memory://` (private) or `memory://name` (shared within the process)."""
        url.refuse_unknown(set())
        return cls(broker=named_broker(url, namespace, clock), namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The broker's namespace."""
        return self.broker.namespace.name

    def work_in(self, namespace: str) -> None:
        """Name the broker's namespace; see the contract."""
        self.broker.namespace.take(namespace, driver=self.limits.name)

    # --------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Do nothing but check that the driver may be used."""
        self._check()

    def close(self) -> None:
        """Refuse all further use; what is lent stays lent until its lease ends. Idempotent."""
        self._closed = True

    def prepare(self, queues: Sequence[str]) -> None:
        """Do nothing: queues come into being with their first message."""
        del queues
        self._check()

    def _check(self) -> None:
        if self._closed:
            message = "this queue was closed; build a new one"
            raise QueueClosed(message)
        if os.getpid() != self._pid:
            message = (
                f"{self.limits.name}:// lives in one process and this is another (a fork); "
                "use sqlite:///jobs.db or a server for several processes"
            )
            raise ConfigurationError(message)

    # ------------------------------------------------------------------------------------------- the verbs

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Store messages; see the contract."""
        self._check()
        if patience is not None:
            patience.check()
        self.broker.send(messages)

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
        """Lend due messages; see the contract."""
        self._check()
        broker = self.broker
        found = broker.claim(queues, limit=limit, lease=lease, free=free, recover=recover)
        if found or wait <= 0:
            return found
        flag = wakeup or Wakeup()
        end = broker.clock.monotonic() + wait
        broker.watch(flag)
        try:
            while True:
                found = broker.claim(queues, limit=limit, lease=lease, free=free, recover=recover)
                left = end - broker.clock.monotonic()
                if found or left <= 0 or self._closed:
                    return found
                if broker.clock.wait(flag, broker.next_change(left, recover=recover)):
                    return broker.claim(queues, limit=limit, lease=lease, free=free, recover=recover)
        finally:
            broker.unwatch(flag)

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract."""
        self._check()
        return self.broker.settle(outcomes)

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        *,
        limit: int,
        lease: float,
        free: int | None = None,
        recover: bool = True,
    ) -> tuple[list[Settlement], list[Delivery]]:
        """Settle, then claim; see the contract."""
        self._check()
        settled = self.broker.settle(outcomes)
        return settled, self.broker.claim(queues, limit=limit, lease=lease, free=free, recover=recover)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        self._check()
        return self.broker.extend(deliveries, lease=lease)

    # ---------------------------------------------------------------------------------------------- features

    def send_unique(self, messages: Sequence[Message], *, patience: Patience | None = None) -> list[Receipt]:
        """Store messages, one unfinished job a scope; see the contract."""
        self._check()
        if patience is not None:
            patience.check()
        return self.broker.send_unique(messages)

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count jobs by state; see the contract."""
        self._check()
        return self.broker.count(queues)

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Return records; see the contract."""
        self._check()
        return self.broker.get(ids)

    def browse(self, query: Query) -> Page:
        """Return a page of records; see the contract."""
        self._check()
        return self.broker.browse(query)

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """Cancel jobs; see the contract."""
        self._check()
        return self.broker.cancel(ids)

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Start jobs over; see the contract."""
        self._check()
        return self.broker.retry(ids)

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Remove jobs; see the contract."""
        self._check()
        return self.broker.delete(ids)

    def requested(self) -> list[str]:
        """Return running jobs to be cancelled; see the contract."""
        self._check()
        return self.broker.requested()

    def pause(self, queue: str) -> None:
        """Stop lending from a queue; see the contract."""
        self._check()
        self.broker.pause(queue)

    def resume(self, queue: str) -> None:
        """Lend from a queue again; see the contract."""
        self._check()
        self.broker.resume(queue)

    def paused(self) -> list[str]:
        """Return the paused queues; see the contract."""
        self._check()
        return self.broker.paused()

    def purge(self, queue: str) -> int:
        """Empty a queue; see the contract."""
        self._check()
        return self.broker.purge(queue)

    def report(self, reports: Sequence[Progress]) -> list[bool]:
        """Store progress; see the contract."""
        self._check()
        return self.broker.report(reports)

    def prune(self, *, older_than: float | None = None, limit: int = 1000) -> int:
        """Forget old records; see the contract."""
        self._check()
        return self.broker.prune(older_than=older_than, limit=limit)

    def beat(self, worker: WorkerInfo, *, ttl: float) -> None:
        """Remember a worker; see the contract."""
        self._check()
        self.broker.beat(worker, ttl=ttl)

    def workers(self) -> list[WorkerInfo]:
        """Return live workers; see the contract."""
        self._check()
        return self.broker.workers()

    def admit(
        self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None = None
    ) -> list[Receipt]:
        """Store messages that a transport carries; see the contract."""
        self._check()
        if patience is not None:
            patience.check()
        return self.broker.admit(messages, publish_within=publish_within)

    def published(
        self, ids: Sequence[str], *, ages: Sequence[float], publish_within: float, again_after: float
    ) -> None:
        """Note what is on the transport; see the contract."""
        self._check()
        self.broker.published(ids, ages=ages, publish_within=publish_within, again_after=again_after)

    def outbox(self, *, limit: int, again_after: float, recover: bool = True) -> list[Message]:
        """Return what must be published; see the contract."""
        self._check()
        return self.broker.outbox(limit=limit, again_after=again_after, recover=recover)

    def lend(
        self, ids: Sequence[str], *, lease: float, free: int | None = None, recover: bool = True
    ) -> list[Delivery | State | None]:
        """Lend jobs by id; see the contract."""
        self._check()
        return self.broker.lend(ids, lease=lease, free=free, recover=recover)

    def diagnose(self) -> list[Finding]:
        """Say the one thing that matters; see the contract."""
        self._check()
        promise = "A dispatched job lives as long as this process: when it ends, so do its jobs."
        remedy = "use sqlite:///jobs.db or a server for jobs that must not be lost"
        return [Finding(level="warning", setting="durable", value="no", promise=promise, remedy=remedy)]

    def native(self) -> Any:
        """Return the broker."""
        return self.broker


def named_broker(url: Url, namespace: str, clock: Clock | None) -> Broker | None:
    """Return the process's broker of that name; None for a private one."""
    if url.path.strip("/"):
        message = f"{url.scheme}:// takes at most a name, as in {url.scheme}://shop, not the path {url.path!r}"
        raise ConfigurationError(message)
    if not url.host:
        return None
    with _shared_lock:
        return _shared.setdefault((url.host, namespace), Broker(clock or SystemClock()))
