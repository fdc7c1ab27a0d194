"""The SQS driver's verbs."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from queuekit.contract import (
    Clock,
    Delivery,
    Driver,
    Extension,
    Finding,
    Limits,
    Message,
    Namespace,
    Outcome,
    Patience,
    QueueClosed,
    QueueCounts,
    Released,
    Settlement,
    SystemClock,
    UnsupportedError,
    Url,
    Wakeup,
)
from queuekit_sqs import diagnosis
from queuekit_sqs.counting import count
from queuekit_sqs.lending import Lending
from queuekit_sqs.lent import Lent, delivery_of
from queuekit_sqs.offload import ObjectStore, object_store
from queuekit_sqs.queues import Queues
from queuekit_sqs.replaying import replay
from queuekit_sqs.sending import Sender
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import LONGEST_DELAY, LONGEST_FIFO_WAIT, LONGEST_LEASE, ROOM, UNIQUE_WINDOW, Settings
from queuekit_sqs.settling import Settling, delay_of
from queuekit_sqs.threads import Threads
from queuekit_sqs.wire import Label, Parcel, label_of, parcel_of

__all__ = ["SqsDriver"]

BATCH = 100
"""Messages in one call: ten requests at the same time."""
REQUESTS = 10
"""Requests other than polls that run at the same time."""
POLLS = 32
CALLERS = 32
"""Connections kept for threads of the application that send by themselves; more are made, and closed after use."""
LARGEST_OFFLOADED = 64 << 20


class _Parts:
    """What lives between `open` and `close`, in one process."""

    def __init__(self, settings: Settings, namespace: str, clock: Clock, store: ObjectStore | None) -> None:
        self.pid = os.getpid()
        self.settings = settings
        self.namespace = namespace
        self.clock = clock
        self.store = store
        self.service = Service(settings, connections=REQUESTS + POLLS + CALLERS)
        self.threads = Threads(REQUESTS, name="queuekit-sqs")
        self.queues = Queues(self.service, settings, namespace)
        self.sender = Sender(self.service, self.queues, self.threads, settings)
        self.settling = Settling(
            self.service,
            self.queues,
            self.sender,
            settings,
            clock,
            threads=self.threads,
            store=store,
            pack=self.pack,
        )
        self.lending = Lending(
            self.service,
            self.queues,
            settings,
            clock,
            threads=Threads(POLLS, name="queuekit-sqs-poll"),
            hop=self.hop,
            give_back=self.give_back,
            refresh=self.settling.renew,
            fetch=self.fetch,
        )

    def pack(self, message: Message, label: Label, delay: float) -> Parcel:
        """Write a message; a body that is too large goes to the object store first."""
        body = message.body
        most = self.settings.message_bytes - ROOM
        if self.store is not None and len(body) * 4 > most and len(body.encode()) > most:
            name = f"{self.namespace}.{message.id}.{label.generation}.{label.sends}"
            self.store.put(name, body)
            message = msgspec.structs.replace(message, body=name)
            label = msgspec.structs.replace(label, form="elsewhere")
        return parcel_of(message, label, delay=delay, now=self.clock.time(), settings=self.settings)

    def fetch(self, lent: Lent) -> Message:
        """Return a received message with its body; one whose payload is gone keeps its address as the body."""
        if lent.label.form != "elsewhere" or self.store is None:
            return lent.message
        body = self.store.get(lent.body)
        return lent.message if body is None else msgspec.structs.replace(lent.message, body=body)

    def hop(self, lent: Lent) -> None:
        """Hide a FIFO message until its time; if that fails, its lease runs out and it is received again."""
        assert lent.label.due is not None
        delay = max(0.0, lent.label.due - self.clock.time())
        self.settling.settle([Released(delivery_of(lent, lent.message), delay)])

    def give_back(self, lents: Sequence[Lent]) -> None:
        """Give back what nobody will start."""
        self.settling.settle([Released(delivery_of(lent, lent.message)) for lent in lents])

    def close(self) -> None:
        """Let polls end, give back what they brought, close the connections."""
        self.lending.close()
        self.threads.end(self.settings.read_timeout)
        self.service.close()


class SqsDriver:
    """Jobs on Amazon SQS: a transport. It carries and lends, and keeps no records.

    Standard queues promise no order; `fifo=True` keeps the order of each `key`, also through retries, and has no delays.
    Give an address (`sqs://eu-west-1?fifo=true&create=true`), `Settings`, or their fields by name.
    """

    def __init__(
        self,
        settings: Settings | Url | str | None = None,
        *,
        namespace: str | None = None,
        clock: Clock | None = None,
        store: ObjectStore | None = None,
        **options: Any,
    ) -> None:
        self._settings = Settings.of(settings, options)
        self._namespace = Namespace(namespace)
        self._clock: Clock = clock or SystemClock()
        if store is None and self._settings.offload is not None:
            store = object_store(self._settings.offload, self._settings)
        self._store = store
        self._lock = threading.Lock()
        self._parts: _Parts | None = None
        self._closed = False
        fifo = self._settings.fifo
        self.limits = Limits(
            name="sqs",
            batch=BATCH,
            body_bytes=self._settings.message_bytes - ROOM if store is None else LARGEST_OFFLOADED,
            longest_delay=float(LONGEST_FIFO_WAIT if fifo else LONGEST_DELAY),
            longest_lease=float(LONGEST_LEASE),
            resolution=1.0,
            delays=not fifo,
            priorities=False,
            keys=fifo,
            limits=False,
            unique_ids=False,
            unique_window=float(UNIQUE_WINDOW) if fifo else None,
            ordered=False,
            estimates=True,
            atomic=False,
            fenced=False,
        )

    @classmethod
    def from_url(cls, url: Url, *, namespace: str, clock: Clock | None = None) -> SqsDriver:
        """Build the driver for `sqs://region?option=value`."""
        return cls(Settings.from_url(url), namespace=namespace, clock=clock)

    @property
    def namespace(self) -> str:
        """The namespace that it works in."""
        return self._namespace.name

    def work_in(self, namespace: str) -> None:
        """Use this namespace's queues; see the contract."""
        self._namespace.take(namespace, driver=self.limits.name)

    # ---------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Build the client, and see whether the service answers and knows the credentials. Idempotent; one request."""
        self._open_parts()

    def _open_parts(self) -> _Parts:
        """Return the parts of this process: after a fork the child has its own connections and threads."""
        parts = self._parts
        if parts is not None and parts.pid == os.getpid() and not self._closed:
            return parts
        with self._lock:
            if self._closed:
                raise QueueClosed("the queue was closed; build a new one")
            if self._parts is None or self._parts.pid != os.getpid():
                self._namespace.fix()
                made = _Parts(self._settings, self.namespace, self._clock, self._store)
                try:
                    made.service.connect()
                    made.queues.check()
                except RequestError as error:
                    raise error.meaning from error
                self._parts = made
            return self._parts

    def close(self) -> None:
        """Give back what was received and not lent. Idempotent; blocks until running polls end, `poll` seconds and a round trip."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed and self._parts is not None and self._parts.pid == os.getpid():
            self._parts.close()

    def prepare(self, queues: Sequence[str]) -> None:
        """Find the queues and those of their dead letters; with `create` make the first now, the second with the first letter."""
        parts = self._open_parts()
        try:
            for queue in queues:
                parts.queues.url(queue)
                if not self._settings.create:
                    parts.queues.url(queue, dead=True)
        except RequestError as error:
            raise error.meaning from error

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, messages: Sequence[Message], *, patience: Patience | None = None) -> None:
        """Send messages; see the contract. On standard queues several batches travel at the same time."""
        parts = self._open_parts()
        parcels = [parts.pack(message, label_of(message), self._delay_of(message)) for message in messages]
        if parcels:
            parts.sender.send(parcels, patience).raise_failures()

    def _delay_of(self, message: Message) -> float:
        """Return a new message's delay; FIFO has none."""
        delay = delay_of(message, self._clock)
        if delay and self._settings.fifo:
            remedy = 'pair it with a store, as in Queue("sqs://…", store="redis://…")'
            text = f"the sqs driver cannot delay a job on FIFO queues: {remedy}"
            raise UnsupportedError(text, driver="sqs", feature="delay", remedy=remedy)
        return delay

    # ------------------------------------------------------------------------------------------------------- lending

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
        """Lend messages; see the contract. Leases are whole seconds, rounded up."""
        lending = self._open_parts().lending
        return lending.claim(queues, limit=limit, lease=lease, free=free, recover=recover, wait=wait, wakeup=wakeup)

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Apply outcomes; see the contract. A lease that is over by this process's clock is `lost` without a request."""
        parts = self._open_parts()
        answers = parts.settling.settle(outcomes) if outcomes else []
        for queue in {outcome.delivery.receipt.queue for outcome in outcomes if _given_back(outcome)}:
            parts.lending.given_back(queue)
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract. Twelve hours after its receipt a message is `held` no longer."""
        return self._open_parts().settling.extend(deliveries, lease=lease) if deliveries else []

    # ------------------------------------------------------------------------------------------------------ features

    def count(self, queues: Sequence[str] | None = None) -> list[QueueCounts]:
        """Count, approximately: the service's own figures settle within a minute. See the contract.

        `running` has what waits for a retry too, and `failed` is the number of dead letters.
        """
        parts = self._open_parts()
        return count(parts.service, parts.queues, queues)

    def same_queue(self, other: Driver, queue: str) -> bool:
        """Compare what the service says of the queue; see the contract. One request each."""
        if not isinstance(other, SqsDriver):
            return False
        return self._identity(queue) == other._identity(queue)  # noqa: SLF001 - another one of this class

    def _identity(self, queue: str) -> Mapping[str, str]:
        """Return its full name, and when it was made: emulators give their queues one and the same account."""
        parts = self._open_parts()
        try:
            answer = parts.service.call(
                "get_queue_attributes",
                doing=f"looking at the queue {queue}",
                QueueUrl=parts.queues.url(queue),
                AttributeNames=["QueueArn", "CreatedTimestamp"],
            )
        except RequestError as error:
            raise error.meaning from error
        attributes: Mapping[str, str] = answer["Attributes"]
        return attributes

    def replay(self, queue: str, *, limit: int = 100) -> list[str]:
        """Send up to `limit` dead letters of a queue anew: same id, next generation, fresh attempts; return their ids.

        Each is sent before its letter is deleted: after a crash in between it runs, and can be replayed, twice.
        """
        parts = self._open_parts()
        return replay(parts.service, parts.queues, parts.sender, self._settings, queue, limit=limit)

    def diagnose(self) -> list[Finding]:
        """Say what the queues' attributes promise; see the contract."""
        parts = self._open_parts()
        return diagnosis.diagnose(parts.service, parts.queues, self._settings)

    @property
    def requests(self) -> Counter[str]:
        """What was sent so far, by operation: requests are what SQS charges for."""
        return self._open_parts().service.requests

    def native(self) -> Any:
        """Return the boto3 client."""
        return self._open_parts().service.client


def _given_back(outcome: Outcome) -> bool:
    """Tell a job that its holder does not want now from one that waits for its time."""
    return isinstance(outcome, Released) and not outcome.delay and outcome.successor is None
