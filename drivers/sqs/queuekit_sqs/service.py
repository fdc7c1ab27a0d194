"""The service behind one boto3 client: every request goes through `call`, which maps errors and rides out throttling."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config

from queuekit.contract import DriverError
from queuekit_sqs.errors import EXPIRED, Fate, code_of, fate_of, translated
from queuekit_sqs.settings import Settings

__all__ = ["RequestError", "Service"]

MODELS = botocore.loaders.Loader()
"""Descriptions of the services, read once a process: that is nine tenths of what a client costs."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries while the service throttles: doubling, with jitter that only adds."""


class RequestError(Exception):
    """A request failed for good: what that means, and what became of the request."""

    def __init__(self, meaning: DriverError, fate: Fate) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning
        self.fate = fate


class Service:
    """A client that any thread may use. `requests` counts what was sent, by operation: requests cost money."""

    def __init__(self, settings: Settings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._lock = threading.Lock()
        self._client: Any = None
        self.requests: Counter[str] = Counter()

    def connect(self) -> None:
        """Build the client; sends nothing. Raises `RequestError` when no region is to be found."""
        with self._lock:
            try:
                self._client = self._make()
            except Exception as error:
                raise RequestError(translated(error, doing="connecting"), "refused") from error

    def _make(self) -> Any:
        settings = self._settings
        models = botocore.session.get_session()
        models.register_component("data_loader", MODELS)
        session = boto3.session.Session(botocore_session=models, region_name=settings.region, **settings.credentials)
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},  # what may be repeated is decided here, not below
            parameter_validation=False,  # every bound is checked before; looking again took a fifth of a request's time
            max_pool_connections=self._connections,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout + settings.poll,
            tcp_keepalive=True,
            user_agent_extra="queuekit",
        )
        return session.client("sqs", endpoint_url=settings.endpoint, config=config)

    @property
    def client(self) -> Any:
        """The client; of newer credentials once the old ones have expired."""
        return self._client

    def call(self, operation: str, *, doing: str, patience: float | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one request, again while the service turns it away, for `patience` seconds at most; return its answer.

        What may have been applied is never repeated. Raises `RequestError`.
        """
        end = time.monotonic() + (self._settings.patience if patience is None else patience)
        pause = FIRST_PAUSE
        while True:
            try:
                return self._once(operation, parameters)
            except Exception as error:
                fate = fate_of(error)
                left = end - time.monotonic()
                if fate != "throttled" or left <= 0:
                    raise RequestError(translated(error, doing=doing), fate) from error
                if code_of(error) in EXPIRED:
                    self.connect()
            time.sleep(min(left, pause * random.uniform(1, 1.5)))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    def _once(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        send: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        self.requests[operation] += 1
        return send(**parameters)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
