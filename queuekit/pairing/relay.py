"""Brings to the transport what the store says nobody has brought there yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from queuekit.contract import (
    AmbiguousSend,
    Clock,
    DispatchCancelled,
    DispatchTimeout,
    Driver,
    DriverError,
    DriverUnavailable,
    Message,
    PartialSend,
    Patience,
    Store,
    Wakeup,
)
from queuekit.pairing.forking import restart_in_children
from queuekit.pairing.tickets import chunks, ticket

__all__ = ["Relay"]

_log = logging.getLogger("queuekit.pairing")

INTERVAL = 0.25
"""Seconds between two looks into the outbox: how late a delayed job, a retry or a recovered job may be."""
WITHIN = 10.0
"""Seconds until the outbox names a job whose publisher may have died before it published."""
AGAIN = 900.0
"""Seconds until it names a job that was published and still waits: a transport that lost it (a queue deleted
underneath) delays it by that much; a long backlog costs one more small message a job in that time."""
BATCH = 500
IDLE = 1.0
"""Seconds without a waiting claim after which the sweeping thread ends."""
QUIET = 1.0
"""The most seconds for which nothing is published after the transport did not answer: as long as it took to learn that, so whoever dispatches
is not held up anew each time."""
NOTED = 200
"""The most published jobs that are not noted as such yet; a crash publishes these once more."""


class Relay:
    """Publishes jobs, notes what was published, and sweeps the outbox while a worker of this process claims.

    Safe from any thread. A job may be published twice; the store lends it once.
    """

    def __init__(
        self,
        transport: Driver,
        store: Store,
        *,
        clock: Clock,
        interval: float = INTERVAL,
        within: float = WITHIN,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._store = store
        self._clock = clock
        self._interval = interval
        self._within = within
        self._before = before
        """What is to be done before the transport is used."""
        self._quiet_until = 0.0
        """The moment before which nothing is published, because the transport did not answer."""
        self._recover = True
        self._closed = False
        self._failing = False
        self._trouble: DriverError | None = None
        self.start_over()
        restart_in_children(self)

    def start_over(self) -> None:
        """Know of no publication and no waiting claim: those of a forked child's parent are the parent's."""
        self._lock = threading.Lock()
        self._published: list[tuple[str, float]] = []
        """What is to be noted: a job, and when its publication began."""
        self._noted_at = self._idle_since = self._clock.monotonic()
        self._wakeup = Wakeup()
        self._thread: threading.Thread | None = None
        self._waiting = 0

    # ------------------------------------------------------------------------------------------------ publishing

    def publish(self, messages: Sequence[Message], *, patience: Patience | None = None) -> bool:
        """Hand jobs that the store has accepted to the transport; whatever fails here, the outbox names them again.

        Blocks for the transport's time limit at most, and not at all for a moment after it did not answer. Returns whether all are
        on the transport.
        """
        if self._quiet:
            return False
        limits = self._transport.limits
        for piece in chunks([ticket(message, priorities=limits.priorities) for message in messages], limits.batch):
            began = self._clock.monotonic()
            try:
                self._before()
                self._transport.send(piece, patience=patience)
            except PartialSend as error:
                self._remember(error.accepted, began)
                self._failed(error)
                return False
            except (
                DriverError,
                DispatchTimeout,
                DispatchCancelled,
            ) as error:  # the job is accepted, whoever gives up here
                if isinstance(error, DriverUnavailable | AmbiguousSend):
                    self._be_quiet(began)
                self._failed(error)
                return False
            self._remember([message.id for message in piece], began)
        self._failing = False
        self._note(at_least=NOTED)
        return True

    def _remember(self, ids: Sequence[str], began: float) -> None:
        with self._lock:
            self._published.extend((id, began) for id in ids)

    @property
    def _quiet(self) -> bool:
        return self._clock.monotonic() < self._quiet_until

    def _be_quiet(self, began: float) -> None:
        now = self._clock.monotonic()
        self._quiet_until = now + min(QUIET, now - began)

    def _failed(self, error: Exception) -> None:
        """Say once that publishing fails; the jobs are stored, so nothing is lost by it."""
        if not self._failing:
            _log.warning("publishing fails, accepted jobs wait in the store until the transport answers: %s", error)
        self._failing = True

    def _note(self, *, at_least: int) -> None:
        """Tell the store what was published, in batches."""
        with self._lock:
            late = self._clock.monotonic() - self._noted_at >= self._within / 5
            if len(self._published) < at_least and not late:
                return
            noted, self._published = self._published, []
            now = self._noted_at = self._clock.monotonic()
        if not noted:
            return
        ids, ages = [id for id, _ in noted], [now - began for _, began in noted]
        try:
            self._store.published(ids, ages=ages, publish_within=self._within, again_after=AGAIN)
        except DriverError as error:  # they will be published once more, and lent once
            _log.warning("%d published jobs were not noted as such: %s", len(ids), error)

    # -------------------------------------------------------------------------------------------------- sweeping

    def soon(self) -> None:
        """Look into the outbox at the next opportunity: something may have become ready."""
        self._wakeup.set()

    def turn(self, *, recover: bool = True) -> None:
        """Look into the outbox, and publish one batch of it: who waits for this waits for no more.

        Raises `DriverUnavailable` when the store does not answer.
        """
        self._note(at_least=1)
        if self._quiet:
            return
        due = self._store.outbox(limit=BATCH, again_after=self._within, recover=recover)
        if due and self.publish(due) and len(due) == BATCH:
            self.soon()

    @property
    def sweeps(self) -> bool:
        """Whether the thread is at work: a claim has waited in this process a moment ago."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @contextmanager
    def awake(self, *, recover: bool) -> Iterator[None]:
        """Sweep from a thread of its own while a claim waits on the transport; the thread outlives it a little."""
        self._recover = recover
        with self._lock:
            self._waiting += 1
            if not self.sweeps and not self._closed:
                self._thread = threading.Thread(target=self._run, name="queuekit-relay", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._idle_since = self._clock.monotonic()

    def _run(self) -> None:
        while self._needed():
            self._wakeup.clear()
            try:
                self.turn(recover=self._recover)
            except DriverError as error:
                self._failed(error)
                self._trouble = error
            self._clock.wait(self._wakeup, self._interval)

    def raise_trouble(self) -> None:
        """Raise what the store answered to the thread since somebody asked; who waits for the transport alone never learns of it."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def _needed(self) -> bool:
        """Whether the thread goes on; when not, the next claim that waits starts another."""
        with self._lock:
            idle = not self._waiting and self._clock.monotonic() - self._idle_since >= IDLE
            if self._closed or idle:
                self._thread = None
                return False
            return True

    def close(self) -> None:
        """End the thread and note what is not noted yet. Blocks for a round trip at most. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wakeup.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)
        self._note(at_least=1)
