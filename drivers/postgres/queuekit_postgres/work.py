"""One piece of work on one connection: the statements by name, with the parameters that all of them share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID

from queuekit_postgres.floors import NOTHING, Known
from queuekit_postgres.statements import Statements


class Executes(Protocol):
    """What runs a statement: a connection of the driver's, or a cursor of the application's."""

    def execute(self, query: Any, params: Any = None) -> Any:
        """Run one statement."""
        ...


class Work:
    """Statements on one connection, inside whatever transaction it is in."""

    __slots__ = ("base", "connection", "known", "left", "sql")

    def __init__(self, connection: Any, sql: Statements, base: dict[str, Any], known: Known = NOTHING) -> None:
        self.connection = connection
        self.sql = sql
        self.base = base
        self.known = known
        """What statements that claim need not read."""
        self.left: set[str] = set()
        """Queues whose waiting claims must look again when this is committed."""

    def run(self, name: str, **values: Any) -> Any:
        """Run a statement and return its cursor."""
        return self.connection.execute(self.sql[name], {**self.base, **values}, binary=True)

    def rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        found: list[tuple[Any, ...]] = self.run(name, **values).fetchall()
        return found

    def lock(self, names: Iterable[bytes | None]) -> None:
        """Take the locks of keys and limits (their digests) until the transaction ends."""
        numbers = sorted({self._number(name) for name in names if name is not None})
        if numbers:
            self.run("lock_names", names=numbers)

    def _number(self, name: bytes) -> int:
        """Return the advisory lock's number, different in each namespace."""
        text = b"%d %s" % (self.base["ns"], name)
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


class ForeignWork(Work):
    """Statements through a cursor of the application's own, whatever its library."""

    __slots__ = ()

    def run(self, name: str, **values: Any) -> Any:
        """Run a statement and return the cursor."""
        self.connection.execute(self.sql[name], {**self.base, **values})
        return self.connection


def listed(ids: Sequence[object]) -> str:
    """Return ids or numbers as an array literal: cheaper than adapting them one by one."""
    return f"{{{','.join(map(str, ids))}}}"


def quoted(texts: Sequence[str]) -> str:
    """Return texts as an array literal: likewise."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return listed([f'"{text}"' for text in escaped])


def uuids(ids: Sequence[str]) -> list[str]:
    """Return those ids that are UUIDs in canonical form: no job has another."""
    return [id for id in ids if _is_uuid(id)]


def _is_uuid(id: str) -> bool:
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False
