"""An order and its job in one transaction, with SQLAlchemy: `python with_sqlalchemy.py postgresql://… place book`, then `… work`."""

from __future__ import annotations

import sys

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from queuekit import JobContext, Queue

DATABASE, *WORDS = sys.argv[1:]
queue = Queue(f"{DATABASE}?migrate=true")
engine = create_engine(DATABASE.replace("postgresql://", "postgresql+psycopg://", 1))


class Base(DeclarativeBase):
    """This application's tables."""


class Order(Base):
    """What somebody bought."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    shipped: Mapped[bool] = mapped_column(default=False)


@queue.job(settle="transaction")
def ship(ctx: JobContext, order: int) -> None:
    with Session(engine) as session, session.begin():
        session.get_one(Order, order).shipped = True
        session.flush()
        ctx.complete(connection=session)  # the order is shipped and the job completed, or neither


def place(item: str, *, card: str) -> None:
    with Session(engine) as session, session.begin():
        order = Order(item=item)
        session.add(order)
        session.flush()  # gives the order its number
        queue.dispatch(ship.job(order.id), connection=session)
        if card == "declined":
            raise SystemExit(f"{item}: the card was declined")  # neither the order nor its job ever was


def work() -> None:
    with queue.worker(concurrency=2):
        queue.drain(timeout=20)
    with Session(engine) as session:
        print("shipped:", *session.scalars(select(Order.item).where(Order.shipped).order_by(Order.item)))


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    try:
        match WORDS:
            case ["place", item, *card]:
                place(item, card=" ".join(card))
            case _:
                work()
    finally:
        queue.close()
        engine.dispose()
