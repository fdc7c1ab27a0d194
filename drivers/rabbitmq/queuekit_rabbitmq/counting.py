"""How many jobs there are: what is ready and what waits shows in the queues, what is lent is asked of those who hold it."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from queuekit.contract import DriverRejected, QueueCounts
from queuekit_rabbitmq.broker import Broker
from queuekit_rabbitmq.topology import Names

__all__ = ["count"]


def count(broker: Broker, names: Names, queues: Sequence[str], *, told: AbstractSet[str]) -> list[QueueCounts]:
    """Count the jobs of these queues; `told` are those of whose new lanes the driver hears by itself."""
    depths = _depths(broker, names, queues, told)
    running, silent = broker.running()
    if not running and not any(counts.pending for counts in depths):
        depths = _depths(broker, names, queues, told)  # what ended between the two looks may have left something
    if queues:
        running[queues[0]] += silent
    return [msgspec.structs.replace(counts, running=running[counts.queue]) for counts in depths]


def _depths(broker: Broker, names: Names, queues: Sequence[str], told: AbstractSet[str]) -> list[QueueCounts]:
    """Count what is ready and what waits; makes again what was deleted."""
    try:
        return _depth(broker, names, queues, told)
    except DriverRejected:
        for queue in queues:
            broker.forget(queue)
        return _depth(broker, names, queues, told)


def _depth(broker: Broker, names: Names, queues: Sequence[str], told: AbstractSet[str]) -> list[QueueCounts]:
    broker.look_for_lanes([queue for queue in queues if queue not in told or not broker.lanes(queue)])
    lanes = {queue: [names.lane(queue, lane) for lane in broker.lanes(queue)] for queue in queues}
    steps = {queue: broker.steps(queue) for queue in queues}
    depths = broker.depths([name for queue in queues for name in (*lanes[queue], *steps[queue], names.dead(queue))])
    return [
        QueueCounts(
            queue=queue,
            pending=sum(depths[name] for name in lanes[queue]),
            scheduled=sum(depths[name] for name in steps[queue]),
            failed=depths[names.dead(queue)],
        )
        for queue in queues
    ]
