"""What queues are called at the service."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit_sqs.names import DEAD, FIFO, queue_name

names = st.text("ab-_.0Z", min_size=1, max_size=60)
ALLOWED = re.compile(r"[A-Za-z0-9_-]{1,80}")


@pytest.mark.parametrize(
    ("namespace", "queue", "name"),
    [("queuekit", "default", "queuekit--default"), ("shop", "high_priority", "shop--high_priority")],
)
def test_a_plain_name_can_be_read(namespace, queue, name):
    assert queue_name(namespace, queue) == name


@given(names, names)
def test_every_name_is_one_that_sqs_takes(namespace, queue):
    name = queue_name(namespace, queue)
    assert ALLOWED.fullmatch(name)
    assert len(name + DEAD + FIFO) <= 80


@given(names, names, names, names)
def test_two_queues_never_share_a_name(namespace, queue, other_namespace, other_queue):
    same = (namespace, queue) == (other_namespace, other_queue)
    assert (queue_name(namespace, queue) == queue_name(other_namespace, other_queue)) == same


@given(names, names, names, names)
def test_no_queue_has_the_name_of_another_ones_dead_letters(namespace, queue, other_namespace, other_queue):
    assert queue_name(namespace, queue) != queue_name(other_namespace, other_queue) + DEAD
