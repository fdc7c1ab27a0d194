"""Sending: messages cut into scripts of about a millisecond, all on their way before the first answer is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from queuekit.contract import AmbiguousSend, DriverError, Message, PartialSend, Patience, Receipt
from queuekit_redis import codec
from queuekit_redis.calls import CHUNK, HEAVY, Calls, parts
from queuekit_redis.codec import micros, pack

__all__ = ["Sender"]

CHUNK_BYTES = 4 << 20
"""Characters of bodies in one script."""


class Sender:
    """Stores messages: plain ones by the shortest script, those with a key, a limit or a delay by one that looks at each."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def send(self, messages: Sequence[Message], patience: Patience | None) -> None:
        """Store messages; each script stores up to 250, all of them or none."""
        if len(messages) == 1 and _is_plain_now(messages[0]):
            self._send_one(messages[0], patience)
        elif all(map(_is_plain_now, messages)):
            self._send("send_plain", _slices(messages), _runs, (), patience)
        else:
            self._send("send", _chunks(messages), _items, (), patience)

    def _send_one(self, message: Message, patience: Patience | None) -> None:
        calls = self._calls
        calls.link.check()
        keys = calls.keys_of("send_one", (message.queue,))
        arguments = (calls.now(), message.queue, _rank(message), message.id, codec.plain_record(message))
        _, [error] = calls.link.send_once("send_one", keys, *arguments, patience=patience, doing="sending")
        if error is not None:
            raise error

    def send_unique(self, messages: Sequence[Message], patience: Patience | None) -> list[Receipt]:
        """Store messages, one unfinished job a scope."""
        return _receipts(messages, self._send("send_unique", _chunks(messages), _messages, (), patience))

    def admit(self, messages: Sequence[Message], *, publish_within: float, patience: Patience | None) -> list[Receipt]:
        """Store messages that a transport carries."""
        answers = self._send("admit", _chunks(messages), _messages, (micros(publish_within),), patience)
        return _receipts(messages, answers)

    def _send(
        self,
        name: str,
        portions: Iterable[Sequence[Message]],
        packed: Callable[[Sequence[Message]], list[Any]],
        more: tuple[Any, ...],
        patience: Patience | None,
    ) -> list[Any]:
        """Run a script for each portion, all on their way before the first answer is read."""
        self._calls.link.check()
        chunks = list(portions)
        if not chunks:
            return []
        now = self._calls.now()

        def call(chunk: Sequence[Message]) -> tuple[Sequence[str], tuple[Any, ...]]:
            keys = self._calls.keys_of(name, {message.queue for message in chunk})
            return keys, (now, pack(packed(chunk)), *more)

        if len(chunks) == 1:
            keys, arguments = call(chunks[0])
            answers, errors = self._calls.link.send_once(name, keys, *arguments, patience=patience, doing="sending")
        else:
            answers, errors = self._calls.link.send(name, lambda: map(call, chunks), patience=patience, doing="sending")
        _judge(chunks, errors)
        self._calls.ring([queue for answer in answers if answer for queue in answer[1]])
        return answers


def _chunks(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Cut a batch so that each script takes about a millisecond."""
    chunk: list[Message] = []
    cost = size = 0
    for message in messages:
        weight = 1 if codec.is_plain(message) else HEAVY
        if chunk and (cost + weight > CHUNK or size + len(message.body) > CHUNK_BYTES):
            yield chunk
            chunk, cost, size = [], 0, 0
        chunk.append(message)
        cost += weight
        size += len(message.body)
    if chunk:
        yield chunk


def _is_plain_now(message: Message) -> bool:
    return message.delay <= 0 and message.at is None and codec.is_plain(message)


def _slices(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Cut a batch of plain messages."""
    if sum(len(message.body) for message in messages) > CHUNK_BYTES:
        yield from _chunks(messages)
    else:
        yield from parts(messages, CHUNK)


def _runs(messages: Sequence[Message]) -> list[list[Any]]:
    """Return what `send_plain.lua` takes: plain messages by runs of one queue and priority, each id once."""
    runs: list[list[Any]] = []
    queue, priority = "", -1
    ids: list[str] = []
    records: list[str] = []
    known: set[str] = set()
    for message in messages:
        if message.priority != priority or message.queue != queue:
            queue, priority, ids, records = message.queue, message.priority, [], []
            runs.append([queue, _rank(message), ids, records])
        if message.id not in known:
            known.add(message.id)
            ids.append(message.id)
            records.append(codec.plain_record(message))
    return runs


def _rank(message: Message) -> str:
    return str(9 - message.priority)


def _items(messages: Sequence[Message]) -> list[Any]:
    """Return what `send.lua` takes: runs of plain messages, and others one by one."""
    items: list[Any] = []
    plain: list[Message] = []
    for message in messages:
        if _is_plain_now(message):
            plain.append(message)
            continue
        items += [[0, *run] for run in _runs(plain)]
        plain = []
        items.append([1, *codec.packed_message(message)])
    return [*items, *([0, *run] for run in _runs(plain))]


def _messages(messages: Sequence[Message]) -> list[Any]:
    return [codec.packed_message(message) for message in messages]


def _receipts(messages: Sequence[Message], answers: Sequence[Any]) -> list[Receipt]:
    pairs = [item.decode() for answer in answers for item in answer[0]]
    assert len(pairs) == 2 * len(messages)
    return [
        Receipt(id, created=what == "c", replaced=what == "r") for id, what in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _judge(chunks: Sequence[Sequence[Message]], errors: Sequence[DriverError | None]) -> None:
    """Raise what is known of a batch of which a part failed."""
    if not any(errors):
        return
    accepted: list[str] = []
    failed: dict[str, Exception] = {}
    unknown: dict[str, Exception] = {}
    for chunk, error in zip(chunks, errors, strict=True):
        ids = [message.id for message in chunk]
        if error is None:
            accepted += ids
        elif isinstance(error, AmbiguousSend):
            unknown |= dict.fromkeys(ids, error)
        else:
            failed |= dict.fromkeys(ids, error)
    if not accepted and not (failed and unknown):
        raise next(error for error in errors if error is not None)
    text = f"{len(accepted)} messages stored, {len(failed)} not, {len(unknown)} unknown"
    raise PartialSend(text, accepted=accepted, failed=failed, unknown=unknown)
