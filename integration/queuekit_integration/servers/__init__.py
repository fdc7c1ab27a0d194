"""Real servers for tests: found by an address from the environment, else started from the machine's programs, else in containers.

`server(Redis())` gives the one that this process's tests share: it starts at the first use and ends with the process, also after a
Ctrl-C or a kill -9. Every process has its own, each worker of pytest-xdist too, so that one test's faults hit no
other's; within a process tests run one after the other. A scenario that needs a server of its own builds a `ProcessServer`.
"""

from queuekit_integration.servers.base import CannotCauseError, Contained, Fault, Kind, Server, ServerError
from queuekit_integration.servers.container import ContainerServer
from queuekit_integration.servers.given import GivenServer
from queuekit_integration.servers.pgbouncer import PgBouncer
from queuekit_integration.servers.ports import free_port
from queuekit_integration.servers.postgres import Postgres
from queuekit_integration.servers.process import ProcessServer
from queuekit_integration.servers.providers import close_servers, server
from queuekit_integration.servers.rabbitmq import RabbitMQ
from queuekit_integration.servers.redis import Redis
from queuekit_integration.servers.sqs import LocalStack, Roto

__all__ = [
    "CannotCauseError",
    "Contained",
    "ContainerServer",
    "Fault",
    "GivenServer",
    "Kind",
    "LocalStack",
    "PgBouncer",
    "Postgres",
    "ProcessServer",
    "RabbitMQ",
    "Redis",
    "Roto",
    "Server",
    "ServerError",
    "close_servers",
    "free_port",
    "server",
]
