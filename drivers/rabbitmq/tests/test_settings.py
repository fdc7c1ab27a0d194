"""The address and its options."""

from __future__ import annotations

import pytest

from queuekit.contract import ConfigurationError, Url
from queuekit_rabbitmq.settings import Settings


def settings(address: str) -> Settings:
    return Settings.from_url(Url.parse(address))


def test_an_address_without_anything_means_the_broker_of_this_machine() -> None:
    found = settings("amqp://")
    assert (found.hosts, found.vhost, found.user) == ((("localhost", 5672),), "/", "guest")


def test_every_part_of_an_address_is_read() -> None:
    found = settings("amqps://me:s%2Fcret@a.example:1234,b.example,[::1]:99/shop?heartbeat=5&delay_unit=0.1")
    assert found.hosts == (("a.example", 1234), ("b.example", 5671), ("::1", 99))
    assert (found.vhost, found.user, found.password, found.tls) == ("shop", "me", "s/cret", True)
    assert (found.heartbeat, found.delay_unit) == (5, 0.1)


def test_the_encoded_slash_is_the_virtual_host_of_that_name() -> None:
    assert settings("amqp://localhost/%2F").vhost == "/"


def test_the_password_is_in_no_text() -> None:
    found = settings("amqp://me:hunter2@localhost/")
    assert "hunter2" not in f"{found}{found!r}"


@pytest.mark.parametrize("option", ["heartbeat=soon", "queue_type=stream", "window=0", "heartbeet=5"])
def test_a_wrong_option_is_refused_by_its_name(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        settings(f"amqp://localhost/?{option}")
