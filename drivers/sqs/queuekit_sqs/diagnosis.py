"""What the queues' attributes say about the promises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from queuekit.contract import Finding
from queuekit_sqs.queues import Queues
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import LARGEST, Settings

__all__ = ["diagnose"]

DAY = 86_400


def diagnose(service: Service, queues: Queues, settings: Settings) -> list[Finding]:
    """Return all findings about the queues used so far (the default queue when none was); one request a queue."""
    try:
        return [
            finding
            for queue in queues.known or ["default"]
            for finding in _of_queue(_attributes(service, queues.url(queue)), queues.name(queue), settings)
        ]
    except RequestError as error:
        raise error.meaning from error


def _attributes(service: Service, url: str) -> Mapping[str, str]:
    answer = service.call("get_queue_attributes", doing="looking at it", QueueUrl=url, AttributeNames=["All"])
    attributes: Mapping[str, str] = answer.get("Attributes", {})
    return attributes


def _of_queue(attributes: Mapping[str, str], name: str, settings: Settings) -> Iterator[Finding]:
    yield _redrive(attributes, name)
    yield _retention(attributes, name)
    yield _size(attributes, name, settings)
    yield _delay(attributes, name)
    yield _visibility(attributes)
    yield _encryption(attributes)
    yield _kind(attributes, name, settings)


def _set(name: str, attribute: str, value: str) -> str:
    return f"aws sqs set-queue-attributes --queue-url …/{name} --attributes {attribute}={value}"


def _redrive(attributes: Mapping[str, str], name: str) -> Finding:
    policy = attributes.get("RedrivePolicy", "")
    if not policy:
        promise = "A job ends by its own retries, and its dead letter says why."
        return Finding(level="ok", setting="RedrivePolicy", value="none", promise=promise)
    most = json.loads(policy).get("maxReceiveCount", "?")
    return Finding(
        level="warning",
        setting="RedrivePolicy",
        value=f"maxReceiveCount {most}",
        promise="After so many hand-outs SQS itself moves a job away, whatever retries it has left: no event, no reason.",
        remedy=_set(name, "RedrivePolicy", "''"),
    )


def _retention(attributes: Mapping[str, str], name: str) -> Finding:
    seconds = int(attributes.get("MessageRetentionPeriod", 0))
    value = f"{seconds / DAY:g} days"
    if seconds >= 4 * DAY:
        promise = "A job that nobody settles for so long is deleted."
        return Finding(level="ok", setting="MessageRetentionPeriod", value=value, promise=promise)
    return Finding(
        level="warning",
        setting="MessageRetentionPeriod",
        value=value,
        promise="A job that no worker settles for so long is lost: that is less than a long weekend.",
        remedy=_set(name, "MessageRetentionPeriod", "1209600"),
    )


def _size(attributes: Mapping[str, str], name: str, settings: Settings) -> Finding:
    size = int(attributes.get("MaximumMessageSize", LARGEST))
    if size >= settings.message_bytes:
        return Finding(level="ok", setting="MaximumMessageSize", value=f"{size:,}", promise="")
    return Finding(
        level="warning",
        setting="MaximumMessageSize",
        value=f"{size:,}",
        promise=f"Larger payloads are refused by SQS when they are sent, not before; the driver counts on {settings.message_bytes:,} bytes.",
        remedy=_set(name, "MaximumMessageSize", str(settings.message_bytes)),
    )


def _delay(attributes: Mapping[str, str], name: str) -> Finding:
    seconds = int(attributes.get("DelaySeconds", 0))
    if not seconds:
        return Finding(level="ok", setting="DelaySeconds", value="0", promise="")
    return Finding(
        level="warning",
        setting="DelaySeconds",
        value=str(seconds),
        promise="Every job without a delay of its own waits so long.",
        remedy=_set(name, "DelaySeconds", "0"),
    )


def _visibility(attributes: Mapping[str, str]) -> Finding:
    value = f"{attributes.get('VisibilityTimeout', '?')} s"
    promise = "Not used: every receipt names its lease, and workers extend it."
    return Finding(level="ok", setting="VisibilityTimeout", value=value, promise=promise)


def _encryption(attributes: Mapping[str, str]) -> Finding:
    key = attributes.get("KmsMasterKeyId")
    if key is None:
        kind = "SSE-SQS" if attributes.get("SqsManagedSseEnabled") == "true" else "none"
        return Finding(level="ok", setting="encryption", value=kind, promise="")
    return Finding(
        level="note",
        setting="encryption",
        value="KMS",
        promise="Sending and receiving also need kms:GenerateDataKey and kms:Decrypt, and share KMS's quotas.",
    )


def _kind(attributes: Mapping[str, str], name: str, settings: Settings) -> Finding:
    if not settings.fifo:
        promise = "Jobs are delivered at least once and in no order."
        return Finding(level="ok", setting="queue type", value="standard", promise=promise)
    if attributes.get("FifoThroughputLimit") == "perMessageGroupId":
        promise = "Jobs with one key run in order, one at a time."
        return Finding(level="ok", setting="queue type", value="FIFO, high throughput", promise=promise)
    return Finding(
        level="note",
        setting="queue type",
        value="FIFO",
        promise="Jobs with one key run in order; the whole queue takes 300 requests of each kind a second.",
        remedy=_set(name, "FifoThroughputLimit", "perMessageGroupId"),
    )
