"""The threads on which requests run."""

import threading

import pytest

from queuekit_sqs.threads import Threads


@pytest.fixture
def threads():
    made = Threads(3, name="t", idle=0.01)
    yield made
    made.end(5)


def test_calls_run_at_the_same_time_and_answer_in_order(threads):
    together = threading.Barrier(3)
    assert threads.all([lambda i=i: (together.wait(5) and i) or i for i in range(3)]) == [0, 1, 2]


def test_more_calls_than_threads_all_run(threads):
    assert threads.all([lambda i=i: i for i in range(100)]) == list(range(100))


def test_an_error_is_the_answer_to_its_call_alone(threads):
    one, two = threads.all([lambda: 1 / 0, lambda: 2])
    assert isinstance(one, ZeroDivisionError)
    assert two == 2


def test_idle_threads_end_and_later_calls_have_new_ones(threads):
    for _ in range(20):
        assert threads.all([lambda i=i: i for i in range(7)]) == list(range(7))
        for thread in list(threads._threads):
            thread.join(5)
        assert not threads._threads
        assert threads.start(lambda: "again").result(5) == "again"


def test_after_the_end_no_thread_is_left(threads):
    threads.all([lambda: None] * 10)
    threads.end(5)
    assert not threads._threads
