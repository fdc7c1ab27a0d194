"""PgBouncer in transaction mode: no session survives a transaction, and everything holds all the same (FP-11)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from queuekit import Job, Queue
from queuekit_integration.servers import PgBouncer, ProcessServer


@pytest.fixture
def bouncer(postgres) -> Iterator[str]:
    """Return the address of a pooler in front of the server, with two connections for all."""
    if PgBouncer().program() is None:
        text = "pgbouncer is not installed here (Debian: apt-get install pgbouncer)"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    server = ProcessServer(PgBouncer(postgres.url()))
    try:
        server.start()
        yield server.url()
    finally:
        server.close()


def test_jobs_run_through_it(bouncer, make, namespace):
    make().open()
    queue = Queue(f"{bouncer}?pgbouncer=true", namespace=namespace)
    ran: list[int] = []

    def note(payload: int) -> None:
        ran.append(payload)

    queue.register("t", note)
    handles = queue.dispatch_many(Job("t", i) for i in range(300))
    unique = [queue.dispatch(Job("t", 1000, unique_for=60)) for _ in range(3)]
    assert [handle.created for handle in unique] == [True, False, False]
    for i in range(5):
        queue.dispatch(Job("t", 2000 + i, key="k"))
    delayed = queue.dispatch(Job("t", 3000, delay=0.3))
    queue.start_workers(8)
    queue.drain(30)
    delayed.wait(20)  # a drained queue may still have delayed jobs
    assert sorted(ran) == [*range(300), 1000, *range(2000, 2005), 3000]
    assert [i for i in ran if 2000 <= i < 3000] == list(range(2000, 2005)), "a key's order was lost"
    assert handles[0].state == "completed"
    queue.shutdown(5)
    queue.close()


def test_more_clients_than_server_connections(bouncer, make, namespace):
    make().open()
    queues = [Queue(f"{bouncer}?pgbouncer=true", namespace=namespace) for _ in range(3)]
    ran: list[int] = []

    def note(payload: int) -> None:
        ran.append(payload)

    for queue in queues:
        queue.register("t", note)
        queue.start_workers(4)
    for i in range(60):
        queues[i % 3].dispatch(Job("t", i))
    queues[0].drain(30)
    assert sorted(ran) == list(range(60)), queues[0].stats()
    for queue in queues:
        queue.shutdown(5)
        queue.close()
