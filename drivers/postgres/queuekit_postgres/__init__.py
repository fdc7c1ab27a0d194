"""queuekit on PostgreSQL: an engine with every feature, in the database that the application already has."""

from queuekit_postgres.driver import PostgresDriver

__all__ = ["PostgresDriver"]
