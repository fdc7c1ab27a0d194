"""Making and checking the tables: numbered migrations, safe from several processes at once."""

from __future__ import annotations

from queuekit.contract import DriverRejected, DriverUnavailable
from queuekit_postgres.connections import Connection
from queuekit_postgres.statements import migrations

OLDEST = 130000
"""PostgreSQL 13, by its server_version_num."""


def check_server(connection: Connection) -> None:
    """Raise `DriverRejected` for a server on which the promises cannot hold, `DriverUnavailable` where they may soon."""
    version = connection.info.server_version
    if version < OLDEST:
        message = f"this server is PostgreSQL {version // 10000}, and queuekit needs 13 or newer"
        raise DriverRejected(message)
    row = connection.execute("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')").fetchone()
    assert row is not None
    if row[0]:
        message = (
            "this server is a standby and takes no jobs until it is promoted: name the primary too, as in "
            "postgresql://a,b/app"
        )
        raise DriverUnavailable(message)
    if row[1] == "on":
        message = "this server or role is read-only (default_transaction_read_only), and a queue writes: switch it off"
        raise DriverRejected(message)


def missing(connection: Connection, schema: str) -> list[str]:
    """Return the names of migrations that are still to be applied; raises for a schema from the future."""
    version = current(connection, schema)
    known = migrations(schema)
    if version > known[-1][0]:
        message = (
            f"the schema {schema!r} has migration {version}, and this queuekit knows up to {known[-1][0]}: "
            "update queuekit in this process"
        )
        raise DriverRejected(message)
    return [name for number, name, _ in known if number > version]


def check(connection: Connection, schema: str) -> None:
    """Raise `DriverRejected` unless every migration was applied."""
    names = missing(connection, schema)
    if names:
        message = (
            f"the schema {schema!r} lacks {', '.join(names)}: run `queuekit migrate` with a role that may create tables"
        )
        raise DriverRejected(message)


def current(connection: Connection, schema: str) -> int:
    """Return the number of the newest migration applied; 0 for none."""
    row = connection.execute("SELECT to_regclass(%s) IS NULL", (f'"{schema}".migrations',)).fetchone()
    if row is None or row[0]:
        return 0
    row = connection.execute(f'SELECT coalesce(max(number), 0) FROM "{schema}".migrations').fetchone()
    return 0 if row is None else int(row[0])


def migrate(connection: Connection, schema: str) -> list[str]:
    """Apply what is missing in one transaction; whoever comes second waits, and finds nothing to do."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{schema}.migrate",))
        names = missing(connection, schema)
        if names:
            _make_schema(connection, schema)
        for number, name, text in migrations(schema):
            if name in names:
                connection.execute(text)
                connection.execute(f'INSERT INTO "{schema}".migrations (number, name) VALUES (%s, %s)', (number, name))
    return names


def _make_schema(connection: Connection, schema: str) -> None:
    """Make the schema unless somebody with more rights has done so."""
    row = connection.execute("SELECT to_regnamespace(%s) IS NULL", (f'"{schema}"',)).fetchone()
    if row is not None and row[0]:
        connection.execute(f'CREATE SCHEMA "{schema}"')
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{schema}".migrations '
        "(number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )


def namespace_number(connection: Connection, schema: str, namespace: str) -> int:
    """Return the number that stands for a namespace, giving one out at its first use."""
    find = f'SELECT id FROM "{schema}".namespaces WHERE name = %s'
    row = connection.execute(find, (namespace,)).fetchone()
    if row is None:
        connection.execute(
            f'INSERT INTO "{schema}".namespaces (name) VALUES (%s) ON CONFLICT (name) DO NOTHING', (namespace,)
        )
        row = connection.execute(find, (namespace,)).fetchone()
    assert row is not None
    return int(row[0])


def database_id(connection: Connection, schema: str) -> str:
    """Return what tells this schema of this database from every other."""
    row = connection.execute(f"SELECT value FROM \"{schema}\".meta WHERE name = 'id'").fetchone()
    assert row is not None
    return str(row[0])
