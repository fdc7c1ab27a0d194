"""A flag that one thread waits for, alone or beside something that can be read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from queuekit.clock import VirtualClock, Wakeup


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return the two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_wait_beside_a_descriptor_ends_when_that_can_be_read(pipe: tuple[int, int]):
    flag = Wakeup()
    threading.Timer(0.01, os.write, (pipe[1], b"x")).start()
    assert flag.wait(30, beside=pipe[0])
    assert not flag.is_set()


def test_a_wait_beside_a_descriptor_ends_when_the_flag_is_raised(pipe: tuple[int, int]):
    flag = Wakeup()
    threading.Timer(0.01, flag.set).start()
    assert flag.wait(30, beside=pipe[0])
    assert flag.is_set()


def test_a_flag_that_was_raised_and_lowered_meanwhile_ends_no_later_wait(pipe: tuple[int, int]):
    flag = Wakeup()
    flag.set()
    assert flag.wait(30, beside=pipe[0])
    flag._watched = True  # as if it were raised and lowered between a wait's look and its end
    flag.clear()
    flag.set()
    flag.clear()
    assert not flag.wait(0.01, beside=pipe[0])


def test_a_flag_lets_go_of_its_pipe(pipe: tuple[int, int]):
    flag = Wakeup()
    flag.wait(0, beside=pipe[0])
    ends = flag._pipe
    assert ends is not None
    del flag
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


def test_a_virtual_wait_ends_by_the_descriptor_the_flag_or_the_clock(pipe: tuple[int, int]):
    clock, flag, over = VirtualClock(), Wakeup(), threading.Event()

    def move() -> None:
        while not over.wait(0.01):  # again and again: the first time may be before the wait
            clock.advance(5)

    mover = threading.Thread(target=move)
    mover.start()
    assert not clock.wait(flag, 5, beside=pipe[0])
    over.set()
    mover.join()
    os.write(pipe[1], b"x")
    assert clock.wait(flag, 5, beside=pipe[0])
    flag.set()
    assert clock.wait(flag, 5)
