"""What the text of an address may say as a switch, a number, a file; every driver reads it so."""

from __future__ import annotations

from datetime import timedelta

import pytest

from queuekit.contract import (
    ConfigurationError,
    check_certificates,
    flag,
    read_flag,
    read_number,
    read_whole,
    seconds,
)


def test_a_switch_is_one_of_six_words():
    assert [read_flag("x", text) for text in ("true", "on", "1", "false", "off", "0")] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("text", ["", "yes", "no", "True", "FALSE", "maybe", " true"])
def test_any_other_word_is_no_switch(text):
    with pytest.raises(ConfigurationError, match=r"cluster=.* give true or false"):
        read_flag("cluster", text)


@pytest.mark.parametrize("text", ["", "2.7", "nan", "inf", "1e3", "٣", "1_000", "9" * 5000])
def test_a_whole_number_is_written_in_digits(text):
    with pytest.raises(ConfigurationError, match=r"pool_size=.* give a whole number"):
        read_whole("pool_size", text)


def test_numbers_are_read():
    assert (read_whole("x", "12"), read_whole("x", "-1"), read_number("x", "2.5")) == (12, -1, 2.5)


@pytest.mark.parametrize("text", ["", "soon", "1s"])
def test_a_number_is_nothing_else(text):
    with pytest.raises(ConfigurationError, match="give a number"):
        read_number("timeout", text)


@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_a_switch_that_is_given_as_a_value_is_true_or_false(value):
    with pytest.raises(ConfigurationError, match="give True or False"):
        flag("listen", value)


def test_a_duration_has_a_bound_of_its_own_where_one_is_given():
    assert seconds("x", timedelta(minutes=1), most=60) == 60.0
    with pytest.raises(ConfigurationError, match="at most 60"):
        seconds("x", 61, most=60)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"authorities": ("ca", 5)}, r"ca=5 .* path of a file"),
        ({"authorities": ("ca", "/nowhere.pem")}, r"ca='/nowhere.pem' .* no such file"),
        ({"certificate": ("cert", "/")}, r"cert='/' .* no such file"),
        ({"authorities": ("ca", pytest.__file__)}, r"ca=.* PEM format"),
        ({"certificate": ("cert", pytest.__file__)}, r"cert=.* give in cert a certificate and its key"),
        ({"key": ("key", pytest.__file__)}, r"key=.* give that as cert"),
    ],
)
def test_files_with_which_tls_cannot_be_spoken_are_refused_by_option(files, words):
    none = {"authorities": ("ca", None), "certificate": ("cert", None), "key": ("key", None)}
    check_certificates(**none)
    with pytest.raises(ConfigurationError, match=words):
        check_certificates(**{**none, **files})
