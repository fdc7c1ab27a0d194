"""The harness of the SQS driver, on an emulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from queuekit import Backoff, Job, Queue
from queuekit.clock import SystemClock, VirtualClock, Wakeup
from queuekit.contract import (
    Again,
    BackendFull,
    Delivery,
    Done,
    Driver,
    DriverError,
    DriverRejected,
    DriverUnavailable,
    Message,
)
from queuekit.drivers import connect
from queuekit.ids import new_id
from queuekit.worker.inline import run_due
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults.sqs import SqsStub
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.harnesses.served import ServedHarness
from queuekit_integration.servers import Kind, LocalStack, Roto
from queuekit_integration.weaker import ids_are_not_unique, order_may_break, time_is_real

__all__ = ["LocalStackFifoHarness", "LocalStackHarness", "PassingClock", "SqsFifoHarness", "SqsHarness"]


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

    def wait(self, wakeup: Wakeup, timeout: float, *, beside: int | None = None) -> bool:
        """Block in real time."""
        return SystemClock().wait(wakeup, timeout, beside=beside)


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

    silence: ClassVar[float] = 3.0
    """A second of the poll itself, and the two of `read_timeout`."""
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

    def address(self, url: str) -> str:
        """Let polls be short, and verbs give up early, as the leases of scenarios are short."""
        return f"{url}&poll=1&connect_timeout=1.5&read_timeout=2"

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
    attributes: ClassVar[Mapping[str, str]] = {}

    def write_garbage(self, body: bytes) -> None:
        """Send a message that queuekit did not write; SQS takes text alone."""
        text = body.decode("utf-8", "replace")
        fifo = {"MessageGroupId": "garbage", "MessageDeduplicationId": new_id()} if self.suffix else {}
        self.client().send_message(QueueUrl=self.queue_url(), MessageBody=text, **fifo)

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Let SQS move jobs away by itself, forget them soon, take small ones only, and delay all of them."""
        client, url = self.client(), self.queue_url()
        letters = client.create_queue(QueueName=f"{self.namespace}--other{self.suffix}", Attributes=self.attributes)
        other = client.get_queue_attributes(QueueUrl=letters["QueueUrl"], AttributeNames=["QueueArn"])
        policy = f'{{"deadLetterTargetArn":"{other["Attributes"]["QueueArn"]}","maxReceiveCount":"3"}}'
        before = {"RedrivePolicy": ""} | client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        for setting, value in (
            ("RedrivePolicy", policy),
            ("MessageRetentionPeriod", "3600"),
            ("MaximumMessageSize", "1024"),
            ("DelaySeconds", "5"),
        ):
            client.set_queue_attributes(QueueUrl=url, Attributes={setting: value})
            try:
                yield setting, self.make_driver(virtual=False)
            finally:
                client.set_queue_attributes(QueueUrl=url, Attributes={setting: before[setting]})

    @contextmanager
    def stub(self) -> Iterator[SqsStub]:
        """Put a proxy in front of the emulator that answers as the service does on bad days."""
        with SqsStub(self.server.host, self.server.port) as stub:
            yield stub

    def through(self, stub: SqsStub, **options: Any) -> Driver:
        """Return an open driver that speaks to the service through a stub; `options` are of its address."""
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        driver = connect(self.address(self.server.url(port=stub.port)) + extra, namespace=self.namespace, clock=None)
        self._drivers.append(driver)
        driver.open()
        driver.prepare(["default"])
        return driver

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Throttle for longer than anybody waits, break inside, fill up, deny, refuse the signature, remove the queue."""
        with self.stub() as stub:
            driver = self.through(stub, patience=0.2)
            send = lambda: driver.send([self.message()])  # noqa: E731 - the one call that meets every trouble
            look = lambda: driver.claim(["default"], limit=1, lease=30)  # noqa: E731 - another one
            for action, code, status, call, kind in (
                ("SendMessageBatch", "ThrottlingException", 400, send, DriverUnavailable),
                ("SendMessageBatch", "ServiceUnavailable", 503, send, DriverUnavailable),
                ("ReceiveMessage", "OverLimit", 400, look, BackendFull),
                ("ReceiveMessage", "InternalError", 500, look, DriverUnavailable),
                ("SendMessageBatch", "AccessDeniedException", 400, send, DriverRejected),
                ("SendMessageBatch", "InvalidClientTokenId", 403, send, DriverRejected),
                ("SendMessageBatch", "RequestTimeTooSkewed", 403, send, DriverRejected),
                ("SendMessageBatch", "InvalidMessageContents", 400, send, DriverRejected),
            ):
                stub.refuse(action, code, status=status, times=1000)
                yield code, call, kind
                stub.heal()
        yield "refused", self.broken().open, DriverUnavailable

    def footprint(self) -> dict[str, int]:
        """Count the messages of every queue of the namespace, dead letters included."""
        driver: Any = self.driver()
        names = ("pending", "scheduled", "running", "failed")
        return {f"{c.queue} {name}": n for c in driver.count() for name in names if (n := getattr(c, name))}

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


def ids_count_once(h: Harness) -> tuple[Driver, Message]:
    """Send one message twice, see that it is one job, and end that."""
    driver = h.driver()
    message = h.message()
    driver.send([message])
    driver.send([message])
    delivery = h.claim_one(driver, lease=30)
    assert driver.claim(["default"], limit=5, lease=30) == []
    driver.settle([Done(delivery)])
    return driver, message


def ids_are_unique_for_a_while(h: Harness) -> None:
    """Send one message twice: it is one job; once that has ended, this emulator has forgotten the id (AWS: five minutes later)."""
    driver, message = ids_count_once(h)
    driver.send([message])
    assert h.claim_one(driver).message.id == message.id


def ids_are_unique_for_five_minutes(h: Harness) -> None:
    """Send one message twice: it is one job; once that has ended, the id is still taken."""
    driver, message = ids_count_once(h)
    driver.send([message])
    assert driver.claim(["default"], limit=5, lease=30) == []


def run_duplicates(h: Harness) -> Queue:
    """Dispatch unique jobs again: each runs once, also through a retry, and every handle has an id of its own."""
    queue = h.queue(virtual=True)
    ran: list[int] = []

    @queue.job(name="t", retries=1, backoff=Backoff.constant(0))
    def t(payload: int) -> None:
        ran.append(payload)
        if ran.count(payload) == 1:
            raise ValueError("once more")

    handles = [queue.dispatch(Job("t", 1, unique_for=300)) for _ in range(2)]
    handles += queue.dispatch_many(Job("t", number, unique_for=300) for number in (1, 2, 2, 3))
    run_due(queue)
    assert sorted(ran) == [1, 1, 2, 2, 3, 3]
    assert len({handle.id for handle in handles}) == len(handles)
    return queue


def duplicates_are_dropped_in_silence(h: Harness) -> None:
    """See duplicates dropped; once a job has ended, this emulator has forgotten its scope (AWS: five minutes later)."""
    queue = run_duplicates(h)
    queue.dispatch(Job("t", 1, unique_for=300))
    assert h.claim_one(queue.driver).attempt == 1


def duplicates_are_dropped_for_five_minutes(h: Harness) -> None:
    """See duplicates dropped, also of jobs that have ended."""
    queue = run_duplicates(h)
    queue.dispatch(Job("t", 1, unique_for=300))
    assert queue.driver.claim(["default"], limit=5, lease=30) == []


@dataclass
class SqsFifoHarness(SqsHarness):
    """FIFO queues on roto."""

    name: str = "sqs-fifo"
    expectations: ClassVar[Mapping[str, Expectation]] = {
        "UNQ-WINDOW": Weaker(
            "for 300 s from a job's acceptance (on this emulator until it has ended) others of its scope are dropped, "
            "and nobody is told: each handle has an id of its own",
            shown_by=duplicates_are_dropped_in_silence,
        )
    }
    suffix: ClassVar[str] = ".fifo"
    attributes: ClassVar[Mapping[str, str]] = {"FifoQueue": "true"}
    without: ClassVar[Mapping[str, Weaker]] = {
        **SqsHarness.without,
        "order": Weaker("only jobs with one key keep their order", shown_by=order_may_break),
        "unique_ids": Weaker(
            "an id counts once within five minutes of its acceptance, and on this emulator until its job has ended",
            shown_by=ids_are_unique_for_a_while,
        ),
    }

    def address(self, url: str) -> str:
        """Ask for FIFO queues."""
        return f"{super().address(url)}&fifo=true"


def it_forgets_all_when_it_ends(h: Harness) -> None:
    """Kill the emulator: what it had accepted is gone, and what is sent to it afterwards is lent."""
    driver = h.driver()
    driver.send([h.message("before")])
    assert h.server is not None
    h.server.kill()
    h.fired("kill")
    h.server.start()
    driver.send([h.message("after")])
    found = wait_until(lambda: driver.claim(["default"], limit=5, lease=30), "a job", seconds=10)
    assert [delivery.message.body for delivery in found] == ["after"]
    assert driver.claim(["default"], limit=5, lease=30) == []


LATE = 1.1
"""Seconds by which LocalStack's timers may be late."""


