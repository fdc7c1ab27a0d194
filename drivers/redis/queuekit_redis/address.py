"""The address: from a URL's options, or a client that the application made, to where connections come from."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import AbstractConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from queuekit.contract import ConfigurationError, Url

__all__ = ["OPTIONS", "Settings", "Source", "source_of_client", "source_of_url"]

TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
TIMES = ("connect_timeout", "socket_timeout", "pool_timeout", "poll_interval", "health_interval")
OPTIONS = {"db", "cluster", "nodes", "sentinel", "sentinels", "sentinel_password", "socket", "pool_size", *TIMES, *TLS}
"""What may stand behind the question mark of a URL."""
DEFAULT_TIMEOUT = inspect.signature(AbstractConnection.__init__).parameters["socket_timeout"].default
"""The client library's own: none before its version 8."""
DEFAULT_PORTS = {"sentinel": 26379, "server": 6379}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Time limits in seconds, and how many connections."""

    connect_timeout: float = 5.0
    """Until the server has accepted a connection, and until it has answered each step of the greeting."""
    socket_timeout: float = 5.0
    """Until the server has answered; after it the connection counts as dead."""
    pool_size: int = 100
    """The most connections besides those on which claims wait."""
    pool_timeout: float = 5.0
    """How long a verb waits for a connection when all are in use."""
    poll_interval: float = 1.0
    """An idle `claim` looks at least this often, whatever bells it may have missed."""
    health_interval: float = 10.0
    """A connection that was idle for longer proves with a PING that it is alive before it carries anything."""

    def __post_init__(self) -> None:
        for name in TIMES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                message = f"{name}={value!r} ({type(value).__name__}) is refused: give a number of seconds above 0"
                raise ConfigurationError(message)
        if isinstance(self.pool_size, bool) or not isinstance(self.pool_size, int) or self.pool_size < 1:
            message = f"pool_size={self.pool_size!r} is refused: give a whole number of connections, at least 1"
            raise ConfigurationError(message)


class Source(Protocol):
    """Where connections to the server that has the namespace's keys come from."""

    server: str
    """The server as errors name it; without credentials."""

    def connection(self) -> Any:
        """Return a new connection of the client library, not yet connected; may ask where the keys are."""
        ...

    def refresh(self) -> None:
        """Forget where the keys were: the server said that they are elsewhere."""
        ...

    def client(self) -> Any:
        """Return the client of the client library."""
        ...


class ServerSource:
    """One server, or the primary that Sentinel names."""

    def __init__(self, server: str, make: Callable[[], redis.Redis], settings: Settings) -> None:
        self.server = server
        self._make = make
        self._settings = settings
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None

    def client(self) -> redis.Redis:
        """Return the client; made at first use."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def connection(self) -> Any:
        """Return a connection with the client's own settings, outside of its pool."""
        return _connection(self.client().connection_pool, self._settings)

    def refresh(self) -> None:
        """Do nothing: a Sentinel connection asks for the primary whenever it connects."""


class ClusterSource:
    """The node of a cluster that has the namespace's slot."""

    def __init__(self, server: str, make: Callable[[], RedisCluster], slot: int, settings: Settings) -> None:
        self.server = server
        self._make = make
        self._slot = slot
        self._settings = settings
        self._lock = threading.Lock()
        self._client: RedisCluster | None = None

    def client(self) -> RedisCluster:
        """Return the client; made, and the cluster's nodes asked for, at first use."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def connection(self) -> Any:
        """Return a connection to the slot's primary."""
        cluster = self.client()
        node = cluster.nodes_manager.get_node_from_slot(self._slot)
        return _connection(cluster.get_redis_connection(node).connection_pool, self._settings)

    def refresh(self) -> None:
        """Ask the cluster anew which node has which slots."""
        self.client().nodes_manager.initialize()


def source_of_client(client: Any, namespace: str, settings: Settings) -> Source:
    """Return the source of a client that the application made."""
    if isinstance(client, RedisCluster):
        _refuse_endless("client=RedisCluster", client.nodes_manager.connection_kwargs)
        return ClusterSource("the given Redis cluster", lambda: client, _slot(namespace), settings)
    if isinstance(client, redis.Redis):
        pool = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            for sentinel in pool.sentinel_manager.sentinels:
                _refuse_endless("a client of Sentinel", sentinel.connection_pool.connection_kwargs)
        return ServerSource("the given Redis server", lambda: client, settings)
    message = f"client={type(client).__name__} is refused: give a redis.Redis or redis.cluster.RedisCluster"
    raise ConfigurationError(message)


