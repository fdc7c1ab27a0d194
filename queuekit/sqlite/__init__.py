"""The SQLite driver: durable jobs in one file, shared by the processes of one machine, no server needed."""

from queuekit.sqlite.driver import SqliteDriver

__all__ = ["SqliteDriver"]
