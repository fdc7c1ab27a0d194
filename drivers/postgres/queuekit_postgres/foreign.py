"""The application's own connections: psycopg's, SQLAlchemy's, Django's."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from psycopg.rows import tuple_row

from queuekit.contract import ConfigurationError
from queuekit_postgres.work import ForeignWork, Work

__all__ = ["ForeignWork", "check_database", "cursor_of", "spoil"]

KNOWN = "give a psycopg connection, a SQLAlchemy session or connection, or Django's connection"


def cursor_of(connection: Any) -> Any:
    """Return a cursor inside the application's transaction; raises `ConfigurationError` for what is none of the known."""
    library = type(connection).__module__.partition(".")[0]
    kinds = {base.__module__.partition(".")[0] for base in type(connection).__mro__}
    if hasattr(connection, "in_atomic_block") and hasattr(connection, "vendor"):
        return _of_django(connection)
    if "sqlalchemy" in kinds:
        return _of_sqlalchemy(connection)
    if kinds & {"psycopg", "psycopg2", "psycopg_pool"}:
        return _of_dbapi(connection)
    message = f"connection={library}.{type(connection).__name__} is refused: {KNOWN}"
    raise ConfigurationError(message)


def _of_django(connection: Any) -> Any:
    if connection.vendor != "postgresql":
        message = f"Django's connection {connection.alias!r} is to {connection.vendor}, and this queue's jobs are in PostgreSQL"
        raise ConfigurationError(message)
    if not connection.in_atomic_block:
        message = f"Django's connection {connection.alias!r} is in no transaction: dispatch inside transaction.atomic()"
        raise ConfigurationError(message)
    return connection.cursor()


def _of_sqlalchemy(connection: Any) -> Any:
    if hasattr(connection, "get_bind"):  # a session; asking it for its connection begins its transaction
        connection = connection.connection()
    if not hasattr(connection, "exec_driver_sql"):
        message = f"connection={type(connection).__name__} is refused: {KNOWN}"
        raise ConfigurationError(message)
    if not connection.in_transaction():
        connection.begin()
    return _of_dbapi(connection.connection.driver_connection)


def _of_dbapi(connection: Any) -> Any:
    """Return a cursor of psycopg 3 or psycopg2, neither of them asynchronous."""
    kind = type(connection)
    if "Async" in kind.__name__ or not hasattr(connection, "cursor") or not hasattr(connection, "autocommit"):
        message = f"connection={kind.__module__}.{kind.__name__} is refused: {KNOWN}"
        raise ConfigurationError(message)
    if connection.autocommit and connection.info.transaction_status == 0:
        message = "the connection commits by itself and is in no transaction: dispatch inside `with connection.transaction():`"
        raise ConfigurationError(message)
    return connection.cursor(**_with_plain_rows(kind))


def _with_plain_rows(kind: type) -> dict[str, Any]:
    """Return what asks a connection for rows that are tuples, whatever its application prefers."""
    if any(base.__module__.startswith("psycopg2") for base in kind.__mro__):
        return {"cursor_factory": sys.modules["psycopg2.extensions"].cursor}
    return {"row_factory": tuple_row}


def spoil(work: Work) -> None:
    """Let the application's transaction fail: whatever is done with it now, nothing of it is committed."""
    with contextlib.suppress(Exception):  # the error is the purpose, whatever its class in this library
        work.run("spoil")


def check_database(work: Work, schema: str, database: str) -> None:
    """Raise `ConfigurationError` unless the connection leads to this queue's own schema."""
    work.connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f'"{schema}".meta',))
    found = work.connection.fetchone()[0]
    if found:
        work.connection.execute(f"SELECT value FROM \"{schema}\".meta WHERE name = 'id'")
        found = work.connection.fetchone()[0] == database
    if not found:
        message = f"the connection is to another database than this queue's (its schema {schema!r} is not there)"
        raise ConfigurationError(message)
