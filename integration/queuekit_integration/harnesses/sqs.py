"""The harness of the SQS driver, on an emulator."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from queuekit.clock import SystemClock, VirtualClock, Wakeup
from queuekit.contract import Again, Done, Driver
from queuekit.drivers import connect
from queuekit_integration.expectations import Weaker
from queuekit_integration.harness import Harness
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.servers import Kind, Roto
from queuekit_integration.weaker import ids_are_not_unique, order_may_break, time_is_real

__all__ = ["PassingClock", "SqsHarness"]


class PassingClock(VirtualClock):
    """Real time where a scenario says that time passes: a service has its own clock, and nobody can move it."""

    def time(self) -> float:
        """Return the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        """Let them pass."""
        time.sleep(seconds)

    def step(self, seconds: float) -> None:
        """Not in our hands."""
        raise NotImplementedError(f"the service's clock cannot be set by {seconds} s")

    def wait(self, wakeup: Wakeup, timeout: float) -> bool:
        """Block in real time."""
        return SystemClock().wait(wakeup, timeout)


def stale_settlements_are_not_refused(h: Harness) -> None:
    """Let a holder whose clock stood still settle: the service takes it, although another holds the job."""
    one, two = h.driver(), h.driver()
    one.send([h.message()])
    stale = h.claim_one(one, lease=1)
    h.advance(1.1)
    fresh = h.claim_one(two, lease=30)
    assert one.settle([Done(stale)]) == ["lost"], "the holder's own clock says that its lease is over"
    late = msgspec.structs.replace(stale, receipt=msgspec.structs.replace(stale.receipt, ends=float("inf")))
    one.settle([Done(late)])
    two.settle([Again(fresh)])
    assert two.claim(["default"], limit=1, lease=30) == [], "the service refused the stale deletion"


@dataclass
class SqsHarness(ServedHarness):
    """Standard queues on roto."""

    name: str = "sqs"
    profile: str = "roto"
    kind: ClassVar[Kind] = Roto()
    clock: VirtualClock = field(default_factory=PassingClock)
    virtual: ClassVar[bool] = False
    without: ClassVar[Mapping[str, Weaker]] = {
        "fenced": Weaker(
            "a settlement after the lease's end is refused by the holder's own clock; the service itself may take it",
            shown_by=stale_settlements_are_not_refused,
        ),
        "order": Weaker("a standard queue promises no order", shown_by=order_may_break),
        "unique_ids": Weaker(
            "a second dispatch with the id of an earlier one is a job of its own", shown_by=ids_are_not_unique
        ),
        "virtual_time": Weaker(
            "the service's clock is nobody's to move: a lease and a delay of a second are watched in real time",
            shown_by=time_is_real,
        ),
    }

    def make_driver(self, *, virtual: bool) -> Driver:  # noqa: ARG002 - time is always real here
        """Build the driver from the address, as a user does."""
        return connect(self.url(), namespace=self.namespace, clock=None)

    def client(self) -> Any:
        """Return a client of the service, past the driver under test."""
        driver: Any = self.driver()
        return driver.native()

    def queue_url(self, queue: str = "default") -> str:
        """Return the service's address of a queue."""
        return str(self.client().get_queue_url(QueueName=f"{self.namespace}--{queue}{self.suffix}")["QueueUrl"])

    suffix: ClassVar[str] = ""

    def write_garbage(self, body: bytes) -> None:
        """Send a message that queuekit did not write; SQS takes text alone."""
        text = body.decode("utf-8", "replace")
        self.client().send_message(QueueUrl=self.queue_url(), MessageBody=text)

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Let SQS move jobs away by itself, forget them soon, take small ones only, and delay all of them."""
        client, url = self.client(), self.queue_url()
        other = client.get_queue_attributes(QueueUrl=self.queue_url("default--dead"), AttributeNames=["QueueArn"])
        policy = f'{{"deadLetterTargetArn":"{other["Attributes"]["QueueArn"]}","maxReceiveCount":"3"}}'
        before = {"RedrivePolicy": "", "MessageRetentionPeriod": "1209600", "DelaySeconds": "0"}
        for setting, value in (("RedrivePolicy", policy), ("MessageRetentionPeriod", "3600"), ("DelaySeconds", "5")):
            client.set_queue_attributes(QueueUrl=url, Attributes={setting: value})
            try:
                yield setting, self.make_driver(virtual=False)
            finally:
                client.set_queue_attributes(QueueUrl=url, Attributes={setting: before[setting]})

    def leaks(self) -> list[str]:
        """Return what is in flight although every driver of the cell could have settled it: nothing that lasts is asked of it."""
        return []

    def close(self) -> None:
        """End what the cell started, and remove its queues."""
        super().close()
        if self._server is not None:
            self._remove_queues()

    def _remove_queues(self) -> None:
        driver: Any = self.make_driver(virtual=False)
        driver.open()
        client = driver.native()
        for page in client.get_paginator("list_queues").paginate(QueueNamePrefix=f"{self.namespace}-"):
            for url in page.get("QueueUrls", ()):
                client.delete_queue(QueueUrl=url)
        driver.close()
