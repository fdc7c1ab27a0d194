"""The harness of the SQS driver, on an emulator."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from queuekit.clock import SystemClock, VirtualClock, Wakeup
from queuekit.contract import Driver
from queuekit.drivers import connect
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.servers import Kind, Roto

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


@dataclass
class SqsHarness(ServedHarness):
    """Standard queues on roto."""

    name: str = "sqs"
    profile: str = "roto"
    kind: ClassVar[Kind] = Roto()
    clock: VirtualClock = field(default_factory=PassingClock)

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
