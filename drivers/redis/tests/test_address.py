"""What an address says, what it refuses, and that no error repeats a password."""

from __future__ import annotations

import pytest

from queuekit.contract import ConfigurationError, DriverUnavailable, Url
from queuekit_redis import RedisDriver
from queuekit_redis.address import Settings, settings_of


def driver_of(text: str) -> RedisDriver:
    return RedisDriver.from_url(Url.parse(text), namespace="queuekit")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis://localhost/zero", "no database number"),
        ("redis://localhost/0?socket_timeot=1", "did you mean 'socket_timeout'"),
        ("redis://localhost/0?socket_timeout=soon", "give a number"),
        ("redis://localhost/0?socket_timeout=0", "above 0"),
        ("redis://localhost/0?pool_size=0", "at least 1"),
        ("redis://localhost/0?ssl_ca_certs=ca.pem", "write rediss://"),
        ("redis://localhost/1?cluster=true", "database 0 alone"),
        ("redis://localhost/0?sentinel=main&sentinels=one:two", "host:port"),
        ("redis://localhost/0?cluster=true&nodes=:7000", "host:port"),
    ],
)
def test_an_address_that_cannot_work_is_refused_before_any_server_is_asked(text, words):
    with pytest.raises(ConfigurationError, match=words):
        driver_of(text)


def test_options_become_settings():
    settings = settings_of(Url.parse("redis://localhost/0?socket_timeout=2.5&pool_size=7"))
    assert settings == Settings(socket_timeout=2.5, pool_size=7)


def test_a_client_of_another_library_is_refused():
    with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
        RedisDriver(client=object())


def test_a_client_says_where_its_own_settings_come_from():
    native = driver_of("redis://user:secret@somewhere:7777/3?connect_timeout=1.5").native()
    settings = native.connection_pool.connection_kwargs
    assert (settings["host"], settings["port"], settings["db"]) == ("somewhere", 7777, 3)
    assert (settings["username"], settings["password"]) == ("user", "secret")
    assert settings["socket_connect_timeout"] == 1.5


def test_no_error_repeats_the_password():
    driver = driver_of("redis://user:secret@127.0.0.1:1/0")
    with pytest.raises(DriverUnavailable) as caught:
        driver.open()
    texts = [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
    assert not [text for text in texts if "secret" in text]
    assert "127.0.0.1:1" in texts[0]
