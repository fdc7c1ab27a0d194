"""queuekit as a module of the benchmark that runs the peers. Variants: {memory|sqlite|redis|postgres|sqs|rabbitmq}[-forget][-full][-classic].

`forget` keeps no record of finished jobs (`retain=0`), `full` syncs SQLite's disk at every commit, `classic` uses RabbitMQ's classic queues as the peers do;
without them the defaults count: settled after the handler, leased, fenced, records kept (RabbitMQ alone keeps none), quorum queues.

The harness imports this in the producer and, through the command line, in the worker; `_common` is the harness's own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from _common import AMQP_URL, BIN, FLAGS, PG_DSN, REDIS_URL, TMP, amqp_delete, handler

from queuekit import Job, Queue

FILE = Path(TMP) / "queuekit.db"
KIND = FLAGS[0] or "memory"
ADDRESSES = {
    "memory": "memory://bench",
    "sqlite": f"sqlite:///{FILE}" + ("?synchronous=FULL" if "full" in FLAGS else ""),
    "redis": REDIS_URL,
    "postgres": PG_DSN,
    "sqs": f"sqs://test:test@us-east-1?endpoint=http://127.0.0.1:{os.environ.get('BENCH_SQS_PORT')}&create=true&message_bytes=262144",
    "rabbitmq": AMQP_URL + ("?queue_type=classic" if "classic" in FLAGS else ""),
}
queue = Queue(ADDRESSES[KIND], namespace="bench")


@queue.job(name="job", retain=0 if "forget" in FLAGS else None)
def job(j: dict[str, Any]) -> None:
    """Leave the mark that every peer's handler leaves."""
    handler(j)


def backend() -> str:
    """Return whose CPU is charged as the broker's."""
    return KIND


def guarantee() -> str:
    """Say what is promised in this configuration."""
    if KIND == "sqs":
        return "at-least-once (settled after the handler; lease 30 s, renewed)"
    if KIND == "rabbitmq":
        kind = "classic" if "classic" in FLAGS else "quorum"
        return f"at-least-once (settled after the handler; publishes confirmed; {kind} queue; no records)"
    records = "no record is kept" if "forget" in FLAGS else "records kept"
    return f"at-least-once (settled after the handler; lease 30 s, renewed and fenced; {records})"


def reset() -> None:
    """Begin with an empty backend."""
    if KIND == "sqlite":
        for name in ("", "-wal", "-shm"):
            Path(f"{FILE}{name}").unlink(missing_ok=True)
    elif KIND == "redis":
        queue.open()
        queue.driver.native().flushdb()  # type: ignore[attr-defined]  # this server is the benchmark's own
    elif KIND == "postgres":
        forget_schema()
    elif KIND == "sqs":
        forget_messages()
    elif KIND == "rabbitmq":
        amqp_delete(*(f"bench:default{lane}" for lane in ("", ":back", ":dead")))
        job.dispatch({})  # the wait for a new queue is paid once in its life, and no part of a job's price
        queue.driver.purge(queue.default_queue)  # type: ignore[attr-defined]  # this broker is the benchmark's own
        queue.purge("default")


def forget_schema() -> None:
    """Drop and make the schema, as `queuekit migrate` would make it."""
    import psycopg  # noqa: PLC0415 - only where Postgres is measured

    with psycopg.connect(PG_DSN, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS queuekit CASCADE")
    queue.driver.migrate()  # type: ignore[attr-defined]  # SQL engines have it


def forget_messages() -> None:
    """Purge the queue: a queue that is deleted may not be made again for a minute."""
    queue.open()
    client = queue.driver.native()  # type: ignore[attr-defined]  # this emulator is the benchmark's own
    for url in client.list_queues(QueueNamePrefix="bench--").get("QueueUrls", ()):
        client.purge_queue(QueueUrl=url)


class Producer:
    """Dispatches as an application does."""

    def open(self) -> None:
        """Connect."""
        queue.open()

    def one(self, payload: dict[str, Any]) -> None:
        """Dispatch one job; stored when this returns."""
        job.dispatch(payload)

    def many(self, payloads: list[dict[str, Any]]) -> None:
        """Dispatch many; stored when this returns."""
        queue.dispatch_many(job.job(payload) for payload in payloads)


def worker(procs: int, conc: int) -> list[list[str]]:
    """Return the command line of a real worker; memory's works on a backlog that it makes itself."""
    if KIND == "memory":
        return [[sys.executable, __file__, str(conc)]]
    return [[f"{BIN}/queuekit", "worker", "p_queuekit:queue", "--concurrency", str(conc), "--processes", str(procs)]]


def pending() -> int:
    """Return how many jobs are not settled yet; memory's are another process's."""
    counts = queue.stats()
    return 0 if KIND == "memory" else counts.pending + counts.in_flight


def work_in_memory(concurrency: int) -> None:
    """Load the backlog and work it off, in one process, because memory has no other."""
    count = int(os.environ["BENCH_N"])
    payloads = ({"i": i, "user": 123456, "path": "/a/b/c", "tags": ["x", "y"]} for i in range(count))
    queue.dispatch_many(Job("job", {"j": payload}) for payload in payloads)
    queue.run(concurrency)


if __name__ == "__main__":
    work_in_memory(int(sys.argv[1]))