class LateClock(PassingClock):
    """Waits for late timers too."""

    def advance(self, seconds: float) -> None:
        """Let them pass, and what its timers need on top."""
        super().advance(seconds + LATE)


FORGETFUL = {
    "outlives": Weaker(
        "this emulator keeps its messages in memory: what it accepted is gone when it ends (at AWS, and on the other emulator, it is not)",
        shown_by=it_forgets_all_when_it_ends,
    )
}


@dataclass
class LocalStackHarness(SqsHarness):
    """Standard queues on LocalStack, for fidelity; slower, and without anything that outlives it."""

    name: str = "sqs"
    profile: str = "localstack"
    kind: ClassVar[Kind] = LocalStack()
    outlives: ClassVar[bool] = False
    without: ClassVar[Mapping[str, Weaker]] = {**SqsHarness.without, **FORGETFUL}
    clock: VirtualClock = field(default_factory=LateClock)
    silence: ClassVar[float] = 12.0

    def address(self, url: str) -> str:
        """Give it the time that it takes on a busy machine."""
        return f"{url}&poll=2"

    def claim_one(self, driver: Driver, *, lease: float = 10.0, queue: str = "default") -> Delivery:
        """Claim exactly one job, which may be late."""
        return wait_until(lambda: driver.claim([queue], limit=1, lease=lease), "one job to be claimable", seconds=5)[0]  # type: ignore[no-any-return]

    @contextmanager
    def outage(self, queue: Queue) -> Iterator[None]:
        """Let the driver's verbs fail, for the same reason."""
        with Harness.outage(self, queue):
            yield


@dataclass
class LocalStackFifoHarness(LocalStackHarness, SqsFifoHarness):
    """FIFO queues on LocalStack, which keeps the five minutes as AWS documents them."""

    name: str = "sqs-fifo"
    expectations: ClassVar[Mapping[str, Expectation]] = {
        "UNQ-WINDOW": Weaker(
            "for 300 s from a job's acceptance, its end included, others of its scope are dropped, "
            "and nobody is told: each handle has an id of its own",
            shown_by=duplicates_are_dropped_for_five_minutes,
        )
    }
    without: ClassVar[Mapping[str, Weaker]] = {
        **SqsFifoHarness.without,
        **FORGETFUL,
        "unique_ids": Weaker(
            "an id counts once within five minutes of its acceptance, its job's end included",
            shown_by=ids_are_unique_for_five_minutes,
        ),
    }

    def address(self, url: str) -> str:
        """Ask for FIFO queues, with LocalStack's time."""
        return f"{LocalStackHarness.address(self, url)}&fifo=true"
