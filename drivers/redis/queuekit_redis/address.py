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

from queuekit.contract import (
    ConfigurationError,
    Url,
    check_certificates,
    read_flag,
    read_number,
    read_whole,
    refuse,
    seconds,
    whole,
)

__all__ = ["Settings", "Source", "address_of", "settings_of", "source_of_client", "source_of_url"]

TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
TIMES = ("connect_timeout", "socket_timeout", "pool_timeout", "poll_interval", "health_interval")
OPTIONS = {"db", "cluster", "nodes", "sentinel", "sentinels", "sentinel_password", "socket", "pool_size", *TIMES, *TLS}
"""What may stand behind the question mark of a URL."""
SCHEMES = ("redis", "rediss", "valkey", "valkeys")
TLS_SCHEMES = ("rediss", "valkeys")
CERT_REQS = ("none", "optional", "required")
NEEDS = {"nodes": "cluster=true", "sentinels": "sentinel", "sentinel_password": "sentinel"}
"""Options that mean nothing without another."""
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
            object.__setattr__(self, name, seconds(name, getattr(self, name), zero=False))
        whole("pool_size", self.pool_size, least=1)


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
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    beside = ", not the asyncio one: async handlers need none of their own" if "asyncio" in kind else ""
    message = f"client={kind} is refused: give a redis.Redis or redis.cluster.RedisCluster{beside}"
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


def address_of(address: str | Url) -> Url:
    """Return an address that this driver understands; raises `ConfigurationError` for any other."""
    url = address if isinstance(address, Url) else Url.parse(address)
    if url.scheme not in SCHEMES:
        message = f"{url} is no address of a Redis server: write redis://host:6379/0, or rediss:// for TLS"
        raise ConfigurationError(message)
    url.refuse_unknown(OPTIONS)
    return url


def source_of_url(url: Url, namespace: str, settings: Settings) -> Source:
    """Return the source that a URL names; touches no server."""
    options = url.options
    way = _way(url)
    common = _common(url, settings)
    server = str(url)
    if way == "sentinel":
        nodes = _nodes(url, "sentinels", DEFAULT_PORTS["sentinel"])
        return ServerSource(server, lambda: _by_sentinel(nodes, options, common), settings)
    if way == "cluster":
        if common.pop("db", 0):
            message = f"{server}: a cluster has database 0 alone; leave the database out"
            raise ConfigurationError(message)
        node: Any = ClusterNode
        start = [node(host, port) for host, port in _nodes(url, "nodes", DEFAULT_PORTS["server"])]
        return ClusterSource(server, lambda: RedisCluster(startup_nodes=start, **common), _slot(namespace), settings)
    if way == "socket":
        return ServerSource(server, lambda: redis.Redis(unix_socket_path=options["socket"], **common), settings)
    host, port = url.host or "localhost", url.port or DEFAULT_PORTS["server"]
    return ServerSource(server, lambda: redis.Redis(host=host, port=port, **common), settings)


def _way(url: Url) -> str:
    """Return which option leads to the server: `sentinel`, `cluster`, `socket`, or none.

    Raises for two of them, and for options that mean nothing on that way.
    """
    ways = [name for name in ("sentinel", "socket") if name in url.options]
    if "cluster" in url.options and read_flag("cluster", url.options["cluster"]):
        ways.append("cluster")
    if len(ways) > 1:
        raise ConfigurationError(f"{url}: {' and '.join(ways)} exclude each other; give one of them")
    way = ways[0] if ways else ""
    if way in {"sentinel", "socket"} and not url.options[way]:
        what = "the primary's name" if way == "sentinel" else "the socket's path"
        raise refuse(way, "", f"give {what}")
    if way == "socket" and url.scheme in TLS_SCHEMES:
        raise ConfigurationError(f"{url}: a Unix socket has no TLS; write redis:// instead of {url.scheme}://")
    for name, other in NEEDS.items():
        if name in url.options and way != other.partition("=")[0]:
            raise ConfigurationError(f"{url}: {name} means nothing without {other}; give that too, or leave it out")
    return way


def settings_of(url: Url) -> Settings:
    """Return the time limits that a URL's options state."""
    readers: dict[str, Callable[[str, str], Any]] = {**dict.fromkeys(TIMES, read_number), "pool_size": read_whole}
    return Settings(**{name: read(name, url.options[name]) for name, read in readers.items() if name in url.options})


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
    if url.scheme in TLS_SCHEMES:
        common |= {"ssl": True, **_tls(url.options)}
    elif tls := [name for name in TLS if name in url.options]:
        message = f"{url}: {', '.join(tls)} needs TLS: write rediss:// instead of {url.scheme}://"
        raise ConfigurationError(message)
    return common


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    """Return what the client is told of TLS; raises for what would show at each connection, as a server that is away."""
    tls: dict[str, Any] = {name: options[name] for name in TLS if name in options}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = read_flag("ssl_check_hostname", tls["ssl_check_hostname"])
    if tls.get("ssl_cert_reqs", "none") not in CERT_REQS:
        raise refuse("ssl_cert_reqs", tls["ssl_cert_reqs"], f"give one of {', '.join(CERT_REQS)}")
    check_certificates(
        authorities=("ssl_ca_certs", tls.get("ssl_ca_certs")),
        certificate=("ssl_certfile", tls.get("ssl_certfile")),
        key=("ssl_keyfile", tls.get("ssl_keyfile")),
    )
    return tls


def _database(url: Url) -> int:
    path = url.path.strip("/")
    if path and "db" in url.options:
        raise ConfigurationError(f"{url}: the database stands in the path and in db=; leave one of them out")
    text = path or url.options.get("db", "0")
    if not (text.isascii() and text.isdecimal()):
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
