"""Measures pairs of a transport with a store beside each half alone, in one call and on servers that this starts.

    python scripts/bench/pair.py [--pairs rabbitmq+sqlite,rabbitmq+postgres,sqs+redis] [--jobs 20000] [--rounds 3]

One worker process, 10 threads, no-op handler, small JSON payload, backlog loaded first; "run and settled" ends when the last job is settled
where its record is. Medians of the rounds; the halves and the pair take turns, so that all of a round see the same machine. Calls are the verbs
that a pair asks of each half, counted at the driver: each is at least a round trip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from core import dispatch_many, dispatch_one_by_one, latency, register, run_all

from queuekit import Queue
from queuekit.drivers import connect
from queuekit_integration.servers import Postgres, ProcessServer, RabbitMQ, Redis, Roto

PAIRS = ("rabbitmq+sqlite", "rabbitmq+postgres", "sqs+redis")
KINDS: dict[str, Callable[[], Any]] = {"rabbitmq": RabbitMQ, "sqs": Roto, "redis": Redis, "postgres": Postgres}
OPTIONS = {"postgres": "?migrate=true"}
VERBS = (
    "send",
    "claim",
    "settle",
    "exchange",
    "admit",
    "published",
    "outbox",
    "lend",
    "take",
    "let_go",
    "settle_and_lend",
)


@contextmanager
def servers(names: set[str]) -> Iterator[dict[str, str]]:
    """Start what is needed on free ports; yield addresses, SQLite's being a pattern for a file a round."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        addresses = {"sqlite": f"sqlite:///{folder}/%s.db"}
        for name in sorted(names - {"sqlite"}):
            server = ProcessServer(KINDS[name]())
            server.start()
            stack.callback(server.close)
            addresses[name] = server.url() + OPTIONS.get(name, "")
        yield addresses


def counted(driver: Any, calls: Counter[str]) -> Any:
    """Return the driver with its calls counted by verb."""
    for verb in VERBS:
        if hasattr(driver, verb):
            setattr(driver, verb, counting(getattr(driver, verb), f"{driver.limits.name}.{verb}", calls))
    return driver


def counting(call: Any, name: str, calls: Counter[str]) -> Any:
    """Return the same call, counted."""

    def count(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return call(*args, **kwargs)

    return count


def queue_on(name: str, addresses: dict[str, str], calls: Counter[str]) -> Queue:
    """Return a queue on a half, or on a pair, in a namespace of its own."""
    namespace = f"b{uuid.uuid4().hex[:8]}"
    drivers: list[Any] = []
    for half in name.split("+"):
        address = addresses[half].replace("%s", namespace)
        drivers.append(counted(connect(address, namespace=namespace, clock=None), calls))
    return Queue(drivers[0], store=drivers[1] if len(drivers) == 2 else None, namespace=namespace)


def measure(name: str, addresses: dict[str, str], jobs: int) -> dict[str, float]:
    """Measure once."""
    calls: Counter[str] = Counter()
    queue = queue_on(name, addresses, calls)
    register(queue)
    queue.open()
    dispatch_one_by_one(queue, 20)
    figures = {"bulk dispatch/s": dispatch_many(queue, jobs)}
    ones = max(200, jobs // 20)
    figures["one by one/s"] = dispatch_one_by_one(queue, ones)
    calls.clear()
    spent = time.process_time()
    figures["run and settled/s"] = run_all(queue, jobs + ones + 20)
    figures["worker CPU us/job"] = (time.process_time() - spent) / jobs * 1e6
    figures["calls a 1000 jobs"] = sum(calls.values()) / jobs * 1000
    figures["p50 ms"], figures["p99 ms"] = latency(queue, 200)
    figures |= {f"  {verb} a 1000 jobs": count / jobs * 1000 for verb, count in sorted(calls.items())}
    queue.close()
    return figures


def table(pair: str, rounds: dict[str, list[dict[str, float]]], jobs: int) -> Iterator[str]:
    """Yield the lines of one pair's table: its halves, itself, and its ratio to the slower half."""
    names = [*pair.split("+"), pair]
    medians = {
        name: {figure: statistics.median(r.get(figure, 0.0) for r in rounds[name]) for figure in rounds[name][0]}
        for name in names
    }
    yield f"{pair}, {jobs} jobs, medians of {len(rounds[pair])} rounds on {os.cpu_count()} cores"
    yield f"  {'':<28}" + "".join(f"{name:>20}" for name in [*names, "of the slower half"])
    for figure in medians[pair]:
        found = [medians[name].get(figure) for name in names]
        slower = [value for value in found[:2] if value is not None]
        ratio = found[2] / min(slower) if figure.endswith("/s") and found[2] is not None and slower else None
        cells = ["" if value is None else f"{value:,.2f}" for value in found]
        yield f"  {figure:<28}" + "".join(f"{cell:>20}" for cell in [*cells, "" if ratio is None else f"{ratio:.0%}"])


def main() -> None:
    """Print a table a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    for pair in wanted.pairs.split(","):
        names = [*pair.split("+"), pair]
        with servers(set(pair.split("+"))) as addresses:
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(wanted.rounds):
                for name in names:
                    rounds[name].append(measure(name, addresses, wanted.jobs))
        print("\n".join(table(pair, rounds, wanted.jobs)), flush=True)


if __name__ == "__main__":
    main()
