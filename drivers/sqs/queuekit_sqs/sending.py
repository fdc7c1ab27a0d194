"""Sends messages in batches of ten: what one caller hands over together, and what several callers send at once."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerYet
from typing import Any

import msgspec

from queuekit.contract import AmbiguousSend, DispatchCancelled, DispatchTimeout, PartialSend, Patience
from queuekit_sqs.errors import MISSING, code_of, entry_error
from queuekit_sqs.queues import Queues
from queuekit_sqs.service import FIRST_PAUSE, LONGEST_PAUSE, RequestError, Service
from queuekit_sqs.settings import Settings
from queuekit_sqs.threads import Threads
from queuekit_sqs.wire import Parcel

__all__ = ["BATCH", "Posted", "Sender", "batches"]

_log = logging.getLogger("queuekit.sqs")
BATCH = 10
"""Entries of one request."""
RIDING = 0.8
"""Part of a caller's time in which throttling is ridden out."""
LOOK = 0.02
"""Seconds between looks whether a caller still wants what has not left yet."""


class Posted(msgspec.Struct):
    """What became of messages, by id."""

    accepted: list[str] = []
    failed: dict[str, Exception] = {}
    unknown: dict[str, Exception] = {}

    def add(self, other: Posted) -> None:
        """Take in another answer."""
        self.accepted += other.accepted
        self.failed |= other.failed
        self.unknown |= other.unknown

    def raise_failures(self) -> None:
        """Say in the contract's words what was not accepted; returns when everything was."""
        errors = [*self.failed.values(), *self.unknown.values()]
        if not errors:
            return
        if self.accepted or (self.failed and self.unknown) or (len(self.failed) > 1 and not _all_alike(errors)):
            text = f"{len(self.accepted)} messages accepted, {len(self.failed)} not, {len(self.unknown)} unknown: {errors[0]}"
            raise PartialSend(text, accepted=self.accepted, failed=self.failed, unknown=self.unknown) from errors[0]
        if self.unknown:
            raise AmbiguousSend(f"no answer came to a send of {len(self.unknown)} messages: {errors[0]}") from errors[0]
        raise errors[0]


def _all_alike(errors: Sequence[Exception]) -> bool:
    return len({type(error) for error in errors}) == 1


def batches(parcels: Iterable[Parcel], most: int) -> list[list[Parcel]]:
    """Cut one queue's messages into batches: ten at most, and no more bytes together than a request may have."""
    made: list[list[Parcel]] = []
    size = most
    for parcel in parcels:
        if size + parcel.size > most or len(made[-1]) == BATCH:
            made.append([])
            size = 0
        made[-1].append(parcel)
        size += parcel.size
    return made


class Item(msgspec.Struct, frozen=True, eq=False):
    """One message that waits for the next request."""

    parcel: Parcel
    future: Future[Posted]
    patience: float
    """Seconds for which its sender rides out throttling."""


