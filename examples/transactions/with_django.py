"""An order and its job in one transaction, with Django: `python with_django.py postgresql://… place book`, then `… work`.

A project has its settings, models and migrations in files of their own; here they stand together.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.db import connection, connections, models, transaction

from queuekit import JobContext, Queue

DATABASE, *WORDS = sys.argv[1:]
at = urlsplit(DATABASE)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": at.path.strip("/"),
            "USER": at.username,
            "PASSWORD": at.password,
            "HOST": at.hostname,
            "PORT": at.port,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
queue = Queue(f"{DATABASE}?migrate=true")
queue.on_job_end(
    lambda _: connections.close_all()
)  # Django's connections belong to threads, and a worker's threads live long


class Order(models.Model):  # noqa: DJ008 - nobody prints an order
    """What somebody bought."""

    item = models.TextField()
    shipped = models.BooleanField(default=False)

    class Meta:
        """Where its table is."""

        app_label = "shop"


@queue.job(settle="transaction")
def ship(ctx: JobContext, order: int) -> None:
    with transaction.atomic():
        Order.objects.filter(id=order).update(shipped=True)
        ctx.complete(connection=connection)  # the order is shipped and the job completed, or neither


def place(item: str, *, card: str) -> None:
    with transaction.atomic():
        order = Order.objects.create(item=item)
        queue.dispatch(ship.job(order.id), connection=connection)
        if card == "declined":
            raise SystemExit(f"{item}: the card was declined")  # neither the order nor its job ever was


def work() -> None:
    with queue.worker(concurrency=2):
        queue.drain(timeout=20)
    print("shipped:", *Order.objects.filter(shipped=True).order_by("item").values_list("item", flat=True))


if __name__ == "__main__":
    if "shop_order" not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)
    try:
        match WORDS:
            case ["place", item, *card]:
                place(item, card=" ".join(card))
            case _:
                work()
    finally:
        queue.close()
        connections.close_all()
