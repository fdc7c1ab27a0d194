"""The address and its options."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from queuekit.contract import ConfigurationError, DriverRejected, Url
from queuekit_rabbitmq import RabbitMQDriver
from queuekit_rabbitmq.settings import Settings

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBfDCCASGgAwIBAgIULI/ZKlt3M2Zbepge5rpLrNHzoREwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHdHJ1c3RlZDAgFw0yNjExMjEyMTQ4MjhaGA8yMTI2MTAyODIx
NDgyOFowEjEQMA4GA1UEAwwHdHJ1c3RlZDBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABCNbQIQnt+RFm9FxizBxUjr380Gx/zm3IJOfd9QT6s7IJO2J2SDPHEEupvmd
qEJH/2msizV/p3POnQbuuLg13kmjUzBRMB0GA1UdDgQWBBRrWBtA5CQSYjD++6aR
sIJuOyRnYjAfBgNVHSMEGDAWgBRrWBtA5CQSYjD++6aRsIJuOyRnYjAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDJZUF9m5KucH1+eIt3fZczxu8i
o+k2jnfF0hNsdrEJIgIhAPnmsPjgOYsTVrBrTqkSlC0Vq+8KJu8PVy24lfKvhmmO
-----END CERTIFICATE-----
"""
"""Of nobody: its key was thrown away."""


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


@pytest.mark.parametrize(
    "option",
    [
        "heartbeat=soon", "heartbeat=1.5", "heartbeat=65536", "queue_type=stream", "window=0", "window=inf", "heartbeet=5",
        "confirm_timeout=0", "confirm_timeout=-5", "confirm_timeout=nan", "delay_unit=inf", "connect_timeout=inf",
        "new_queue_wait=inf", "new_queue_wait=-1", "consumer_timeout=nan", "delivery_limit=2.7",
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_its_name(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        settings(f"amqp://localhost/?{option}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heartbeat", "x"), ("heartbeat", None), ("heartbeat", True), ("heartbeat", 1.5), ("window", float("inf")),
        ("delivery_limit", 0), ("confirm_timeout", "5"), ("connect_timeout", None), ("queue_type", []), ("tls", "false"),
    ],
)  # fmt: skip
def test_a_setting_of_a_wrong_kind_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Settings(**{name: value})


def test_a_time_may_be_a_timedelta_and_a_new_queue_need_not_wait() -> None:
    found = Settings(confirm_timeout=timedelta(minutes=1), new_queue_wait=0)  # type: ignore[arg-type]
    assert (found.confirm_timeout, found.new_queue_wait) == (60.0, 0.0)


@pytest.mark.parametrize("name", ["cafile", "certfile", "keyfile"])
def test_certificates_without_tls_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} needs TLS: write amqps://"):
        settings(f"amqp://localhost/?{name}={pytest.__file__}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cafile=/nowhere.pem", "cafile='/nowhere.pem' .* no such file"),
        ("certfile=/nowhere.pem", "certfile='/nowhere.pem' .* no such file"),
        (f"cafile={pytest.__file__}", "cafile=.* PEM format"),
        (f"certfile={pytest.__file__}", "certfile=.* PEM format"),
        (f"keyfile={pytest.__file__}", "keyfile=.* as certfile"),
    ],
)
def test_certificates_that_cannot_be_used_are_refused_before_the_broker_is_asked(options: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        settings(f"amqps://localhost/?{options}")


def test_certificates_that_have_gone_meanwhile_do_not_look_like_a_broker_that_is_away(tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_text(CERTIFICATE, encoding="ascii")
    found = settings(f"amqps://127.0.0.1:1/?cafile={trusted}")
    trusted.unlink()
    driver = RabbitMQDriver(found)
    with pytest.raises(DriverRejected, match="cafile="):
        driver.open()
    driver.close()


def test_a_driver_takes_an_address_or_settings() -> None:
    address = "amqp://me:secret@broker/shop?heartbeat=5"
    drivers = [RabbitMQDriver(address), RabbitMQDriver(Url.parse(address)), RabbitMQDriver(settings(address))]
    assert [driver.settings for driver in drivers] == [settings(address)] * 3


@pytest.mark.parametrize("given", [5, {}, "http://broker/"])
def test_a_driver_refuses_what_is_neither(given: Any) -> None:
    with pytest.raises(ConfigurationError):
        RabbitMQDriver(given)
