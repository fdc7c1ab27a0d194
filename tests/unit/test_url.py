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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h:abc?sentinel_password=SECRET", "redis://h:abc?…"),
        ("redis://h:abc/0?sentinel_password=SEC@RET", "redis://h:***?…"),
        ("redis://h/0?timeout=1&SECRET", "redis://h/0?…"),
        ("redis://user:123/SECRET@h", "redis://user:***@h"),
        ("redis://user:123#SECRET@h", "redis://user:***@h"),
        ("redis://user:SECRET?x@h", "redis://user:***?…"),
        ("redis://user:p@SECRET?x@h", "redis://user:***?…"),
        ("sqs://KEY:123/SECRET@eu-west-1", "sqs://KEY:***@eu-west-1"),
        ("user:SECRET@h", "user:***@h"),
        ("localhost?password=SECRET", "localhost?…"),
    ],
)
def test_an_address_that_cannot_be_read_is_shown_without_what_may_be_a_password(text: str, shown: str):
    with pytest.raises(ConfigurationError) as caught:
        Url.parse(text)
    assert repr(shown) in str(caught.value)
    assert not [part for part in ("SEC", "RET") if part in str(caught.value)]


def test_no_text_of_an_address_shows_its_options():
    url = Url.parse("redis://h?sentinel_password=SECRET")
    assert "SECRET" not in f"{url} {url!r}"


def test_a_path_may_have_an_at_sign_where_no_password_can_stand():
    assert Url.parse("sqlite:///data/me@home/jobs.db").path == "/data/me@home/jobs.db"
    assert Url.parse("amqp://user:secret@h/a%40b").path == "/a@b"


def test_a_number_sign_in_an_address_is_refused_instead_of_cutting_it_off():
    with pytest.raises(ConfigurationError, match="%23"):
        Url.parse("sqlite:///jobs#1.db")
