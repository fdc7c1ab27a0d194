"""The queue of failed and cancelled jobs, and how they leave it."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.contract import DriverUnavailable, Message
from queuekit_rabbitmq.links import Links, Publishing
from queuekit_rabbitmq.messages import generation_of, message_of, properties_of
from queuekit_rabbitmq.sender import Sender
from queuekit_rabbitmq.session import ANSWER
from queuekit_rabbitmq.source import Held
from queuekit_rabbitmq.topology import NORMAL, lane_of

__all__ = ["replay"]


def replay(links: Links, sender: Sender, queue: str, *, limit: int) -> list[str]:
    """Send up to `limit` dead jobs of a queue anew, each before it is removed from among the dead; return their ids."""
    publishing, lending = links.publishing(), links.lending()
    consumer = lending.consumer
    publishing.broker.need([(queue, NORMAL, 0)])
    dead = consumer.fetch([(queue, links.names.dead(queue))], limit=limit, timeout=ANSWER)
    if not dead:
        return []
    messages = [message_of(queue, held.properties, held.body) for held in dead]
    try:
        accepted = _send_anew(publishing, sender, messages, dead)
    except BaseException:
        lending.session.close()  # or they would be held here, by nobody
        raise
    sent = [dead[index] for index in accepted]
    consumer.acknowledge(sent, timeout=ANSWER)
    if len(sent) < len(dead):
        lending.session.close()  # what was not sent goes back to the dead with the connection
        raise DriverUnavailable(f"{len(sent)} of {len(dead)} dead jobs were sent anew; the others stay where they were")
    return [message.id for message in messages]


def _send_anew(publishing: Publishing, sender: Sender, messages: Sequence[Message], dead: Sequence[Held]) -> list[int]:
    """Publish the successors of dead jobs; return which were accepted."""
    publishing.broker.need((message.queue, lane_of(message.priority), 0) for message in messages)
    parcels = [
        (
            *publishing.broker.address(message.queue, lane_of(message.priority), 0),
            message.id,
            properties_of(message, 0, generation_of(held.properties) + 1),
            held.body,
        )
        for message, held in zip(messages, dead, strict=True)
    ]
    return sender.publish(publishing, parcels).accepted
