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
