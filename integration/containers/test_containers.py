"""Servers in containers: `nox -s containers` runs this, and fails where Docker does not answer.

QUEUEKIT_TEST_IMAGES says which: `name-version=image`, separated by blanks; without it, the images that the servers' makers publish.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit_integration.servers import ContainerServer, Kind, Postgres, RabbitMQ, Redis

KINDS = {"redis": Redis, "valkey": lambda: Redis(program="valkey-server"), "postgres": Postgres, "rabbitmq": RabbitMQ}
PUBLISHED = "redis-7.0=redis:7.0 redis-8.0=redis:8.0 valkey-8.1=valkey/valkey:8.1 postgres-15=postgres:15 postgres-17=postgres:17 rabbitmq-4.0=rabbitmq:4.0"
IMAGES = dict(pair.split("=", 1) for pair in os.environ.get("QUEUEKIT_TEST_IMAGES", PUBLISHED).split())


def kind_of(name: str) -> Kind:
    return KINDS[name.partition("-")[0]]()


@pytest.fixture(params=IMAGES)
def server(request) -> Iterator[ContainerServer]:
    made = ContainerServer(kind_of(request.param), IMAGES[request.param])
    made.start()
    yield made
    made.close()


def answers(server: ContainerServer) -> bool:
    return server.kind.answers(server.host, server.port)


def wait(predicate) -> None:
    end = time.monotonic() + 30
    while not predicate():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_it_stops_dies_freezes_and_comes_back_on_its_port(server):
    port = server.port
    for harm in (server.stop, server.kill, server.freeze):
        harm()
        assert harm == server.freeze or not answers(server)
        server.heal()
        assert answers(server), harm.__name__
    server.restart(wipe=True)
    assert answers(server)
    assert server.port == port


OWNER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_containers import IMAGES, kind_of
from queuekit_integration.servers import ContainerServer
name = next(iter(IMAGES))
server = ContainerServer(kind_of(name), IMAGES[name])
server.start()
print(server.port, flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_ends_with_its_owner():
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", OWNER, here], stdout=subprocess.PIPE, text=True, check=False)
    port = int(done.stdout)
    kind = kind_of(next(iter(IMAGES)))
    wait(lambda: not kind.answers("127.0.0.1", port))
