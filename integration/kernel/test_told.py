"""What scenarios go by where no job can be looked up: only outcomes that the backend accepted count."""

import pytest

from queuekit import Event
from queuekit_integration.told import Ending, Told, last_told


@pytest.fixture
def told(tmp_path):
    told = Told(tmp_path, "test")
    yield told
    told.close()


def tell(told, *kinds, token=1, **fields):
    for kind in kinds:
        told(Event(kind, 1.0 + token, job_id="j", token=token, **fields))


def test_an_outcome_counts_once_it_is_settled(told, tmp_path):
    tell(told, "claimed", "started", "finished", "completed", attempt=1)
    assert last_told(tmp_path, "j") is None
    tell(told, "settled", attempt=1)
    assert last_told(tmp_path, "j") == Ending("completed", None, 1)


def test_an_outcome_that_was_refused_is_forgotten(told, tmp_path):
    tell(told, "completed", "settle_lost", attempt=1)
    tell(told, "settled", attempt=1)
    assert last_told(tmp_path, "j") is None


def test_errors_of_every_attempt_are_kept_in_order(told, tmp_path):
    tell(told, "retrying", "settled", token=1, attempt=1, error="ValueError: one", delay=2.0)
    assert last_told(tmp_path, "j").state == "scheduled"
    tell(told, "failed", "settled", token=2, attempt=2, error="ValueError: two", reason="error")
    assert last_told(tmp_path, "j") == Ending("failed", "error", 2, ("ValueError: one", "ValueError: two"))


def test_what_was_given_back_has_its_attempt_refunded(told, tmp_path):
    tell(told, "released", "settled", attempt=1)
    assert last_told(tmp_path, "j") == Ending("pending", None, 0)


def test_another_process_may_have_said_it(told, tmp_path):
    tell(told, "completed", "settled", attempt=1)
    other = Told(tmp_path, "other")
    tell(other, "failed", "settled", token=2, attempt=2)
    other.close()
    assert last_told(tmp_path, "j").state == "failed"


def test_a_line_that_a_kill_tore_is_left_out(told, tmp_path):
    tell(told, "completed", "settled", attempt=1)
    [path] = tmp_path.glob("*.told")
    path.write_bytes(path.read_bytes() + b'{"at": 9, "job": "j", "sta')
    assert last_told(tmp_path, "j") == Ending("completed", None, 1)
