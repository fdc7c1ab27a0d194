"""What an address says, what it refuses, and that no error repeats a password."""

from __future__ import annotations

import ssl

import pytest
import redis.asyncio

from queuekit.contract import ConfigurationError, DriverRejected, DriverUnavailable, Url
from queuekit_redis import RedisDriver
from queuekit_redis.address import Settings, settings_of
from queuekit_redis.errors import translated


def driver_of(text: str) -> RedisDriver:
    return RedisDriver.from_url(Url.parse(text), namespace="queuekit")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis://localhost/zero", "no database number"),
        ("redis://localhost/0?socket_timeot=1", "did you mean 'socket_timeout'"),
        ("redis://localhost/0?socket_timeout=soon", "give a number"),
        ("redis://localhost/0?socket_timeout=0", "more than 0"),
        ("redis://localhost/0?socket_timeout=inf", "finite"),
        ("redis://localhost/0?pool_size=0", "from 1 up"),
        ("redis://localhost/0?pool_size=nan", "whole number"),
        ("redis://localhost/0?pool_size=inf", "whole number"),
        ("redis://localhost/0?pool_size=2.7", "whole number"),
        ("redis://localhost/0?cluster=maybe", "cluster='maybe'.* true or false"),
        ("redis://localhost/0?cluster=False", "true or false"),
        ("redis://localhost/0?cluster=false&nodes=b:1", "nodes means nothing without cluster=true"),
        ("redis://localhost/0?nodes=b:1", "nodes means nothing without cluster=true"),
        ("redis://localhost/0?sentinels=b:1", "sentinels means nothing without sentinel"),
        ("redis://localhost/0?sentinel_password=x", "sentinel_password means nothing without sentinel"),
        ("redis://localhost/0?sentinel=", "the primary's name"),
        ("redis:///0?socket=", "the socket's path"),
        ("redis://localhost/0?sentinel=main&cluster=true", "exclude each other"),
        ("rediss:///0?socket=/run/redis.sock", "has no TLS"),
        ("redis://localhost/1?db=3", "leave one of them out"),
        ("rediss://localhost/0?ssl_check_hostname=banana", "true or false"),
        ("rediss://localhost/0?ssl_cert_reqs=banana", "none, optional, required"),
        ("rediss://localhost/0?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs='/nowhere.pem'.* no such file"),
        ("rediss://localhost/0?ssl_certfile=/nowhere.pem", "ssl_certfile='/nowhere.pem'.* no such file"),
        (f"rediss://localhost/0?ssl_keyfile={pytest.__file__}", "as ssl_certfile"),
        (f"rediss://localhost/0?ssl_ca_certs={pytest.__file__}", "PEM format"),
        ("http://localhost/0", "no address of a Redis server"),
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


def test_a_cluster_is_one_where_the_address_says_so_alone():
    kinds = [type(driver_of(f"redis://localhost/0?cluster={text}")._source).__name__ for text in ("true", "off", "0")]
    assert kinds == ["ClusterSource", "ServerSource", "ServerSource"]


def test_a_client_of_asyncio_is_refused_as_such():
    with pytest.raises(ConfigurationError, match="not the asyncio one"):
        RedisDriver(client=redis.asyncio.Redis())


@pytest.mark.parametrize("arguments", [{"address": 5}, {"settings": {}}, {"settings": "socket_timeout=2"}])
def test_an_argument_of_a_wrong_kind_is_refused(arguments):
    with pytest.raises(ConfigurationError, match=r"int|dict|str"):
        RedisDriver(**arguments)


@pytest.mark.parametrize(
    "reason", [ssl.SSLCertVerificationError("unknown issuer"), FileNotFoundError(2, "No such file")]
)
def test_certificates_that_are_not_trusted_or_gone_do_not_look_like_a_server_that_is_away(reason):
    error = redis.ConnectionError("Error connecting")
    error.__context__ = reason
    reason.verify_message = "unknown issuer"
    assert isinstance(translated(error, server="rediss://h", doing="connecting"), DriverRejected)


def test_a_socket_that_is_not_there_is_a_server_that_is_away():
    driver = driver_of("redis:///0?socket=/nowhere/redis.sock")
    with pytest.raises(DriverUnavailable):
        driver.open()


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
