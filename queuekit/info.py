"""What the API shows of a job: the backend's record, with payload and result decoded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from queuekit.codec import BASE64, Codec, decode_bytes
from queuekit.contract import Failure, Record, State
from queuekit.envelope import Undecodable, UnknownVersion, decode

__all__ = ["JobInfo", "JobPage"]


class JobInfo(Struct, frozen=True, kw_only=True):
    """One job at one instant. Instants are aware datetimes."""

    id: str
    type: str
    queue: str
    state: State
    reason: str | None
    """Why it failed or was cancelled: error, timeout, worker_lost, deadline, bad_payload, …"""
    payload: Any
    """As plain values; the raw body as text when it cannot be decoded, or what the queue's `redact` made of it."""
    attempt: int
    generation: int
    priority: int
    key: str | None
    tags: tuple[str, ...]
    progress: float | None
    step: str | None
    errors: tuple[Failure, ...]
    result: Any
    result_error: str | None
    cancel_requested: bool
    accepted_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    headers: dict[str, str]


class JobPage(list[JobInfo]):
    """One page of jobs; hand `next` in as `after=` for the following one, None on the last."""

    next: str | None = None


def job_info(record: Record, codecs: dict[str, Codec], redact: Callable[[str, Any], Any] | None = None) -> JobInfo:
    """Build the public view of a record."""
    payload, headers = _payload(record, codecs)
    return JobInfo(
        id=record.id,
        type=record.type,
        queue=record.queue,
        state=record.state,
        reason=record.reason,
        payload=payload if redact is None else redact(record.type, payload),
        attempt=record.attempt,
        generation=record.generation,
        priority=record.priority,
        key=record.key,
        tags=record.tags,
        progress=record.progress,
        step=record.step,
        errors=record.errors,
        result=None if record.result is None else msgspec.json.decode(record.result),
        result_error=record.result_error,
        cancel_requested=record.cancel_requested,
        accepted_at=datetime.fromtimestamp(record.accepted_at, UTC),
        due_at=_instant(record.due_at),
        started_at=_instant(record.started_at),
        finished_at=_instant(record.finished_at),
        headers=headers,
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _payload(record: Record, codecs: dict[str, Codec]) -> tuple[Any, dict[str, str]]:
    try:
        envelope = decode(record.body)
        if envelope.codec is None:
            return msgspec.json.decode(envelope.payload), envelope.headers or {}
        text = msgspec.json.decode(envelope.payload, type=str)
        if envelope.codec == BASE64:
            return decode_bytes(text), envelope.headers or {}
        if envelope.codec in codecs:
            return msgspec.json.decode(codecs[envelope.codec].decode(text)), envelope.headers or {}
    except (Undecodable, UnknownVersion, ValueError, msgspec.MsgspecError):
        return record.body, {}
    return text, envelope.headers or {}
