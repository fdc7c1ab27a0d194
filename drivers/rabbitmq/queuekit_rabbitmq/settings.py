"""Where the broker is and how to use it: the address's parts and options, checked once."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pika

from queuekit.contract import (
    ConfigurationError,
    DriverRejected,
    Url,
    check_certificates,
    flag,
    read_number,
    read_whole,
    refuse,
    seconds,
    whole,
)

__all__ = ["Settings"]

PORT, TLS_PORT = 5672, 5671
WHOLE = {"heartbeat": 65_535, "delivery_limit": None, "window": None}
"""Options that are whole numbers from 1 on, and the most of each; the heartbeat travels in 16 bits."""
SECONDS = ("consumer_timeout", "delay_unit", "connect_timeout", "confirm_timeout", "new_queue_wait")
TLS = ("cafile", "certfile", "keyfile")
OPTIONS = {"queue_type", *WHOLE, *SECONDS, *TLS}
"""What may stand behind the question mark of an address."""
QUEUE_TYPES = ("quorum", "classic")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the driver reaches and uses a broker."""

    hosts: tuple[tuple[str, int], ...] = (("localhost", PORT),)
    """Nodes of one cluster; they are tried in this order."""
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: bool = False
    cafile: str | None = None
    """Trusted certificates; None: the system's."""
    certfile: str | None = None
    """The client's own certificate, and `keyfile` its key."""
    keyfile: str | None = None
    heartbeat: int = 15
    """Seconds; a peer that is silent for two of them is taken for dead, so a dead worker's jobs run again within 45 s."""
    queue_type: str = "quorum"
    """`quorum` (replicated, counts deliveries) or `classic`."""
    delivery_limit: int = 100
    """Deliveries after which the broker itself sets a message of a quorum queue aside: whatever else fails, poison ends."""
    consumer_timeout: float = 1800.0
    """What the broker's `consumer_timeout` is set to, in seconds: it closes the channel of a handler that runs longer."""
    delay_unit: float = 0.05
    """Seconds of the finest step of a delay; delays are rounded up to it."""
    window: int = 1000
    """Publishes that may wait for their confirms at once."""
    connect_timeout: float = 5.0
    confirm_timeout: float = 30.0
    """Seconds that a `send` without patience of its own waits for confirms."""
    new_queue_wait: float = 1.25
    """Seconds before anything is sent to a quorum queue that was just made: a node that is killed sooner may forget what it had confirmed."""

    def __post_init__(self) -> None:
        if self.queue_type not in QUEUE_TYPES:
            raise refuse("queue_type", self.queue_type, "give 'quorum' or 'classic'")
        for name, most in WHOLE.items():
            whole(name, getattr(self, name), least=1, most=most)
        for name in SECONDS:
            checked = seconds(name, getattr(self, name), zero=name == "new_queue_wait")
            object.__setattr__(self, name, checked)
        flag("tls", self.tls)
        self._check_tls()

    def _check_tls(self) -> None:
        given = [name for name in TLS if getattr(self, name) is not None]
        if given and not self.tls:
            message = f"{', '.join(given)} needs TLS: write amqps:// instead of amqp:// (Settings: tls=True)"
            raise ConfigurationError(message)
        check_certificates(
            authorities=("cafile", self.cafile), certificate=("certfile", self.certfile), key=("keyfile", self.keyfile)
        )

    @classmethod
    def of(cls, given: Settings | Url | str | None) -> Settings:
        """Return settings as they are given: made already, or as an address; None: the broker of this machine."""
        if given is None or isinstance(given, Settings):
            return given or cls()
        return cls.from_url(given if isinstance(given, Url) else Url.parse(given))

    @classmethod
    def from_url(cls, url: Url) -> Settings:
        """Read an address: `amqp://user:password@host:port,host:port/vhost?heartbeat=15`."""
        if url.scheme not in {"amqp", "amqps"}:
            message = f"{url} is no address of a RabbitMQ broker: write amqp://user:password@host/, or amqps:// for TLS"
            raise ConfigurationError(message)
        url.refuse_unknown(OPTIONS, several_hosts=True)
        tls = url.scheme == "amqps"
        usual = TLS_PORT if tls else PORT
        return cls(
            hosts=tuple((host or "localhost", port or usual) for host, port in url.hosts),
            vhost=url.path[1:] or "/",
            user="guest" if url.user is None else url.user,
            password="guest" if url.password is None else url.password,
            tls=tls,
            **_options(url),
        )

    def parameters(self, host: str, port: int, *, role: str) -> pika.ConnectionParameters:
        """Return pika's description of a connection to one node."""
        return pika.ConnectionParameters(
            host=host,
            port=port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
            heartbeat=self.heartbeat,
            connection_attempts=1,
            socket_timeout=self.connect_timeout,
            stack_timeout=self.connect_timeout,
            ssl_options=self._ssl(host) if self.tls else None,
            client_properties={"connection_name": f"queuekit {role}", "product": "queuekit"},
        )

    def _ssl(self, host: str) -> pika.SSLOptions:
        try:
            context = ssl.create_default_context(cafile=self.cafile)
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile, password="")
        except OSError as error:
            # They were good when the driver was built; before anything was asked of the broker.
            files = ", ".join(f"{name}={getattr(self, name)!r}" for name in TLS if getattr(self, name) is not None)
            message = f"the certificates of {self} cannot be used any more ({error}): look at {files}"
            raise DriverRejected(message) from error
        return pika.SSLOptions(context, host)

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts) + f" (virtual host {self.vhost})"


def _options(url: Url) -> dict[str, Any]:
    readers: dict[str, Callable[[str, str], Any]] = {
        **dict.fromkeys(WHOLE, read_whole),
        **dict.fromkeys(SECONDS, read_number),
    }
    return {name: readers[name](name, text) if name in readers else text for name, text in url.options.items()}
