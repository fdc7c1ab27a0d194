"""What pika's errors mean."""

from __future__ import annotations

import pytest
from pika import exceptions

from queuekit.contract import DriverRejected, DriverUnavailable
from queuekit_rabbitmq.errors import GUESSES, of_error

LOST = exceptions.StreamLostError("Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')")
CLOSED = exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED - Login was refused")


@pytest.mark.parametrize("guess", GUESSES)
def test_a_connection_that_ends_without_a_word_while_it_is_made_is_trouble_that_passes(guess: type[Exception]) -> None:
    assert isinstance(of_error(guess(repr(LOST)), "here"), DriverUnavailable)


@pytest.mark.parametrize("guess", GUESSES)
def test_a_connection_that_the_broker_closes_while_it_is_made_needs_somebody_to_act(guess: type[Exception]) -> None:
    assert isinstance(of_error(guess(repr(CLOSED)), "here"), DriverRejected)
