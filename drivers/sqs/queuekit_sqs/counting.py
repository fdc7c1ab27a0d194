"""How many messages the service believes to have."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.contract import QueueCounts
from queuekit_sqs.queues import Queues
from queuekit_sqs.service import RequestError, Service

__all__ = ["count"]

READY = "ApproximateNumberOfMessages"
DELAYED = "ApproximateNumberOfMessagesDelayed"
HIDDEN = "ApproximateNumberOfMessagesNotVisible"


def count(service: Service, queues: Queues, names: Sequence[str] | None) -> list[QueueCounts]:
    """Ask for the figures of each queue and of its dead letters, two requests a queue; without `names` of all that have any."""
    try:
        if names is not None:
            return [_count_one(service, queues, name) for name in sorted(names)]
        return [counts for name in queues.all() if _has_any(counts := _count_one(service, queues, name))]
    except RequestError as error:
        raise error.meaning from error


def _count_one(service: Service, queues: Queues, queue: str) -> QueueCounts:
    figures = _figures(service, queues.url(queue))
    letters = queues.letters(queue)
    dead = {} if letters is None else _figures(service, letters)
    return QueueCounts(
        queue=queue,
        pending=figures[READY],
        scheduled=figures[DELAYED],
        running=figures[HIDDEN],
        failed=sum(dead.values()),
    )


def _has_any(counts: QueueCounts) -> bool:
    return bool(counts.pending or counts.scheduled or counts.running or counts.failed)


def _figures(service: Service, url: str) -> dict[str, int]:
    answer = service.call(
        "get_queue_attributes", doing="counting", QueueUrl=url, AttributeNames=[READY, DELAYED, HIDDEN]
    )
    return {name: int(answer.get("Attributes", {}).get(name, 0)) for name in (READY, DELAYED, HIDDEN)}
