"""What a handler's parameter `payload` gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from queuekit import BadPayload, Job, JobContext, Queue


@pytest.fixture
def queue() -> Iterator[Queue]:
    with Queue("sync://") as made:
        yield made


@pytest.mark.parametrize("value", [{"to": "ada"}, [1, 2], "text", 5, None, b"\xff\0"])
def test_a_handler_with_payload_alone_gets_the_whole_value(queue: Queue, value: Any) -> None:
    seen: list[Any] = []

    @queue.job(name="decorated")
    def decorated(ctx: JobContext, payload: Any) -> None:
        seen.append(payload)

    def named(payload: Any) -> None:
        seen.append(payload)

    queue.register("named", named)
    for handle in (decorated.dispatch(value), queue.dispatch(Job("named", value))):
        assert handle.state == "completed"
    assert seen == [value, value]


def test_beside_other_parameters_payload_is_an_argument_like_them(queue: Queue) -> None:
    @queue.job(name="t")
    def handler(payload: str, to: str = "ada") -> list[str]:
        return [payload, to]

    assert handler.dispatch("hello").result() == ["hello", "ada"]
    assert queue.dispatch(Job("t", {"payload": "hello", "to": "bob"})).result() == ["hello", "bob"]
    with pytest.raises(BadPayload, match="payload"):
        queue.dispatch(Job("t", {"to": "bob"}))
