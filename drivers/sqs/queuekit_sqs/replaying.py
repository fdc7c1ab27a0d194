"""Sends dead letters anew."""

from __future__ import annotations

import time

import msgspec

from queuekit.contract import Message
from queuekit_sqs.lent import Lent, lent_of
from queuekit_sqs.queues import Queues
from queuekit_sqs.sending import BATCH, Sender
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import Settings
from queuekit_sqs.wire import ATTRIBUTE, Parcel, parcel_of

__all__ = ["replay"]

LEASE = 60
"""Seconds that one batch may take; afterwards the letters are where they were."""


def replay(
    service: Service, queues: Queues, sender: Sender, settings: Settings, queue: str, *, limit: int
) -> list[str]:
    """Move up to `limit` dead letters back to their queue, batch by batch; return their jobs' ids."""
    replayed: list[str] = []
    try:
        if queues.letters(queue) is None:
            return replayed
        while len(replayed) < limit and (letters := _receive(service, queues, queue, limit - len(replayed))):
            sender.send([_revived(letter, settings) for letter in letters]).raise_failures()
            _delete(service, queues, queue, letters)
            replayed += [letter.label.id for letter in letters]
    except RequestError as error:
        raise error.meaning from error
    return replayed


def _receive(service: Service, queues: Queues, queue: str, most: int) -> list[Lent]:
    answer = service.call(
        "receive_message",
        doing=f"receiving dead letters of {queue}",
        QueueUrl=queues.url(queue, dead=True),
        MaxNumberOfMessages=min(BATCH, most),
        WaitTimeSeconds=1,  # a short poll may miss what is there
        VisibilityTimeout=LEASE,
        MessageAttributeNames=[ATTRIBUTE],
    )
    return [lent_of(message, queue, began=0.0, ends=LEASE, now=0.0) for message in answer.get("Messages", ())]


def _revived(letter: Lent, settings: Settings) -> Parcel:
    label = msgspec.structs.replace(
        letter.label,
        base=0,
        generation=letter.label.generation + 1,
        sends=letter.label.sends + 1,
        reason=None,
        state=None,
        error=None,
        recovered=False,
    )
    stored: Message = msgspec.structs.replace(letter.message, body=letter.body)
    return parcel_of(stored, label, delay=0.0, now=time.time(), settings=settings)


def _delete(service: Service, queues: Queues, queue: str, letters: list[Lent]) -> None:
    entries = [{"Id": str(number), "ReceiptHandle": letter.handle} for number, letter in enumerate(letters)]
    url = queues.url(queue, dead=True)
    service.call("delete_message_batch", doing="deleting dead letters", QueueUrl=url, Entries=entries)
