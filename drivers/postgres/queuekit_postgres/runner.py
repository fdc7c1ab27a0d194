"""How statements are run: on a connection of the rack, as transactions of their own or in one, again where they collided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from queuekit.contract import Clock, Patience
from queuekit_postgres.connections import Connections, roll_back
from queuekit_postgres.errors import RETRIED, postgres_errors
from queuekit_postgres.floors import Floors
from queuekit_postgres.statements import Statements
from queuekit_postgres.work import Work

__all__ = ["Runner"]

T = TypeVar("T")
TRIES = 5
"""Times that a transaction is run which the server rolled back because it collided with others."""


class Runner:
    """Runs the statements of one namespace."""

    def __init__(
        self, connections: Connections, sql: Statements, floors: Floors, *, virtual: Clock | None, secret: str | None
    ) -> None:
        self.connections = connections
        self.sql = sql
        self.virtual = virtual
        """A clock that a test moves; None for the server's own."""
        self.ns = 0
        """The namespace's number, once the driver is open."""
        self._floors = floors
        self._secret = secret
        self.base()  # a test's clock counts from the first driver that it is given to

    def errors(self, doing: str, *, sending: bool = False) -> Any:
        """Translate what psycopg raises in the block; `doing` says what for."""
        return postgres_errors(doing, secret=self._secret, sending=sending)

    def _work(self, connection: Any) -> Work:
        return Work(connection, self.sql, self.base(), self._floors.known)

    def base(self) -> dict[str, Any]:
        """Return the parameters that all statements share."""
        return {"ns": self.ns} if self.virtual is None else {"ns": self.ns, "now": _server_time(self.virtual)}

    def statement(
        self, operation: Callable[[Work], T], doing: str, *, sending: bool = False, patience: Patience | None = None
    ) -> T:
        """Run one statement, which is a transaction of its own; repeated where the server asks for that."""
        return self._again(lambda: self._statement(operation, patience), doing, sending=sending)

    def _statement(self, operation: Callable[[Work], T], patience: Patience | None) -> T:
        with self.connections.lend(patience) as connection:
            if patience is not None:
                patience.check()
            return operation(self._work(connection))

    def transaction(
        self, operation: Callable[[Work], T], doing: str, *, sending: bool = False, patience: Patience | None = None
    ) -> T:
        """Run one transaction; repeated where it collided with others, and was provably rolled back."""
        return self._again(lambda: self._transaction(operation, doing, sending=sending, patience=patience), doing)

    def _again(self, run: Callable[[], T], doing: str, *, sending: bool = False) -> T:
        """Run what is provably rolled back when it collides with others, until it does not."""
        with self.errors(doing, sending=sending):
            for _ in range(TRIES - 1):
                try:
                    return run()
                except psycopg.Error as error:
                    if error.sqlstate not in RETRIED:
                        raise
            return run()

    def _transaction(
        self, operation: Callable[[Work], T], doing: str, *, sending: bool, patience: Patience | None
    ) -> T:
        with self.connections.lend(patience) as connection:
            if patience is not None:
                patience.check()
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                result = operation(self._work(connection))
            except BaseException as error:
                roll_back(connection)
                if patience is not None and isinstance(error, psycopg.OperationalError):
                    patience.check()  # its end is why nobody waited longer, and nothing was committed
                raise
            with self.errors(doing, sending=sending):
                connection.execute("COMMIT")
            return result


_starts: WeakKeyDictionary[Clock, float] = WeakKeyDictionary()


def _server_time(clock: Clock) -> float:
    """Return the time of a server for whose clock a test's clock stands: it does not step when this machine's is set."""
    return _starts.setdefault(clock, clock.time() - clock.monotonic()) + clock.monotonic()
