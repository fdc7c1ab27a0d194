"""Threads share transactions, and a thread may be interrupted at any moment: by Ctrl-C, or by its handler's timeout."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.contract import Message
from queuekit.ids import new_id
from queuekit.sqlite import SqliteDriver


def message() -> Message:
    return Message(new_id(), "default", "t", "{}")


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[SqliteDriver]:
    made = SqliteDriver(str(tmp_path / "jobs.db"))
    made.open()
    yield made
    made.close()


def test_an_interruption_behind_begin_leaves_no_transaction_open(
    driver: SqliteDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lock the file for every process, for as long as this one lives."""
    writer, real = driver._writer, driver._writer._begin

    def begin(connection: sqlite3.Connection, patience: Any) -> None:
        real(connection, patience)
        monkeypatch.setattr(writer, "_begin", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_begin", begin)
    with pytest.raises(KeyboardInterrupt):
        driver.send([message()])
    driver.send([message()])
    assert driver.count(["default"])[0].pending == 1


class Wishes(deque[Any]):
    """Interrupts whoever takes from it, once."""

    armed = True

    def popleft(self) -> Any:
        found = super().popleft()
        if self.armed and not self:
            self.armed = False
            raise KeyboardInterrupt
        return found


@pytest.mark.parametrize("where", ["taking", "writing"])
def test_who_shares_a_transaction_with_one_who_is_interrupted_is_stored_when_told_so(
    driver: SqliteDriver, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    writer, real = driver._writer, driver._writer._transaction
    writer._wishes = Wishes()
    writer._wishes.armed = where == "taking"
    first, second = message(), message()

    def transaction(*arguments: Any) -> Any:
        monkeypatch.setattr(writer, "_transaction", real)
        raise KeyboardInterrupt

    if where == "writing":
        monkeypatch.setattr(writer, "_transaction", transaction)
    interrupted: list[BaseException] = []

    def send(one: Message) -> None:
        try:
            driver.send([one])
        except KeyboardInterrupt as error:
            interrupted.append(error)

    threads = [threading.Thread(target=send, args=(one,)) for one in (first, second)]
    with writer._lock:
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(writer._wishes) < number:
                pass
    for thread in threads:
        thread.join(10)
    assert len(interrupted) == 1, "the interruption was swallowed"
    stored = [record is not None for record in driver.get([first.id, second.id])]
    assert sum(stored) >= 1
    assert stored.count(False) <= len(interrupted), "a dispatch returned, and its job is not there"
