"""What the broker and the driver's options say about the promises."""

from __future__ import annotations

from queuekit.contract import Finding
from queuekit_rabbitmq.settings import Settings

__all__ = ["diagnose"]

PROMPT = 20
"""Seconds of heartbeat up to which a dead worker's jobs run again within 45 s: two beats are missed before it is taken for dead."""
MANY = 25
"""Deliveries that jobs with default retries may need: 21 attempts and a few that were prefetched by a worker that died."""
WRITTEN = 1.0
"""Seconds within which RabbitMQ writes that a quorum queue exists."""


def diagnose(settings: Settings, version: str, blocked: str | None) -> list[Finding]:
    """Return the findings; reads nothing but what the broker has told already."""
    return [
        Finding(level="ok", setting="version", value=version, promise=""),
        _alarm(blocked),
        _queue_type(settings),
        _delivery_limit(settings),
        _new_queue_wait(settings),
        _heartbeat(settings),
        _consumer_timeout(settings),
        _encryption(settings),
    ]


def _alarm(blocked: str | None) -> Finding:
    if blocked is None:
        return Finding(level="ok", setting="alarm", value="none", promise="The broker takes messages.")
    return Finding(
        level="error",
        setting="alarm",
        value=blocked,
        promise="The broker takes no messages: dispatching ends in DispatchTimeout, and retries wait with their jobs lent.",
        remedy="rabbitmq-diagnostics alarms; then free memory or disk space",
    )


def _queue_type(settings: Settings) -> Finding:
    if settings.queue_type == "quorum":
        promise = "Jobs are replicated, and every hand-out is counted, also those that end with a crash."
        return Finding(level="ok", setting="queue_type", value="quorum", promise=promise)
    return Finding(
        level="warning",
        setting="queue_type",
        value="classic",
        promise="A job lives on one node, and a crash of its worker is counted once at most: a job that kills its worker does so for ever.",
        remedy="queue_type=quorum for new queues, or pair the driver with a store",
    )


def _delivery_limit(settings: Settings) -> Finding:
    value = str(settings.delivery_limit)
    if settings.delivery_limit >= MANY or settings.queue_type == "classic":
        return Finding(level="ok", setting="delivery_limit", value=value, promise="A job ends by its own retries.")
    return Finding(
        level="warning",
        setting="delivery_limit",
        value=value,
        promise="The broker sets a job aside after so many crashes of its worker, whatever retries it has left: no event, no reason.",
        remedy="delivery_limit=100",
    )


def _new_queue_wait(settings: Settings) -> Finding:
    value = f"{settings.new_queue_wait:g} s"
    if settings.new_queue_wait >= WRITTEN:
        promise = "What is sent to a queue that was just made outlives the death of its node too."
        return Finding(level="ok", setting="new_queue_wait", value=value, promise=promise)
    return Finding(
        level="warning",
        setting="new_queue_wait",
        value=value,
        promise="A single node that is killed within a second of making a queue may start it empty: what it had confirmed is lost.",
        remedy="new_queue_wait=1.25",
    )


def _heartbeat(settings: Settings) -> Finding:
    value = f"{settings.heartbeat} s"
    if settings.heartbeat <= PROMPT:
        promise = "The jobs of a worker whose machine vanished run again within 45 s; of one that was killed, at once."
        return Finding(level="ok", setting="heartbeat", value=value, promise=promise)
    return Finding(
        level="warning",
        setting="heartbeat",
        value=value,
        promise=f"The jobs of a worker whose machine vanished run again after {2 * settings.heartbeat} s or more.",
        remedy="heartbeat=15",
    )


def _consumer_timeout(settings: Settings) -> Finding:
    return Finding(
        level="note",
        setting="consumer_timeout",
        value=f"{settings.consumer_timeout:g} s",
        promise="What the driver was told. If the broker's own is shorter, a longer handler costs its worker every job that it holds.",
        remedy="compare with: rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).' (milliseconds)",
    )


def _encryption(settings: Settings) -> Finding:
    if settings.tls:
        return Finding(level="ok", setting="tls", value="on", promise="Payloads and password are encrypted on the way.")
    return Finding(
        level="note",
        setting="tls",
        value="off",
        promise="Payloads and password travel as they are.",
        remedy="amqps:// with port 5671, and cafile= where the certificate is your own",
    )
