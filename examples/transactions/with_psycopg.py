"""An order and its job in one transaction, with psycopg: `python with_psycopg.py postgresql://… place book`, then `… work`."""

from __future__ import annotations

import sys

import psycopg

from queuekit import JobContext, Queue

DATABASE, *WORDS = sys.argv[1:]
queue = Queue(f"{DATABASE}?migrate=true")


@queue.job(settle="transaction")
def ship(ctx: JobContext, order: int) -> None:
    with psycopg.connect(DATABASE) as connection:  # commits at its end, and rolls back on an error
        connection.execute("UPDATE orders SET shipped = true WHERE id = %s", (order,))
        ctx.complete(connection=connection)  # the order is shipped and the job completed, or neither


def place(item: str, *, card: str) -> None:
    with psycopg.connect(DATABASE) as connection:
        row = connection.execute("INSERT INTO orders (item) VALUES (%s) RETURNING id", (item,)).fetchone()
        assert row is not None
        queue.dispatch(ship.job(row[0]), connection=connection)
        if card == "declined":
            raise SystemExit(f"{item}: the card was declined")  # neither the order nor its job ever was


def work() -> None:
    with queue.worker(concurrency=2):
        queue.drain(timeout=20)
    with psycopg.connect(DATABASE) as connection:
        shipped = connection.execute("SELECT item FROM orders WHERE shipped ORDER BY item").fetchall()
    print("shipped:", *(item for (item,) in shipped))


if __name__ == "__main__":
    with queue, psycopg.connect(DATABASE) as setup:
        setup.execute(
            "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text, shipped bool DEFAULT false)"
        )
        setup.commit()
        match WORDS:
            case ["place", item, *card]:
                place(item, card=" ".join(card))
            case _:
                work()
