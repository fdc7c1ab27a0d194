"""Settles: what follows is stored first, then the message itself is deleted, or hidden until its next attempt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from queuekit.contract import (
    Again,
    Clock,
    Dead,
    Delivery,
    Done,
    DriverUnavailable,
    Extension,
    Failure,
    Message,
    Outcome,
    Released,
    Settlement,
)
from queuekit_sqs.errors import LOST, MISSING, code_of, entry_error
from queuekit_sqs.lending import whole_lease
from queuekit_sqs.lent import Lent
from queuekit_sqs.offload import ObjectStore
from queuekit_sqs.queues import Queues
from queuekit_sqs.sending import BATCH, Sender
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import Settings
from queuekit_sqs.threads import Threads
from queuekit_sqs.wire import Label, Parcel, label_of, parcel_of

__all__ = ["Settling"]

Deed: TypeAlias = Literal["delete", "hide"]


class Step(msgspec.Struct, kw_only=True):
    """What is to be done for one outcome."""

    lent: Lent
    sends: list[Parcel]
    letters: list[Parcel]
    deed: Deed
    hide: int = 0
    """Seconds until the message may be received again."""


class Settling:
    """Turns outcomes into requests, ten entries each, those of several queues and kinds at the same time."""

    def __init__(
        self,
        service: Service,
        queues: Queues,
        sender: Sender,
        settings: Settings,
        clock: Clock,
        *,
        threads: Threads,
        store: ObjectStore | None,
        pack: Callable[[Message, Label, float], Parcel],
    ) -> None:
        self._service = service
        self._queues = queues
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._threads = threads
        self._store = store
        self._pack = pack

    # ---------------------------------------------------------------------------------------------------- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Settle; see the contract."""
        answers = [self._known(outcome.delivery.receipt) for outcome in outcomes]
        steps: dict[int, Step] = {}
        for place, outcome in enumerate(outcomes):
            lent: Lent = outcome.delivery.receipt
            if answers[place] == "applied" and not any(step.lent is lent for step in steps.values()):
                steps[place] = self._step(outcome, lent)
            elif answers[place] == "applied":
                answers[place] = "already_settled"
        self._store_what_follows(list(steps.values()))
        for place, held in zip(steps, self._carry_out(list(steps.values())), strict=True):
            steps[place].lent.settled = True
            if not held:
                answers[place] = "lost"
        self._forget_payloads([step for place, step in steps.items() if answers[place] == "applied"])
        return answers

    def _known(self, lent: Lent) -> Settlement:
        """Tell what is certain without asking: a lease that is over is not settled, somebody else may hold the message."""
        if lent.settled:
            return "already_settled"
        return "lost" if lent.ends <= self._clock.monotonic() else "applied"

    def _step(self, outcome: Outcome, lent: Lent) -> Step:
        follow_ups = [
            self._pack(message, label_of(message), delay_of(message, self._clock)) for message in outcome.follow_ups
        ]
        step = Step(lent=lent, sends=follow_ups, letters=[], deed="delete")
        match outcome:
            case Done():
                pass
            case Again():
                self._again(step, outcome)
            case Released():
                self._released(step, outcome)
            case Dead():
                step.letters = [] if lent.label.retain == 0 else [self._letter(outcome, lent)]
        return step

    def _again(self, step: Step, outcome: Again) -> None:
        """Hide the message until its next attempt; a changed body or a longer wait takes a message of its own."""
        hide = math.ceil(outcome.delay)
        if outcome.successor is None and self._clock.monotonic() + hide < step.lent.last:
            step.deed, step.hide = "hide", hide
            return
        step.sends.append(self._successor(outcome, step.lent, base=step.lent.attempt))

    def _released(self, step: Step, outcome: Released) -> None:
        """Send it anew with the hand-out refunded; with a key, its place in the order counts for more than that."""
        hide = math.ceil(outcome.delay)
        keyed = step.lent.label.key is not None or step.lent.label.due is not None
        if (
            self._settings.fifo
            and keyed
            and outcome.successor is None
            and self._clock.monotonic() + hide < step.lent.last
        ):
            step.deed, step.hide = "hide", hide
            return
        step.sends.append(self._successor(outcome, step.lent, base=step.lent.attempt - 1))

    def _successor(self, outcome: Again | Released, lent: Lent, *, base: int) -> Parcel:
        label = msgspec.structs.replace(
            lent.label,
            base=base,
            sends=lent.label.sends + 1,
            recovered=lent.recovered if isinstance(outcome, Released) else False,
        )
        return self._repack(outcome.successor, lent, label, outcome.delay)

    def _repack(self, changed: Message | None, lent: Lent, label: Label, delay: float) -> Parcel:
        """Write a message once more; one that is elsewhere stays there unless its body has changed."""
        if changed is not None and changed.body != lent.message.body:
            return self._pack(changed, msgspec.structs.replace(label, form=""), delay)
        stored = msgspec.structs.replace(lent.message, body=lent.body)
        return parcel_of(stored, label, delay=delay, now=self._clock.time(), settings=self._settings)

    def _letter(self, outcome: Dead, lent: Lent) -> Parcel:
        """Write the dead letter: the body as it is, and why it ended."""
        label = msgspec.structs.replace(
            lent.label,
            base=lent.attempt,
            sends=lent.label.sends + 1,
            due=None,
            reason=outcome.reason,
            state=outcome.state,
            error=None if outcome.error is None else _short(outcome.error),
        )
        return self._repack(None, lent, label, 0.0)

    def _store_what_follows(self, steps: Sequence[Step]) -> None:
        """Send follow-ups, successors and dead letters; raises when one is not stored, and then nothing is settled."""
        waiting = [step for step in steps if not step.lent.sent]
        for dead in (False, True):
            parcels = [parcel for step in waiting for parcel in (step.letters if dead else step.sends)]
            if parcels:
                self._sender.send(parcels, dead=dead).raise_failures()
        for step in waiting:
            # What had nothing to send may have it when it is tried again: a wait that has become too long.
            step.lent.sent = bool(step.sends or step.letters)

    def _carry_out(self, steps: Sequence[Step]) -> list[bool]:
        """Delete or hide the messages; per step whether its lease still held."""
        held: dict[int, bool] = {}
        for step in steps:
            step.lent.tried = True
        for deed in ("delete", "hide"):
            mine = [step for step in steps if step.deed == deed]
            entries = [({"VisibilityTimeout": step.hide} if deed == "hide" else {}) for step in mine]
            operation = "change_message_visibility_batch" if deed == "hide" else "delete_message_batch"
            for step, is_held in zip(mine, self._each(operation, [s.lent for s in mine], entries), strict=True):
                held[id(step)] = is_held
        return [held[id(step)] for step in steps]

    def _forget_payloads(self, steps: Sequence[Step]) -> None:
        """Remove payloads that nothing refers to any more: after the message, so that a crash leaves too much."""
        if self._store is None:
            return
        for step in steps:
            kept = {parcel.body for parcel in (*step.sends, *step.letters) if parcel.label.form == "elsewhere"}
            if step.deed == "delete" and step.lent.label.form == "elsewhere" and step.lent.body not in kept:
                self._store.delete(step.lent.body)

    # ---------------------------------------------------------------------------------------------------- extending

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[Extension]:
        """Renew leases; see the contract."""
        return [Extension(held) for held in self.renew([d.receipt for d in deliveries], lease)]

    def renew(self, lents: Sequence[Lent], lease: float) -> list[bool]:
        """Hide messages for longer, at most 12 hours from their receipt; per message whether its lease held.

        One that is gone after its settlement was tried may be gone by that: it keeps the lease that it had, for the next try.
        """
        now = self._clock.monotonic()
        alive = [lent for lent in lents if not lent.settled and lent.ends > now and lent.last > now + 1]
        seconds = [min(whole_lease(lease), int(lent.last - now)) for lent in alive]
        entries = [{"VisibilityTimeout": count} for count in seconds]
        held = {}
        for lent, count, is_held in zip(
            alive, seconds, self._each("change_message_visibility_batch", alive, entries), strict=True
        ):
            held[id(lent)] = is_held
            if is_held or not lent.tried:
                lent.ends = now + count if is_held else 0.0
        return [held.get(id(lent), False) for lent in lents]

    # ---------------------------------------------------------------------------------------------------- requests

    def _each(self, operation: str, lents: Sequence[Lent], entries: Sequence[dict[str, Any]]) -> list[bool]:
        """Do one thing to many messages, ten a request; per message whether the lease held. Repeating it is harmless."""
        groups: dict[str, list[int]] = {}
        for place, lent in enumerate(lents):
            groups.setdefault(lent.queue, []).append(place)
        chunks = [
            (queue, places[start : start + BATCH])
            for queue, places in groups.items()
            for start in range(0, len(places), BATCH)
        ]
        calls = [
            lambda queue=queue, places=places: self._request(
                operation, queue, [{"ReceiptHandle": lents[p].handle, **entries[p]} for p in places]
            )
            for queue, places in chunks
        ]
        held = [True] * len(lents)
        for (_, places), answer in zip(chunks, self._threads.all(calls), strict=True):
            if isinstance(answer, BaseException):
                raise answer
            for place, is_held in zip(places, answer, strict=True):
                held[place] = is_held
        return held

    def _request(self, operation: str, queue: str, entries: list[dict[str, Any]]) -> list[bool]:
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        doing = operation.replace("_", " ")
        try:
            answer = self._service.call(operation, doing=doing, QueueUrl=self._queues.url(queue), Entries=numbered)
        except RequestError as error:
            if code_of(error.__cause__ or error) in MISSING:
                self._queues.forget(queue)  # and its messages are gone with it
                return [False] * len(entries)
            raise error.meaning from error
        held = [True] * len(entries)
        for entry in answer.get("Failed", ()):
            if entry.get("Code") not in LOST:
                raise DriverUnavailable(str(entry_error(entry, doing=doing)))
            held[int(entry["Id"])] = False
        return held


def delay_of(message: Message, clock: Clock) -> float:
    """Return the seconds until a message is due."""
    at = 0.0 if message.at is None else message.at - clock.time()
    return max(message.delay, at, 0.0)


def _short(error: Failure) -> Failure:
    """Return an error small enough for an attribute: the record's long texts belong to a store."""
    return msgspec.structs.replace(error, message=error.message[:500], traceback=error.traceback[-1000:])
