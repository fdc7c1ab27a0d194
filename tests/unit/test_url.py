"""A backend's address, taken apart."""

from __future__ import annotations

import pytest

from queuekit import Queue
from queuekit.contract import ConfigurationError, Url


def test_an_address_may_name_several_hosts():
    url = Url.parse("amqp://me:s%2Ccret@a.example:1,b.example,[::1]:3/shop?heartbeat=5")
    assert url.hosts == (("a.example", 1), ("b.example", None), ("::1", 3))
    assert (url.user, url.password, url.path, url.options) == ("me", "s,cret", "/shop", {"heartbeat": "5"})
    assert str(url) == "amqp://me:***@a.example:1,b.example,::1:3/shop"


@pytest.mark.parametrize("text", ["amqp://a,/shop", "amqp://,a", "amqp://a:1,b:x/", "amqp://a,b:99999/"])
def test_hosts_that_cannot_be_read_are_refused(text: str):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Url.parse(text)


def test_a_driver_of_one_host_refuses_several():
    with pytest.raises(ConfigurationError, match=r"memory:// takes one host, and memory://a,b names 2"):
        Queue("memory://a,b")
