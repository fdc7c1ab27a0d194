"""What an address and the driver's arguments say, and what is refused before any server is asked."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from queuekit import ConfigurationError, DriverRejected, Queue
from queuekit_postgres import PostgresDriver
from queuekit_postgres.errors import refused
from queuekit_postgres.options import LIBPQ


@pytest.mark.parametrize("build", [PostgresDriver, Queue])
def test_a_password_that_passes_for_a_port_and_a_database_is_refused_and_shown_nowhere(build):
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        build("postgresql://user:123/SECRET@h/app")
    assert "SECRET" not in str(caught.value)


def test_an_option_of_queuekit_in_a_connection_string_is_an_argument():
    with pytest.raises(ConfigurationError, match=r"argument timeout=…, or the whole address to Queue"):
        PostgresDriver("postgresql://h/app?timeout=5")


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("sslmode=bogus", "verify-full"),
        ("target_session_attrs=bogus", "read-write"),
        ("channel_binding=bogus", "prefer"),
        ("gssencmode=bogus", "prefer"),
        ("keepalives=abc", "whole number"),
        ("tcp_user_timeout=1.5", "whole number"),
        ("sslrootcert=/nowhere.pem", "no such file"),
        ("sslcert=/nowhere.pem", "no such file"),
        ("sslkey=/nowhere.pem", "no such file"),
    ],
)
@pytest.mark.parametrize("build", [PostgresDriver, Queue])
def test_what_libpq_would_refuse_at_each_connection_is_refused_at_once(build, option, remedy):
    with pytest.raises(ConfigurationError, match=rf"{option.partition('=')[0]}=.*{remedy}"):
        build(f"postgresql://h/app?{option}")


@pytest.mark.parametrize(
    ("option", "why"), [("connect_timeout=5", "timeout= bounds"), ("options=-c%20jit=on", "ALTER ROLE")]
)
def test_what_the_driver_sets_itself_is_refused_with_the_reason(option, why):
    with pytest.raises(ConfigurationError, match=why):
        Queue(f"postgresql://h/app?{option}")


@pytest.mark.parametrize("option", ["service=nope", "require_auth=nope"])
def test_what_only_libpq_knows_to_be_wrong_does_not_look_like_a_server_that_is_away(option):
    driver = PostgresDriver(option)
    with pytest.raises(DriverRejected, match="nope"):
        driver.open()
    driver.close()


def test_a_certificate_that_libpq_misses_is_no_missing_database():
    text = (
        'connection to server at "h" failed: root certificate file "/var/lib/app/.postgresql/root.crt" does not exist'
    )
    error = refused(psycopg.OperationalError(text), "postgresql://h/app", secret=None)
    assert isinstance(error, DriverRejected)
    assert "no such database" not in str(error)


def test_certificates_that_are_not_meant_as_files_are_not_looked_for():
    PostgresDriver("postgresql://h/app?sslrootcert=system&sslkey=engine:key")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("listen", "false"), ("migrate", "false"), ("pgbouncer", 1), ("conninfo", 5), ("connections", True),
        ("connections", 1), ("timeout", float("nan")), ("timeout", 1e9), ("poll_interval", "1"),
    ],
)  # fmt: skip
def test_an_argument_of_a_wrong_kind_is_refused_by_its_name(argument, value):
    with pytest.raises(ConfigurationError, match=argument):
        PostgresDriver(**{argument: value})


def test_the_page_lists_what_an_address_takes_for_libpq():
    page = (Path(__file__).parents[3] / "docs" / "postgres.md").read_text("utf-8")
    assert not [name for name in LIBPQ if f"`{name}`" not in page]
