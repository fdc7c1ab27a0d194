"""What an address and the driver's arguments say, and what is refused before any server is asked."""

from __future__ import annotations

import pytest

from queuekit import ConfigurationError, Queue
from queuekit_postgres import PostgresDriver


@pytest.mark.parametrize("build", [PostgresDriver, Queue])
def test_a_password_that_passes_for_a_port_and_a_database_is_refused_and_shown_nowhere(build):
    with pytest.raises(ConfigurationError, match="percent-encode") as caught:
        build("postgresql://user:123/SECRET@h/app")
    assert "SECRET" not in str(caught.value)


def test_an_option_of_queuekit_in_a_connection_string_is_an_argument():
    with pytest.raises(ConfigurationError, match=r"argument timeout=…, or the whole address to Queue"):
        PostgresDriver("postgresql://h/app?timeout=5")
