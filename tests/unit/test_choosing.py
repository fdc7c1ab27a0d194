"""Which jobs the facade means: by their id, and by filters."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit import ConfigurationError, Job, JobNotFound, Queue
from queuekit.ids import new_id

BULK = ("cancel", "retry", "delete")


UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture(params=["memory", "sqlite"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    with Queue("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db") as made:
        yield made


def by_id(queue: Queue) -> list[Callable[[Any], object]]:
    return [queue.get, queue.info, queue.cancel, queue.retry, queue.delete]


# ------------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize("form", [uuid.UUID, str.upper, lambda text: text.replace("-", "")])
def test_a_job_is_found_by_any_form_of_its_id(queue: Queue, form: Callable[[str], Any]) -> None:
    id = queue.dispatch(Job("t", id=str(uuid.uuid4()))).id
    assert queue.get(form(id)).id == id
    assert queue.info(form(id)).id == id
    assert queue.cancel(form(id)) is True
    assert queue.retry(form(id)) is True
    assert queue.delete(form(id)) is True


@pytest.mark.parametrize("id", ["garbage", "", UNKNOWN, UNKNOWN + "0", "\udc80"])
def test_a_text_that_is_no_jobs_id_is_not_found(queue: Queue, id: str) -> None:
    for call in by_id(queue):
        with pytest.raises(JobNotFound, match=r"there is no job"):
            call(id)


@pytest.mark.parametrize("id", [5, b"x", ["a"], Job("t")])
def test_what_is_no_text_is_refused_as_an_id(queue: Queue, id: Any) -> None:
    for call in by_id(queue):
        with pytest.raises(ConfigurationError, match=rf"id=.* \({type(id).__name__}\) is refused: give a job's id"):
            call(id)


def test_no_id_is_refused(queue: Queue) -> None:
    for call in by_id(queue):
        with pytest.raises(ConfigurationError, match=r"give a job's id"):
            call(None)


# --------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize("verb", BULK)
@pytest.mark.parametrize("filters", [{}, {"tag": None}, {"state": None, "queue": None, "type": None, "search": None}])
def test_filters_that_say_nothing_are_refused(queue: Queue, verb: str, filters: dict[str, None]) -> None:
    handle = queue.dispatch(Job("t"))
    with pytest.raises(ConfigurationError, match=r"at least one filter of state, queue, .* neither is given"):
        getattr(queue, verb)(**filters)
    assert handle.state == "pending"


@pytest.mark.parametrize("verb", BULK)
@pytest.mark.parametrize("filters", [{"state": []}, {"search": ""}, {"tag": ""}])
def test_empty_filters_are_refused(queue: Queue, verb: str, filters: dict[str, Any]) -> None:
    handle = queue.dispatch(Job("t"))
    with pytest.raises(ConfigurationError, match=r"is refused: give"):
        getattr(queue, verb)(**filters)
    assert handle.state == "pending"


@pytest.mark.parametrize("verb", BULK)
def test_an_id_and_filters_together_are_refused(queue: Queue, verb: str) -> None:
    with pytest.raises(ConfigurationError, match=r"both are given: id and tag"):
        getattr(queue, verb)(new_id(), tag="a", type=None)


@pytest.mark.parametrize("verb", BULK)
@pytest.mark.parametrize("name", ["tga", "limit", "after"])
def test_unknown_filters_are_refused(queue: Queue, verb: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"no filter '{name}'; filters are: state, queue, type, tag, search"):
        getattr(queue, verb)(**{name: None})


def test_filters_that_are_none_are_left_out(queue: Queue) -> None:
    queue.dispatch(Job("t", tags=["a"]))
    kept = queue.dispatch(Job("t"))
    assert queue.delete(tag="a", type=None) == 1
    assert [job.id for job in queue.jobs(tag=None)] == [kept.id]


@pytest.mark.parametrize("value", [["a"], 5, b"a", "", "\udc80"])
@pytest.mark.parametrize("name", ["queue", "type", "tag", "search", "after"])
def test_a_filter_that_is_no_text_is_refused(queue: Queue, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}=.* \({type(value).__name__}\) is refused: "):
        queue.jobs(**{name: value})


@pytest.mark.parametrize("state", [5, "", "done", ["failed", "done"], [5], b"failed", [["failed"]]])
def test_a_state_that_is_none_is_refused(queue: Queue, state: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"state=.* is refused: give pending, scheduled, "):
        queue.jobs(state=state)


@pytest.mark.parametrize("limit", [0, -1, 10**20, 1.5, "10", None])
def test_a_limit_that_is_none_is_refused(queue: Queue, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"limit=.* is refused: give a whole number from 1 to 1000000"):
        queue.jobs(limit=limit)


@pytest.mark.parametrize("after", ["garbage", "-1", "1.5", " 1", "1_0", "\u0661", "9" * 30])
def test_a_cursor_that_is_none_is_refused(queue: Queue, after: str) -> None:
    queue.dispatch(Job("t"))
    with pytest.raises(ConfigurationError, match=r"after=.* is refused: give the `next` of the page before"):
        queue.jobs(after=after)


def test_pages_follow_one_another(queue: Queue) -> None:
    ids = [handle.id for handle in queue.dispatch_many([Job("t")] * 5)]
    first = queue.jobs(limit=3)
    second = queue.jobs(limit=3, after=first.next)
    assert [job.id for job in [*first, *second]] == ids
    assert second.next is None
