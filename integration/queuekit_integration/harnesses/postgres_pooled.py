"""The PostgreSQL driver behind a pooler in transaction mode."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from queuekit import AmbiguousDispatch, Job, Queue
from queuekit.contract import Driver, DriverUnavailable
from queuekit.ids import new_id
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.harnesses.postgres import PostgresHarness
from queuekit_integration.harnesses.postgres_sessions import PostgresSessions
from queuekit_integration.servers import PgBouncer, ProcessServer

__all__ = ["PooledPostgresHarness"]


def lock_leaves_a_dispatch_unknown(h: Harness) -> None:
    """Dispatch while the jobs' table is locked for too long: no answer comes, and doing it again under the same id is one job."""
    queue = h.queue()
    queue.open()
    assert h.sessions is not None
    with h.sessions.locked(), pytest.raises(AmbiguousDispatch) as caught:
        queue.dispatch(Job("t"))
    assert caught.value.job_id is not None
    queue.dispatch(Job("t", id=caught.value.job_id))
    assert queue.stats().pending == 1


def outage_leaves_a_dispatch_unknown(h: Harness) -> None:
    """Dispatch while the server is away and the pooler is not: whatever is answered, doing it again under the same id is one job."""
    queue, id = h.queue(), new_id()
    queue.dispatch(Job("t"))
    with h.outage(queue), pytest.raises((AmbiguousDispatch, DriverUnavailable)):
        queue.dispatch(Job("t", id=id))
    wait_until(lambda: _accepts(queue, id), "the queue to take jobs again after the outage")
    assert queue.stats().pending == 2


def _accepts(queue: Queue, id: str) -> bool:
    try:
        queue.dispatch(Job("t", id=id))
    except (AmbiguousDispatch, DriverUnavailable):
        return False
    return True


@dataclass
class PooledPostgresHarness(PostgresHarness):
    """As the column `postgres`, with `pgbouncer=true` and no session outliving its transaction; proxies stand behind the pooler's place."""

    expectations: ClassVar[Mapping[str, Expectation]] = {
        "FP-05": Weaker(
            "behind a pooler a session has no time limit of its own: a dispatch that waits for a lock until the driver gives up is "
            "ambiguous, not refused",
            shown_by=lock_leaves_a_dispatch_unknown,
        ),
        "dispatch_during_broker_fault": Weaker(
            "a pooler holds on to a dispatch while the server behind it is away: it is ambiguous then, not refused",
            shown_by=outage_leaves_a_dispatch_unknown,
        ),
    }
    name: str = "postgres-pgbouncer"
    _pooler: ProcessServer | None = field(default=None)

    @property
    def sessions(self) -> PostgresSessions:
        """What can be done to the pooler's sessions."""
        return _PooledSessions(self)

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why there is no server, or no pooler."""
        if reason := super().unavailable():
            return reason
        return None if PgBouncer().program() else "pgbouncer is not installed (Debian: apt-get install pgbouncer)"

    def url(self, *, through: Proxy | None = None) -> str:
        """Return the pooler's address; what goes through a proxy reaches the server itself."""
        if through is not None:
            return f"{super().url(through=through)}&pgbouncer=true"
        if self._pooler is None:
            self._pooler = ProcessServer(PgBouncer(self.server.url(), connections=10))
            self.keep(self._pooler)
            self._pooler.start()
        return f"{self.address(self._pooler.url())}&pgbouncer=true"

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Let new sessions be unsafe, and end those that the pooler has."""
        with closing(super().unsafe()) as settings:
            for found in settings:
                self.sessions.end()
                yield found
        self.sessions.end()


class _PooledSessions(PostgresSessions):
    """Sessions that outlive their clients: they have a setting only once they were made anew."""

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Set it for the role, and end what the pooler has."""
        with super().setting(name, value):
            self.end()
            yield
        self.end()
