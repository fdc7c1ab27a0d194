"""Jobs in the application's own transaction: what it commits is dispatched, what it rolls back never was."""

from __future__ import annotations

import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings
from django.db import connection as django_connection
from django.db import transaction
from psycopg.rows import dict_row
from sqlalchemy import orm

from queuekit import ConfigurationError, Job, Queue
from queuekit.contract import Done


@pytest.fixture
def queue(make):
    driver = make()
    queue = Queue(driver, namespace=driver.namespace)
    queue.open()
    yield queue
    queue.close()


def pending(queue) -> int:
    return queue.stats().pending


def fail_after_dispatch(queue, connection):
    queue.dispatch(Job("t"), connection=connection)
    raise RuntimeError


def test_psycopg(queue, postgres):
    with psycopg.connect(postgres.url()) as connection:
        queue.dispatch(Job("t"), connection=connection)
        connection.rollback()
        assert pending(queue) == 0
        queue.dispatch(Job("t"), connection=connection)
        assert pending(queue) == 0
        connection.commit()
    assert pending(queue) == 1


def test_sqlalchemy(queue, postgres):
    engine = sqlalchemy.create_engine(postgres.url().replace("postgresql://", "postgresql+psycopg://"))
    with orm.Session(engine) as session:
        queue.dispatch(Job("t"), connection=session)
        session.rollback()
        assert pending(queue) == 0
        queue.dispatch(Job("t"), connection=session)
        assert pending(queue) == 0
        session.commit()
    assert pending(queue) == 1
    with pytest.raises(RuntimeError), engine.begin() as connection:
        fail_after_dispatch(queue, connection)
    assert pending(queue) == 1
    with engine.begin() as connection:
        queue.dispatch(Job("t"), connection=connection)
    assert pending(queue) == 2
    engine.dispose()


def test_django(queue, postgres):
    with psycopg.connect(postgres.url()) as plain:
        at = {"NAME": plain.info.dbname, "USER": plain.info.user, "HOST": plain.info.host, "PORT": plain.info.port}
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **at}}, INSTALLED_APPS=[])
    django.setup()
    with pytest.raises(ConfigurationError, match="atomic"):
        queue.dispatch(Job("t"), connection=django_connection)
    with pytest.raises(RuntimeError), transaction.atomic():
        fail_after_dispatch(queue, django_connection)
    assert pending(queue) == 0
    with transaction.atomic():
        queue.dispatch(Job("t"), connection=django_connection)
        assert pending(queue) == 0
    assert pending(queue) == 1
    django_connection.close()


def test_rows_may_be_whatever_the_application_prefers(queue, postgres):
    with psycopg.connect(postgres.url(), row_factory=dict_row) as connection:
        assert queue.dispatch(Job("t", unique_for=60), connection=connection).created
        assert not queue.dispatch(Job("t", unique_for=60), connection=connection).created
        connection.commit()
        [lent] = queue.driver.claim(["default"], limit=1, lease=10)
        queue.driver.settle_in(connection, [Done(lent)])
    assert queue.get(lent.message.id).state == "completed"


def test_foreign_connections_are_refused(queue, postgres):
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        with pytest.raises(ConfigurationError, match="transaction"):
            queue.dispatch(Job("t"), connection=connection)
        connection.execute("CREATE DATABASE elsewhere")
    with (
        psycopg.connect(postgres.url().rpartition("/")[0] + "/elsewhere") as connection,
        pytest.raises(ConfigurationError, match="another database"),
    ):
        queue.dispatch(Job("t"), connection=connection)
    with pytest.raises(ConfigurationError, match="psycopg"):
        queue.dispatch(Job("t"), connection=object())
    assert pending(queue) == 0
