"""What an address says, what it refuses, and that no error repeats a secret."""

import pytest

from queuekit.contract import ConfigurationError, Url
from queuekit_sqs import SqsDriver
from queuekit_sqs.settings import Settings


def test_an_address_is_read():
    url = Url.parse("sqs://KEY:se%2Fcret@eu-west-1?endpoint=http://localhost:4566&fifo=true&poll=5&patience=0.5")
    settings = Settings.from_url(url)
    assert (settings.region, settings.access_key, settings.secret_key) == ("eu-west-1", "KEY", "se/cret")
    assert (settings.endpoint, settings.fifo, settings.poll, settings.patience) == (
        "http://localhost:4566",
        True,
        5,
        0.5,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sqs://eu-west-1?pol=5", "did you mean 'poll'"),
        ("sqs://eu-west-1?poll=0", "poll=0"),
        ("sqs://eu-west-1?poll=21", "poll=21"),
        ("sqs://eu-west-1?poll=soon", "whole number"),
        ("sqs://eu-west-1?polls=33", "polls=33"),
        ("sqs://eu-west-1?fifo=yes", "true or false"),
        ("sqs://eu-west-1?retention=59", "retention=59"),
        ("sqs://eu-west-1?patience=0", "patience"),
        ("sqs://eu-west-1?patience=nan", "patience"),
        ("sqs://eu-west-1?message_bytes=2000000", "message_bytes"),
        ("sqs://eu-west-1?endpoint=localhost", "endpoint"),
        ("sqs://eu-west-1?offload=ftp://x", "offload"),
        ("sqs://eu-west-1/queue", "path"),
        ("sqs://localhost:4566", "endpoint="),
        ("sqs://localhost", "no AWS region"),
        ("sqs://KEY@eu-west-1", "together"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(text, words):
    with pytest.raises(ConfigurationError, match=words):
        SqsDriver.from_url(Url.parse(text), namespace="queuekit")


def test_a_secret_is_in_no_text():
    driver = SqsDriver.from_url(Url.parse("sqs://KEY:hunter2@eu-west-1"), namespace="queuekit")
    assert "hunter2" not in repr(driver) + repr(driver._settings) + str(vars(driver))


def test_a_driver_takes_an_address_settings_or_options():
    address = "sqs://eu-west-1?fifo=true"
    made = Settings(region="eu-west-1", fifo=True)
    drivers = [
        SqsDriver(address),
        SqsDriver(Url.parse(address)),
        SqsDriver(made),
        SqsDriver(region="eu-west-1", fifo=True),
    ]
    assert [driver._settings for driver in drivers] == [made] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fif": 1}, "no option 'fif'"),
        ({"region": 5}, r"region \(int\)"),
        ({"fifo": "no"}, "fifo='no'"),
        ({"create": 1}, "create=1"),
        ({"endpoint": "foo"}, "http://localhost:4566"),
        ({"endpoint": ""}, r"endpoint \(str\)"),
        ({"patience": None}, "patience=None"),
        ({"polls": 2.0}, "polls=2.0"),
        ({"settings": 5}, "int"),
        ({"settings": {}}, "dict"),
        ({"settings": "http://eu-west-1"}, "no address of SQS"),
        ({"settings": Settings(), "fifo": True}, "fifo beside settings"),
        ({"settings": "sqs://eu-west-1", "fifo": True}, "fifo beside settings"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        SqsDriver(**arguments)


def test_a_secret_of_a_wrong_kind_is_not_shown():
    with pytest.raises(ConfigurationError, match=r"secret_key \(bytes\)") as caught:
        Settings(access_key="KEY", secret_key=b"hunter2")
    assert "hunter2" not in str(caught.value)
