"""The service's queues: found by name, made where that was asked for, and remembered by their addresses."""

from __future__ import annotations

import threading
import time
from typing import Any

from queuekit.contract import DriverUnavailable
from queuekit_sqs.errors import DIFFERENT, MISSING, code_of
from queuekit_sqs.names import DEAD, FIFO, PLAIN, queue_name
from queuekit_sqs.service import RequestError, Service
from queuekit_sqs.settings import Settings

__all__ = ["Queues"]


NONE = 5.0
"""Seconds for which a queue that had no dead letters is taken to have none: whoever counts asks often."""


class Queues:
    """Addresses of this namespace's queues, each looked up once."""

    def __init__(self, service: Service, settings: Settings, namespace: str) -> None:
        self._service = service
        self._settings = settings
        self._namespace = namespace
        self._urls: dict[tuple[str, bool], str] = {}
        self._none_until: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def known(self) -> list[str]:
        """Queues that were used so far."""
        return sorted({queue for queue, dead in list(self._urls) if not dead})

    def check(self) -> None:
        """See whether the service answers and knows the credentials; raises `RequestError`.

        Whether the default queue exists, or may be asked about, is the business of who uses it.
        """
        try:
            self._service.call("get_queue_url", doing="connecting", QueueName=self.name("default"))
        except RequestError as error:
            if code_of(error.__cause__ or error) not in MISSING | {"AccessDenied", "AccessDeniedException"}:
                raise

    def all(self) -> list[str]:
        """Return every queue of the namespace: those used so far, and those that the service lists."""
        start = f"{self._namespace}--"
        listed: set[str] = set()
        token: dict[str, Any] = {}
        while True:
            page = self._service.call(
                "list_queues", doing="listing queues", QueueNamePrefix=start, MaxResults=1000, **token
            )
            listed |= {
                url.rpartition("/")[2].removesuffix(FIFO).removeprefix(start) for url in page.get("QueueUrls", ())
            }
            if "NextToken" not in page:
                return self._plain(listed)
            token = {"NextToken": page["NextToken"]}

    def _plain(self, listed: set[str]) -> list[str]:
        """Return the queues among what was listed, and those known before; note which of them have no dead letters."""
        queues = sorted({name for name in listed if "--" not in name} | set(self.known))
        until = time.monotonic() + NONE
        self._none_until |= {queue: until for queue in queues if queue + DEAD not in listed and PLAIN.fullmatch(queue)}
        return queues

    def name(self, queue: str, *, dead: bool = False) -> str:
        """Return what a queue is called at the service."""
        name = queue_name(self._namespace, queue) + (DEAD if dead else "")
        return name + FIFO if self._settings.fifo else name

    def url(self, queue: str, *, dead: bool = False) -> str:
        """Return a queue's address; raises `RequestError` when it does not exist and may not be made."""
        found = self._urls.get((queue, dead))
        if found is None:
            with self._lock:
                found = self._urls[queue, dead] = self._find_or_make(self.name(queue, dead=dead))
        return found

    def forget(self, queue: str) -> None:
        """Look a queue up again next time: it was deleted."""
        self._urls.pop((queue, False), None)
        self._urls.pop((queue, True), None)

    def letters(self, queue: str) -> str | None:
        """Return the address of the queue of a queue's dead letters; None when there has been none yet."""
        if (queue, True) not in self._urls:
            if time.monotonic() < self._none_until.get(queue, 0.0):
                return None
            try:
                self._urls[queue, True] = self._find(self.name(queue, dead=True))
            except RequestError as error:
                if code_of(error.__cause__ or error) not in MISSING:
                    raise
                self._none_until[queue] = time.monotonic() + NONE
                return None
        return self._urls[queue, True]

    def _find(self, name: str) -> str:
        doing = f"looking for the queue {name}"
        return str(self._service.call("get_queue_url", doing=doing, QueueName=name)["QueueUrl"])

    def _find_or_make(self, name: str) -> str:
        """Ask for a queue with these attributes: the service makes it, or names the one that is so already."""
        if not self._settings.create:
            return self._find(name)
        try:
            answer = self._service.call(
                "create_queue", doing=f"creating the queue {name}", QueueName=name, Attributes=self._attributes()
            )
        except RequestError as error:
            if code_of(error.__cause__ or error) in DIFFERENT:
                return self._find(name)
            raise
        return str(answer["QueueUrl"])

    def _attributes(self) -> dict[str, str]:
        attributes = {"MessageRetentionPeriod": str(self._settings.retention)}
        if self._settings.fifo:
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        return attributes


def passing(error: RequestError) -> RequestError:
    """Return what a missing queue means to a worker: it may be made again, and the worker waits for that."""
    if code_of(error.__cause__ or error) in MISSING:
        return RequestError(DriverUnavailable(str(error.meaning)), "refused")
    return error
