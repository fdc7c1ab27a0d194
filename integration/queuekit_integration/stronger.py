"""What pairs promise beyond a scenario, each as a function that asserts its exact sentence: the broker fails, and nobody need know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Job
from queuekit.contract import Again, Dead, Delivery, Done, DriverUnavailable, Outcome
from queuekit_integration.checker import Plan
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.servers import Server

__all__ = [
    "accepted_although_it_does_not_answer",
    "accepted_while_it_is_away",
    "cut_off_from_it_a_holder_keeps_its_job",
    "settled_without_it",
    "unanswered_it_stored_nothing",
]


def settled_without_it(h: Harness) -> None:
    """Silence the broker: leases are renewed and outcomes recorded all the same, at once, and each once."""
    direct, proxy = h.driver(virtual=False), h.proxy()
    cut = h.driver(virtual=False, through=proxy)
    direct.send([h.message(str(number)) for number in range(3)])
    found: list[Delivery] = []

    def all_claimed() -> bool:
        found.extend(cut.claim(["default"], limit=3 - len(found), lease=30))
        return len(found) == 3

    wait_until(all_claimed, "three jobs to be lent")
    proxy.hold()
    begin = time.monotonic()
    outcomes: list[Outcome] = [Done(found[0]), Again(found[1]), Dead(found[2], "error")]
    assert all(extension.held for extension in cut.extend(found, lease=30))
    assert cut.settle(outcomes) == ["applied"] * 3
    assert cut.settle(outcomes) == ["already_settled"] * 3
    assert time.monotonic() - begin < 1, "the broker was asked"
    proxy.heal()
    [again] = wait_until(lambda: direct.claim(["default"], limit=5, lease=30), "the retry to be lent")
    assert (again.message.id, again.attempt) == (found[1].message.id, 2)


def unanswered_it_stored_nothing(h: Harness) -> None:
    """Hold a dispatch back on its way to the store: its failure is definite, also when what was held arrives at last."""
    direct, proxy = h.driver(virtual=False), h.proxy()
    late = h.driver(virtual=False, through=proxy)
    message = h.message()
    late.claim(["nothing"], limit=1, lease=1.0)
    proxy.hold()
    with pytest.raises(DriverUnavailable):
        late.send([message])
    sent = proxy.passed["up"]
    proxy.release()
    wait_until(lambda: proxy.passed["up"] > sent, "what was held to arrive")
    wait_until(lambda: len(proxy.connections) < 2, "the connection that was given up to end")
    browser: Any = direct
    assert browser.get([message.id]) == [None]
    direct.send([message])
    assert len(direct.claim(["default"], limit=5, lease=30.0)) == 1


def accepted_although_it_does_not_answer(h: Harness) -> None:
    """Silence the broker: a dispatch is accepted within its patience, again under its id it is the same job, and each runs once."""
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    ran: list[str] = []

    @queue.job(name="t")
    def job(payload: str) -> None:
        ran.append(payload)

    queue.dispatch(Job("t", "before"))
    proxy.hold()
    begin = time.monotonic()
    handle = queue.dispatch(Job("t", "meanwhile"), timeout=1.0)
    queue.dispatch(Job("t", "meanwhile", id=handle.id), timeout=1.0)
    assert time.monotonic() - begin < 3, "two dispatches with a second's patience each"
    assert queue.stats().pending == 2
    proxy.heal()
    queue.start_workers(1)
    wait_until(lambda: len(ran) == 2, "both to run once the broker answers")
    queue.drain(20)
    assert sorted(ran) == ["before", "meanwhile"]


def accepted_while_it_is_away(end: Callable[[Server], None], fault: str) -> Callable[[Harness], None]:
    """Return what ends the broker in some way under load: no dispatch meets that, and all jobs run when it is back."""

    def shown(h: Harness) -> None:
        queue = h.queue()
        workers = [h.spawn_worker(lease=2.0) for _ in range(2)]
        load = h.load(queue, 100, lambda number: Job("slow", {"seconds": 0.01, "tag": str(number)}), pause=0.01)
        h.wait_for_starts(20)
        assert h.server is not None
        end(h.server)
        h.fired(fault)
        time.sleep(0.7)
        h.server.start()
        ids = load.wait()
        assert not load.errors, f"a dispatch met the outage: {load.errors}"
        h.finish(Plan(dispatches=100, faults=(fault,), workers=tuple(worker.pid for worker in workers)))
        assert {start["job"] for start in h.starts()} >= set(ids)

    return shown


def accepted_before_it_was_there(h: Harness) -> None:
    """Start a dispatcher and a worker before the broker: the job is accepted at once, and runs when the broker is there."""
    assert h.server is not None
    h.server.stop()
    h.fired("stop")
    queue = h.queue()
    ran: list[int] = []

    @queue.job(name="t")
    def job(payload: int) -> None:
        ran.append(payload)

    first = queue.dispatch(Job("t", 0))
    worker = queue.worker(concurrency=1, lease=2.0).start()
    assert not worker.ready(0.5), "a worker is ready that nothing can be carried to"
    assert not ran, "it ran before its ticket could be carried"
    h.server.start()
    assert worker.ready(30)
    second = queue.dispatch(Job("t", 1))
    assert {handle.wait(30).state for handle in (first, second)} == {"completed"}
    assert sorted(ran) == [0, 1]
    worker.stop(5)


def accepted_while_it_hangs(h: Harness) -> None:
    """Let the broker hang under load: the store answers what is asked of it, no dispatch fails, and all jobs run."""
    queue = h.queue()
    worker = h.spawn_worker(lease=2.0)
    load = h.load(queue, 60, lambda number: Job("slow", {"seconds": 0.01, "tag": str(number)}), pause=0.005)
    h.wait_for_starts(10)
    assert h.server is not None
    h.server.freeze()
    h.fired("freeze")
    frozen = time.monotonic()
    queue.stats()
    assert time.monotonic() - frozen < 1.0, "the store's answer waited for the broker"
    time.sleep(1.5)
    h.server.thaw()
    ids = load.wait()
    assert not load.errors, f"a dispatch met the silence: {load.errors}"
    h.finish(Plan(dispatches=60, faults=("freeze",), workers=(worker.pid,)))
    assert {start["job"] for start in h.starts()} >= set(ids)


def cut_off_from_it_a_holder_keeps_its_job(h: Harness) -> None:
    """Cut a worker off from the broker for longer than its lease: it keeps the job, for the store renews the lease."""
    queue, proxy = h.queue(), h.proxy()
    holder = h.spawn_worker(through=proxy, lease=1.0, concurrency=1)
    [handle] = h.dispatch_recorded(queue, [Job("slow", {"seconds": 4.0})])
    h.wait_for_starts(1)
    proxy.hold()
    h.spawn_worker(lease=1.0, concurrency=1)  # would take the job over
    info = handle.wait(20)
    h.fired("partition")
    assert (info.state, info.attempt) == ("completed", 1)
    assert len(h.starts()) == 1
    proxy.heal()
    h.finish(Plan(dispatches=1, faults=("partition",), workers=(holder.pid,)))
