"""An HTTP proxy in front of an emulator of Amazon SQS that answers as the real service does on bad days.

Emulators never throttle, never lose order, never deliver twice and know nothing of AWS's errors for a late heartbeat. Here
each of them is asked for by name, hits so many times, and is counted in `fired`.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias

__all__ = ["SqsStub"]

Answer: TypeAlias = tuple[int, dict[str, Any]]
Forward: TypeAlias = Callable[[dict[str, Any]], Answer]


@dataclass
class Rule:
    """What happens to the next requests of one kind."""

    name: str
    action: str
    apply: Callable[[dict[str, Any], Forward], Answer]
    times: int


def error(code: str, message: str, *, sender: bool = True) -> dict[str, Any]:
    """Return an error's body as SQS's JSON protocol has it."""
    return {"__type": f"com.amazonaws.sqs#{code}", "message": message, "fault": "Sender" if sender else "Server"}


class SqsStub:
    """Carries requests to the emulator at `host`:`port`, except for those that a rule is for. Use it as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self.fired: Counter[str] = Counter()
        """How often each rule hit."""
        self.requests: Counter[str] = Counter()
        """Requests by action, those included that never reached the emulator."""
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        """Every request: its action and what it said."""
        self._upstream = (host, port)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        """Where clients connect, on 127.0.0.1."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sqs-stub", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------------------------- rules

    def refuse(self, action: str, code: str, *, status: int = 400, message: str = "", times: int = 1) -> None:
        """Answer with an error in place of the service: nothing is applied."""
        self._add(Rule(f"refuse {code}", action, lambda _, __: (status, error(code, message or code)), times))

    def break_after(self, action: str, *, status: int = 500, times: int = 1) -> None:
        """Let the service apply a request, and answer that it failed inside."""

        def apply(body: dict[str, Any], forward: Forward) -> Answer:
            forward(body)
            return status, error("InternalError", "something went wrong after it was applied", sender=False)

        self._add(Rule("break_after", action, apply, times))

    def fail_entries(
        self, action: str, places: set[int], code: str, *, message: str = "", sender: bool = False, times: int = 1
    ) -> None:
        """Let some entries of a batch fail, by their places in it; the others are carried."""

        def apply(body: dict[str, Any], forward: Forward) -> Answer:
            entries = body["Entries"]
            failed = [entry for place, entry in enumerate(entries) if place in places]
            left = [entry for place, entry in enumerate(entries) if place not in places]
            status, answer = forward({**body, "Entries": left}) if left else (200, {"Successful": []})
            said = [{"Id": e["Id"], "Code": code, "Message": message or code, "SenderFault": sender} for e in failed]
            return status, {**answer, "Failed": [*answer.get("Failed", ()), *said]}

        self._add(Rule(f"fail_entries {code}", action, apply, times))

    def duplicate(self, *, times: int = 1) -> None:
        """Deliver the first message of an answer twice, as a standard queue may."""

        def change(messages: list[Any]) -> list[Any]:
            return [*messages, {**messages[0]}]

        self._change_messages("duplicate", change, times)

    def reorder(self, *, times: int = 1) -> None:
        """Deliver an answer's messages in the opposite order, as a standard queue may."""
        self._change_messages("reorder", lambda messages: messages[::-1], times)

    def miss(self, *, times: int = 1) -> None:
        """Answer that there is nothing, as a short poll does that asked the wrong servers."""
        self._add(Rule("miss", "ReceiveMessage", lambda _, __: (200, {}), times))

    def _change_messages(self, name: str, change: Callable[[list[Any]], list[Any]], times: int) -> None:
        def apply(body: dict[str, Any], forward: Forward) -> Answer:
            status, answer = forward(body)
            messages = answer.get("Messages") or []
            if len(messages) < (2 if name == "reorder" else 1):
                return status, answer
            self.fired[f"{name}d"] += 1
            return status, {**answer, "Messages": change(messages)}

        self._add(Rule(name, "ReceiveMessage", apply, times))

    def _add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def heal(self) -> None:
        """End every rule."""
        with self._lock:
            self._rules.clear()

    # -------------------------------------------------------------------------------------------------------- life

    def answer(self, action: str, body: dict[str, Any], forward: Forward) -> Answer:
        """Answer one request: by the first rule for it, else as the service does."""
        with self._lock:
            self.requests[action] += 1
            self.bodies.append((action, body))
            rule = next((rule for rule in self._rules if rule.action in {action, "*"} and rule.times > 0), None)
            if rule is not None:
                rule.times -= 1
                self.fired[rule.name] += 1
        return forward(body) if rule is None else rule.apply(body, forward)

    def carry(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the emulator and return what it says."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            connection.request("POST", "/", body, headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


KEPT = ("x-amz-target", "content-type", "x-amz-date", "authorization", "x-amz-security-token")


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client; HTTP/1.1, so it is used again."""

    stub: ClassVar[SqsStub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer one request."""
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        action = self.headers.get("x-amz-target", "").rpartition(".")[2]
        headers = {name: value for name in KEPT if (value := self.headers.get(name)) is not None}
        headers["Host"] = self.headers.get("host", "")
        queried: list[str] = []

        def forward(body: dict[str, Any]) -> Answer:
            status, said, reply = self.stub.carry(headers, json.dumps(body).encode())
            queried.append(said.get("x-amzn-query-error", ""))
            return status, json.loads(reply) if reply else {}

        status, answer = self.stub.answer(action, json.loads(raw or b"{}"), forward)
        self._reply(status, answer, queried[-1] if queried else "")

    def _reply(self, status: int, answer: dict[str, Any], query_error: str) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(text)))
        if query_error:
            self.send_header("x-amzn-query-error", query_error)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