class Sender:
    """Sends parcels; a batch is repeated only where the service turned it away."""

    def __init__(self, service: Service, queues: Queues, threads: Threads, settings: Settings) -> None:
        self._service = service
        self._queues = queues
        self._threads = threads
        self._settings = settings
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Item]] = {}
        self._flushing: dict[str, int] = {}

    def send(self, parcels: Sequence[Parcel], patience: Patience | None = None, *, dead: bool = False) -> Posted:
        """Send; blocks until every batch is answered, or `patience` ends."""
        if patience is not None:
            patience.check()
        if len(parcels) == 1 and not dead:
            return self._together(parcels[0], patience)
        posted = Posted()
        lanes = self._lanes(parcels)
        calls = [self._lane_call(lane, dead, patience) for lane in lanes]
        if patience is None:
            for lane, answer in zip(lanes, self._threads.all(calls), strict=True):
                posted.add(_read(lane, answer))
            return posted
        futures = [self._threads.start(call) for call in calls]
        for lane, future in zip(lanes, futures, strict=True):
            posted.add(self._await(lane, future, patience, future.cancel))
        return posted

    def _lanes(self, parcels: Sequence[Parcel]) -> list[list[list[Parcel]]]:
        """Sort batches into what may travel at the same time: on FIFO a queue's batches go one after the other."""
        by_queue: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            by_queue.setdefault(parcel.queue, []).append(parcel)
        cut = [batches(group, self._settings.message_bytes) for group in by_queue.values()]
        return cut if self._settings.fifo else [[batch] for lane in cut for batch in lane]

    def _lane_call(self, lane: list[list[Parcel]], dead: bool, patience: Patience | None) -> Callable[[], Posted]:
        riding = self._riding(patience)
        return lambda: self._post_lane(lane, dead, riding)

    def _post_lane(self, lane: list[list[Parcel]], dead: bool, patience: float) -> Posted:
        """Send batches in order; after a failure on FIFO nothing of that group is sent: order comes first."""
        posted = Posted()
        for batch in lane:
            blocked = {parcel.group for parcel in _of(lane, {**posted.failed, **posted.unknown}) if parcel.group}
            open_ = [parcel for parcel in batch if parcel.group is None or parcel.group not in blocked]
            for parcel in batch:
                if parcel not in open_:
                    posted.failed[parcel.id] = next(iter({**posted.failed, **posted.unknown}.values()))
            if open_:
                posted.add(self._post(open_, dead=dead, patience=patience))
        return posted

    # ----------------------------------------------------------------------------------------------- one request

    def _post(self, batch: list[Parcel], *, dead: bool = False, patience: float) -> Posted:
        """Send one batch; entries that the service turned away are sent again, alone, while there is time."""
        posted = Posted()
        end = time.monotonic() + patience
        pause = FIRST_PAUSE
        while batch:
            left = max(0.0, end - time.monotonic())
            answer = self._request(batch, dead=dead, patience=left)
            if isinstance(answer, Posted):
                posted.add(answer)
                break
            again, failed = self._sorted(batch, answer)
            posted.accepted += [parcel.id for parcel in batch if parcel.id not in failed]
            if left <= 0:
                again = []
            repeated = {parcel.id for parcel in again}
            posted.failed |= {id: error for id, error in failed.items() if id not in repeated}
            batch = again
            if batch:
                time.sleep(min(left, pause * random.uniform(1, 1.5)))  # noqa: S311 - jitter
                pause = min(pause * 2, LONGEST_PAUSE)
        return posted

    def _request(self, batch: list[Parcel], *, dead: bool, patience: float) -> Posted | list[dict[str, Any]]:
        """Return the entries that failed; or what is known when the whole request did."""
        queue = batch[0].queue
        entries = [parcel.entry(number) for number, parcel in enumerate(batch)]
        for last in (False, True):
            try:
                url = self._queues.url(queue, dead=dead)
                answer = self._service.call(
                    "send_message_batch", doing="sending", patience=patience, QueueUrl=url, Entries=entries
                )
            except RequestError as error:
                if not last and code_of(error.__cause__ or error) in MISSING:
                    self._queues.forget(queue)  # provably not applied; the next try finds it anew, or makes it
                    continue
                failures: dict[str, Exception] = dict.fromkeys((parcel.id for parcel in batch), error.meaning)
                return Posted(unknown=failures) if error.fate == "unknown" else Posted(failed=failures)
            else:
                return list(answer.get("Failed", ()))
        raise AssertionError  # pragma: no cover - the second round returns

    def _sorted(self, batch: list[Parcel], failed: list[dict[str, Any]]) -> tuple[list[Parcel], dict[str, Exception]]:
        """Return what may be sent again, and every failure by id.

        On FIFO an entry is not repeated when a later one of its group was accepted: it would come after that.
        """
        errors: dict[int, Exception] = {int(entry["Id"]): entry_error(entry, doing="sending") for entry in failed}
        again: list[Parcel] = []
        for number, error in errors.items():
            group = batch[number].group
            overtaken = group is not None and any(
                later.group == group and place not in errors for place, later in enumerate(batch) if place > number
            )
            if getattr(error, "retryable", False) and not overtaken:
                again.append(batch[number])
        return again, {batch[number].id: error for number, error in errors.items()}

    # ------------------------------------------------------------------------------------- callers that come together

    def _together(self, parcel: Parcel, patience: Patience | None) -> Posted:
        """Send one message, in one request with others that are sent at this time.

        The first goes at once; who comes while that request is under way goes with the next one. So the linger is
        the round trip itself, and a lone caller never waits.
        """
        future: Future[Posted] = Future()
        item = Item(parcel, future, self._riding(patience))
        with self._lock:
            self._waiting.setdefault(parcel.queue, deque()).append(item)
            needed = self._needs_another(parcel.queue)
        if needed:
            self._threads.start(lambda: self._flush(parcel.queue))
        if patience is None:
            return future.result()
        return self._await([[parcel]], future, patience, lambda: self._withdraw(parcel.queue, item))

    def _needs_another(self, queue: str) -> bool:
        """Whether the threads that send to a queue are too few for what waits; on FIFO there is one at most. The lock is held."""
        flushing = self._flushing.get(queue, 0)
        return not flushing or (len(self._waiting[queue]) > BATCH * flushing and not self._settings.fifo)

    def _riding(self, patience: Patience | None) -> float:
        """Return how long throttling may be ridden out: it must be over before the caller stops listening."""
        left = None if patience is None else patience.remaining()
        return self._settings.patience if left is None else left * RIDING

    def _withdraw(self, queue: str, item: Item) -> bool:
        with self._lock:
            try:
                self._waiting[queue].remove(item)
            except ValueError:
                return False
            return True

    def _flush(self, queue: str) -> None:
        """Send what waits, batch by batch, until nothing does.

        On a thread of the driver's own: a caller's may be interrupted at any step (Ctrl-C, a handler's timeout), and others wait for this.
        """
        with self._lock:
            if not self._needs_another(queue):
                return
            self._flushing[queue] = self._flushing.get(queue, 0) + 1
        while items := self._next(queue):
            try:
                self._post_together(items)
            except Exception:
                _log.exception("a request was not sent, or its answer not read; its senders are told that nobody knows")

    def _post_together(self, items: Sequence[Item]) -> None:
        """Send messages in one request; each sender hears what became of its own."""
        lost = AmbiguousSend("the request failed before its answer was read")
        answer = Posted(unknown={item.parcel.id: lost for item in items})
        try:
            answer = self._post([i.parcel for i in items], patience=min(i.patience for i in items))
        finally:
            for item in items:
                item.future.set_result(_only(answer, item.parcel.id))

    def _next(self, queue: str) -> list[Item]:
        with self._lock:
            waiting = self._waiting[queue]
            first = batches((item.parcel for item in list(waiting)[:BATCH]), self._settings.message_bytes)
            items = [waiting.popleft() for _ in (first[0] if first else ())]
            if not items:
                self._flushing[queue] -= 1
            return items

    def _await(
        self,
        lane: list[list[Parcel]],
        future: Future[Posted],
        patience: Patience,
        withdraw: Callable[[], bool],
    ) -> Posted:
        """Wait for an answer as long as the caller wants it; what has not left is withdrawn, the rest is unknown."""
        while True:
            left = patience.remaining()
            try:
                return _read(lane, future.result(LOOK if left is None else min(LOOK, left)))
            except NoAnswerYet:
                try:
                    patience.check()
                except (DispatchTimeout, DispatchCancelled) as error:
                    if withdraw():
                        return _read(lane, error)
                    if isinstance(error, DispatchTimeout):
                        late = AmbiguousSend("the request left and no answer came in time")
                        return Posted(unknown={parcel.id: late for batch in lane for parcel in batch})
            except Exception as error:
                return _read(lane, error)


def _of(lane: list[list[Parcel]], ids: dict[str, Exception]) -> list[Parcel]:
    return [parcel for batch in lane for parcel in batch if parcel.id in ids]


def _only(answer: Posted, id: str) -> Posted:
    """Return what an answer says of one message."""
    if id in answer.failed:
        return Posted(failed={id: answer.failed[id]})
    if id in answer.unknown:
        return Posted(unknown={id: answer.unknown[id]})
    return Posted(accepted=[id])


def _read(lane: list[list[Parcel]], answer: Posted | BaseException) -> Posted:
    """Return the answer to a lane; an error is the answer to each of its messages."""
    if isinstance(answer, Posted):
        return answer
    if not isinstance(answer, Exception):
        raise answer
    return Posted(failed={parcel.id: answer for batch in lane for parcel in batch})