def _connection(pool: Any, settings: Settings) -> Any:
    """Return a new connection as this pool makes them, but for retries: the driver alone knows what may be repeated, and for how long.

    One without a time limit gets the driver's: half open, it would be waited for for ever.
    """
    limits = {"socket_timeout": settings.socket_timeout, "socket_connect_timeout": settings.connect_timeout}
    missing = {name: limit for name, limit in limits.items() if pool.connection_kwargs.get(name) is None}
    return pool.connection_class(**{**pool.connection_kwargs, **missing, "retry": Retry(NoBackoff(), 0)})


def _refuse_endless(what: str, options: Mapping[str, Any]) -> None:
    """Raise for a client that asks by itself where the keys are, and waits for the answer for ever."""
    if options.get("socket_timeout", DEFAULT_TIMEOUT) is None:
        message = f"{what} without socket_timeout is refused: a connection that is half open would be waited for for ever; give it, in seconds"
        raise ConfigurationError(message)


def source_of_url(url: Url, namespace: str, settings: Settings) -> Source:
    """Return the source that a URL names; touches no server."""
    options = url.options
    common = _common(url, settings)
    server = str(url)
    if "sentinel" in options:
        nodes = _nodes(url, "sentinels", DEFAULT_PORTS["sentinel"])
        return ServerSource(server, lambda: _by_sentinel(nodes, options, common), settings)
    if options.get("cluster", "false") not in {"false", "0"}:
        if common.pop("db", 0):
            message = f"{server}: a cluster has database 0 alone; leave the database out"
            raise ConfigurationError(message)
        node: Any = ClusterNode
        start = [node(host, port) for host, port in _nodes(url, "nodes", DEFAULT_PORTS["server"])]
        return ClusterSource(server, lambda: RedisCluster(startup_nodes=start, **common), _slot(namespace), settings)
    if "socket" in options:
        return ServerSource(server, lambda: redis.Redis(unix_socket_path=options["socket"], **common), settings)
    host, port = url.host or "localhost", url.port or DEFAULT_PORTS["server"]
    return ServerSource(server, lambda: redis.Redis(host=host, port=port, **common), settings)


def settings_of(url: Url) -> Settings:
    """Return the time limits that a URL's options state."""
    values: dict[str, Any] = {name: _number(name, url.options[name]) for name in TIMES if name in url.options}
    if "pool_size" in url.options:
        values["pool_size"] = int(_number("pool_size", url.options["pool_size"]))
    return Settings(**values)


def _common(url: Url, settings: Settings) -> dict[str, Any]:
    """Return what every kind of client is told. The client's own retries are off: the driver alone knows what may be repeated."""
    common: dict[str, Any] = {
        "username": url.user or None,
        "password": url.password,
        "socket_timeout": settings.socket_timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "db": _database(url),
        "client_name": "queuekit",
    }
    tls = {name: url.options[name] for name in TLS if name in url.options}
    if url.scheme in {"rediss", "valkeys"}:
        if "ssl_check_hostname" in tls:
            tls["ssl_check_hostname"] = tls["ssl_check_hostname"] not in {"false", "0", "no"}  # type: ignore[assignment]
        common |= {"ssl": True, **tls}
    elif tls:
        message = f"{url}: {', '.join(tls)} needs TLS: write rediss:// instead of {url.scheme}://"
        raise ConfigurationError(message)
    return common


def _database(url: Url) -> int:
    text = url.path.strip("/") or url.options.get("db", "0")
    if not text.isdecimal():
        message = f"{url}: {text!r} is no database number; write {url.scheme}://host:port/0"
        raise ConfigurationError(message)
    return int(text)


def _nodes(url: Url, option: str, port: int) -> list[tuple[str, int]]:
    """Return the address's own host and those that an option lists, as in `nodes=host2:7001,host3:7002`."""
    found = [(url.host or "localhost", url.port or port)]
    for part in filter(None, url.options.get(option, "").split(",")):
        host, _, number = part.rpartition(":") if ":" in part else (part, "", str(port))
        if not host or not number.isdecimal():
            message = f"{option}={part!r} is refused: list hosts as host:port, separated by commas"
            raise ConfigurationError(message)
        found.append((host, int(number)))
    return found


def _by_sentinel(nodes: list[tuple[str, int]], options: Mapping[str, str], common: dict[str, Any]) -> redis.Redis:
    """Return a client that asks the sentinels for the primary whenever it connects."""
    own = {name: value for name, value in common.items() if name not in {"username", "password", "db"}}
    make: Any = Sentinel
    sentinel = make(nodes, sentinel_kwargs={**own, "password": options.get("sentinel_password")}, **common)
    client: redis.Redis = sentinel.master_for(options["sentinel"], **common)
    return client


def _slot(namespace: str) -> int:
    return int(key_slot(namespace.encode(), REDIS_CLUSTER_HASH_SLOTS))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        message = f"{name}={text!r} is refused: give a number"
        raise ConfigurationError(message) from None
