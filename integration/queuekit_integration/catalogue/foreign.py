"""PSN: bodies and payloads that harm, that were changed on the way, or that another version wrote."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec

from queuekit import Backoff, Event, Job
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, drive, wait_until
from queuekit_integration.registry import scenario


class Signed:
    """A codec that signs: `base64.signature`; it decodes nothing that somebody else wrote."""

    name = "signed"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def encode(self, data: bytes) -> str:
        """Return the payload with its signature."""
        text = base64.b64encode(data).decode("ascii")
        return f"{text}.{self._signature(text)}"

    def decode(self, text: str) -> bytes:
        """Return the payload; raises ValueError when the signature does not fit."""
        payload, _, signature = text.rpartition(".")
        if not hmac.compare_digest(signature, self._signature(payload)):
            message = "the signature does not fit"
            raise ValueError(message)
        return base64.b64decode(payload)

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


@scenario("PSN-02-CODEC")
def scenario_psn_02_unknown_codec_is_given_back(h: Harness) -> None:
    """Let a worker without the payload's codec have it first: given back, no attempt used, for one that can read it."""
    events: list[Event] = []
    ran: list[Any] = []
    signing = h.queue(virtual=True, codec=Signed(b"secret"))
    knows_nothing = h.queue(virtual=True, observers=[events.append])
    for queue in (signing, knows_nothing):
        queue.register("t", lambda payload: ran.append(payload))
    handle = signing.dispatch(Job("t", {"amount": 5}, retries=0))
    run_due(knows_nothing)
    info = h.standing(handle)
    assert (info.state, info.attempt, ran) == ("scheduled", 0, [])
    assert [event.kind for event in events].count("unknown_type") == 1
    drive(h, signing, 10, 10, job=handle)
    assert h.standing(handle).state == "completed"
    assert ran == [{"amount": 5}]


@scenario("PSN-03", needs=("browse",))
def scenario_psn_03_decode_crashes_process(h: Harness) -> None:
    """Let bodies arrive that exhaust a decoder's stack: each is parked with its bytes, and the worker goes on."""
    queue = h.queue()
    queue.register("fine", lambda: "fine")
    queue.open()
    deep = b'{"v":1,"id":"x","type":"fine","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    bombs = [b"[" * 100_000, b'{"a":' * 50_000, deep]
    for bomb in bombs:
        h.write_garbage(bomb)
    queue.start_workers(1)
    assert queue.dispatch(Job("fine")).result(20) == "fine"
    dead = wait_until(lambda: len(q := queue.jobs(state="failed")) == len(bombs) and q, "all of them to be parked")
    assert {job.reason for job in dead} == {"undecodable"}
    driver: Any = queue.driver
    kept = {record.body.encode("utf-8", "surrogateescape") for record in driver.get([job.id for job in dead])}
    assert kept == set(bombs)


@scenario("PSN-04", needs=("browse",))
def scenario_psn_04_signature_invalid(h: Harness) -> None:
    """Change a signed payload, or sign with another secret: it is parked and never reaches the handler."""
    events: list[Event] = []
    ran: list[Any] = []
    queue = h.queue(virtual=True, codec=Signed(b"secret"), observers=[events.append])
    stranger = h.queue(virtual=True, codec=Signed(b"another"))
    queue.register("t", lambda payload: ran.append(payload))
    good = queue.dispatch(Job("t", {"amount": 5}))
    forged = stranger.dispatch(Job("t", {"amount": 999}))
    run_due(queue)
    driver: Any = queue.driver
    changed = _tampered(h, driver, good.id)
    run_due(queue)
    assert ran == [{"amount": 5}]
    for record in driver.get([forged.id, changed]):
        assert (record.state, record.reason) == ("failed", "undecodable")
    assert sum(event.kind == "undecodable" for event in events) == 2


def _tampered(h: Harness, driver: Any, id: str) -> str:
    """Send once more what is stored, one character of its payload changed; return the id."""
    [record] = driver.get([id])
    envelope = msgspec.json.decode(record.body)
    payload = envelope["payload"]
    envelope["payload"] = ("B" if payload[0] == "A" else "A") + payload[1:]
    message = h.message(type="t")
    envelope["id"] = message.id
    driver.send([h.message(msgspec.json.encode(envelope).decode(), id=message.id, type="t")])
    return message.id


@scenario("PSN-10")
def scenario_psn_10_kind_alias_rename(h: Harness) -> None:
    """Rename a job type: its handler, registered under the old name too, runs what was dispatched before and what fails once."""
    queue = h.queue(virtual=True)
    old = queue.dispatch(Job("emails.send", {"to": "ada"}, retries=2))
    ran: list[tuple[str, str]] = []

    @queue.job(name="mail.deliver", retries=2, backoff=Backoff.constant(h.brief(2)))
    def deliver(to: str) -> None:
        ran.append((to, "once more" if ran else "first"))
        if len(ran) == 1:
            raise ValueError("once")

    queue.register("emails.send", deliver, retries=2, backoff=Backoff.constant(h.brief(2)))
    new = deliver.dispatch("grace")
    for job in (old, new):
        drive(h, queue, 20, 5, job=job)
    assert sorted(to for to, _ in ran) == ["ada", "ada", "grace"]
    assert (h.standing(old).state, h.standing(new).state) == ("completed", "completed")
    if h.lookup:
        assert (old.info().type, new.info().type) == ("emails.send", "mail.deliver")
