"""Harnesses of real pairs: a transport's server carries the tickets, an engine keeps the jobs.

Two of them let the faults of servers befall the store, one the transport: together they show what each half's outage costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from queuekit_integration.expectations import Expectation, Stronger, Weaker
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses.embedded import SqliteHarness
from queuekit_integration.harnesses.paired import PairedHarness
from queuekit_integration.harnesses.postgres import PostgresHarness
from queuekit_integration.harnesses.rabbitmq import RabbitMQHarness
from queuekit_integration.harnesses.redis import RedisHarness
from queuekit_integration.harnesses.sqs import SqsHarness
from queuekit_integration.stronger import (
    accepted_although_it_does_not_answer,
    accepted_before_it_was_there,
    accepted_while_it_hangs,
    accepted_while_it_is_away,
    cut_off_from_it_a_holder_keeps_its_job,
    settled_without_it,
    unanswered_it_stored_nothing,
)
from queuekit_integration.weaker import (
    an_open_transaction_holds_the_file,
    an_unanswered_dispatch_waits_for_its_ticket,
    foreign_text_is_kept,
    the_oldest_age_is_unknown,
)

__all__ = ["RabbitMQPostgresHarness", "RabbitMQSqliteHarness", "SqsRedisHarness"]


@dataclass
class CarryingHarness(RabbitMQHarness):
    """RabbitMQ as one half: its heartbeats are as short as the leases of scenarios, for a frozen worker may hold tickets."""

    def address(self, url: str) -> str:
        """Ask for them."""
        return f"{super().address(url)}&heartbeat=2"

    def footprint(self) -> dict[str, int]:
        """Count the tickets."""
        driver: Any = self.driver()
        return {f"{c.queue} tickets": c.pending + c.running for c in driver.count(["default"])}


SETTLED = Stronger("renewals and outcomes ask the store alone: no fault of the broker touches them", settled_without_it)
ACCEPTED = Stronger(
    "the store accepts a dispatch whatever becomes of its ticket: no fault of the broker is felt",
    accepted_although_it_does_not_answer,
)
LATE = Weaker(
    "a job that the store accepted without an answer starts ten seconds later, or when it is dispatched again under its id",
    shown_by=an_unanswered_dispatch_waits_for_its_ticket,
)
AWAY = "dispatches are accepted while the broker is away, and run when it is back"
KEPT = Stronger(
    "a holder that is cut off from the broker keeps its job: the store renews its lease",
    cut_off_from_it_a_holder_keeps_its_job,
)


@dataclass
class RabbitMQSqliteHarness(PairedHarness):
    """RabbitMQ with SQLite; faults befall the broker, for the store is a file."""

    name: str = "rabbitmq+sqlite"
    transport: ClassVar[type[Harness]] = CarryingHarness
    engine: ClassVar[type[Harness]] = SqliteHarness
    hits_store: ClassVar[bool] = False
    silence: ClassVar[float] = RabbitMQHarness.silence
    expectations: ClassVar[Mapping[str, Expectation]] = {
        **SqliteHarness.expectations,
        **dict.fromkeys(
            ("OWN-07", "OWN-09"),
            Weaker(
                "an open transaction of the application holds the whole file: nobody else writes meanwhile",
                shown_by=an_open_transaction_holds_the_file,
            ),
        ),
        "FLT-01-LOAD": Stronger(AWAY, accepted_while_it_is_away(lambda server: server.kill(), "kill")),
        "FLT-02": Stronger(AWAY, accepted_while_it_is_away(lambda server: server.stop(), "stop")),
        **dict.fromkeys(
            ("FLT-03", "FLT-03-KEPT"),
            Stronger("the store answers and accepts dispatches while the broker hangs", accepted_while_it_hangs),
        ),
        "FLT-04": Stronger("a queue opens and accepts jobs before its broker is there", accepted_before_it_was_there),
        **dict.fromkeys(("FLT-05", "FLT-06", "LSE-05"), KEPT),
        **dict.fromkeys(
            ("FLT-09-DISPATCH", "FLT-10-DISPATCH", "FLT-12-DISPATCH", "FLT-12-ENDED", "FLT-20", "CTX-12", "ERR-05"), ACCEPTED
        ),
        **dict.fromkeys(
            (
                "FLT-09-ACK", "FLT-09-NACK", "FLT-09-DEAD", "FLT-09-EXTEND",
                "FLT-10", "FLT-10-NACK", "FLT-10-EXTEND", "FLT-12",
            ),
            SETTLED,
        ),
    }  # fmt: skip


@dataclass
class RabbitMQPostgresHarness(PairedHarness):
    """RabbitMQ with PostgreSQL; faults befall the database."""

    name: str = "rabbitmq+postgres"
    transport: ClassVar[type[Harness]] = CarryingHarness
    engine: ClassVar[type[Harness]] = PostgresHarness
    expectations: ClassVar[Mapping[str, Expectation]] = {
        **PostgresHarness.expectations,
        "FLT-09-DISPATCH": LATE,
        **dict.fromkeys(
            ("ERR-05", "FLT-12-DISPATCH", "FLT-12-ENDED"),
            Stronger(
                "a dispatch that the store did not answer before its commit stored nothing, and is said to have failed",
                unanswered_it_stored_nothing,
            ),
        ),
    }
    silence: ClassVar[float] = PostgresHarness.silence


@dataclass
class SqsRedisHarness(PairedHarness):
    """SQS with Redis; faults befall the store."""

    name: str = "sqs+redis"
    profile: str = "roto"
    transport: ClassVar[type[Harness]] = SqsHarness
    engine: ClassVar[type[Harness]] = RedisHarness
    expectations: ClassVar[Mapping[str, Expectation]] = {
        **RedisHarness.expectations,
        "FLT-09-DISPATCH": LATE,
        **dict.fromkeys(
            ("ADM-05", "backpressure_saturation_depth_latency_range"),
            Weaker(
                "the age of the oldest job is unknown while its ticket is on the way",
                shown_by=the_oldest_age_is_unknown,
            ),
        ),
        "PSN-01": Weaker("SQS carries text: other bytes cannot be sent to it", shown_by=foreign_text_is_kept),
    }
    silence: ClassVar[float] = RedisHarness.silence
