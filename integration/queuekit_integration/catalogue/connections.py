"""FLT-05 to FLT-12, FLT-19, FLT-23, ERR-05, LSE-05, SAF-06, SAF-08: connections that are cut, held, slow, or lie about what was applied."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from queuekit import AmbiguousDispatch, Job, Queue
from queuekit.contract import Again, AmbiguousSend, Dead, Delivery, Done, Driver, DriverUnavailable, Message, Outcome
from queuekit_integration.checker import Plan
from queuekit_integration.faults import Proxy
from queuekit_integration.harness import Harness, WorkerProcess, wait_until
from queuekit_integration.registry import scenario

BOUNDARIES = 12
"""How many requests of one verb are hit, one after the other, before it must have needed no more."""


def short(number: int) -> Job:
    """Return a job of ten milliseconds, for worker processes."""
    return Job("slow", {"seconds": 0.01, "tag": str(number)})


def _partitioned(h: Harness, cut: Callable[[Proxy], None]) -> None:
    """Cut the holder of a job off: another takes over, the holder is told, and what it says late changes nothing."""
    queue, proxy = h.queue(), h.proxy()
    holder = h.spawn_worker(through=proxy, lease=1.0, concurrency=1)
    [handle] = h.dispatch_recorded(queue, [Job("until_released")])
    h.wait_for_starts(1)
    cut(proxy)  # before the other worker is there, which would else take what the holder has not begun
    other = h.spawn_worker(lease=1.0, concurrency=1)
    wait_until(lambda: len(h.starts()) == 2, "the other side to take the job over")
    (h.folder / "release").touch()  # not sooner: where only replies are lost, the holder could still complete its job
    wait_until(lambda: _ended(h, holder), "the holder's handler to end")
    h.fired("partition")
    proxy.heal()
    ending = h.ended(handle)
    assert (ending.state, ending.attempt) == ("completed", 2)
    h.returned(handle, _name(h, other))  # the outcome that counts is the new holder's
    assert _end(h, holder)["lost"] is True, "a handler that was cut off past its lease was not told"
    h.finish(Plan(dispatches=1, redelivery=True, faults=("partition",), workers=(holder.pid, other.pid)))


def _name(h: Harness, worker: WorkerProcess) -> str:
    return next(str(s["worker"]) for s in h.starts() if s["pid"] == worker.pid)


def _ended(h: Harness, worker: WorkerProcess) -> bool:
    return any(n["f"] == "end" and n["pid"] == worker.pid for n in h.notes())


def _end(h: Harness, worker: WorkerProcess) -> dict[str, Any]:
    return next(n for n in h.notes() if n["f"] == "end" and n["pid"] == worker.pid)


@scenario("FLT-05", needs=("server", "processes", "lease", "fenced", "count"), faults=("proxy",), timing=True)
def scenario_flt_05_blackhole_partition(h: Harness) -> None:
    _partitioned(h, lambda proxy: proxy.hold())


@scenario("FLT-06", needs=("server", "processes", "lease", "fenced", "count"), faults=("proxy",), timing=True)
def scenario_flt_06_asymmetric_partition(h: Harness) -> None:
    """Let requests arrive and no reply come back: whoever hears nothing must assume nothing."""
    _partitioned(h, lambda proxy: proxy.hold("down"))


@scenario("FLT-07", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_07_latency(h: Harness) -> None:
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    ran: list[int] = []

    @queue.job(name="t")
    def job(payload: int) -> None:
        ran.append(payload)
        time.sleep(0.05)

    worker = h.work(queue, lease=1.5)
    proxy.delay(0.1)
    h.load(queue, 15, lambda number: Job("t", number)).wait()
    wait_until(lambda: len(ran) == 15, "15 jobs over a slow network")
    worker.stop(10)
    assert proxy.fired["delay"]
    h.fired("latency")
    assert sorted(ran) == list(range(15)), "a slow network cost a lease"
    h.finish(Plan(dispatches=15, faults=("latency",)))


@scenario("FLT-07-BANDWIDTH", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_07_bandwidth(h: Harness) -> None:
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload["n"]))
    worker = h.work(queue, lease=2.0)
    h.load(queue, 1, lambda _: Job("t", {"n": 8})).wait()
    wait_until(lambda: ran == [8], "the server to get to know both sides")
    proxy.throttle(64_000 / 8)
    h.load(queue, 8, lambda number: Job("t", {"n": number, "ballast": "x" * 500}), pause=0.01).wait()
    wait_until(lambda: len(ran) == 9, "8 jobs over 64 kbit/s", seconds=30)
    assert proxy.fired["throttle"]
    h.fired("bandwidth")
    proxy.heal()
    worker.stop(10)
    assert sorted(ran) == list(range(9)), "a narrow network cost a lease"
    h.finish(Plan(dispatches=9, faults=("bandwidth",)))


@scenario("FLT-08", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_08_connection_flap(h: Harness) -> None:
    """Reset every connection a hundred times, or as often as it comes back in 30 s, at random points of producer and worker."""
    proxy, rng = h.proxy(), random.Random(8)
    queue = h.queue(through=proxy)
    queue.register("t", lambda: time.sleep(0.005))
    worker = h.work(queue, lease=2.0)
    wait_until(lambda: proxy.connections, "the worker's connections")
    usual = len(proxy.connections)
    load = h.load(queue, 200, lambda _: Job("t"), pause=0.01)
    end = time.monotonic() + 30  # whoever waits longer and longer before it connects again is not reset so often
    while proxy.fired["reset_all"] < 100 and time.monotonic() < end:
        proxy.reset_all()
        time.sleep(rng.uniform(0.005, 0.05))
    assert proxy.fired["reset_all"] >= 15, f"{proxy.fired} fired"
    load.wait()
    h.fired("flap")
    wait_until(
        lambda: sum(c.pending + c.running for c in queue.stats().queues) == 0, "all to be worked off", seconds=40
    )
    assert len(proxy.connections) <= usual + 8, f"{len(proxy.connections)} connections are left of {usual}"
    worker.stop(10)
    h.finish(Plan(dispatches=200, faults=("flap",)))


# ------------------------------------------------------- applied but the reply was lost, against its twin: never arrived


Answer = Literal["ok", "unknown", "failed"]


class Struck:
    """A client of which one request will be hit: the first one of a verb, or a later one."""

    def __init__(self, h: Harness, fault: Literal["lose_reply", "cut_request"], skip: int) -> None:
        self._fault = fault
        self._skip = skip
        self.proxy = h.proxy()
        self.driver = h.driver(virtual=False, through=self.proxy)
        self.driver.claim(
            ["nothing"], limit=1, lease=1.0
        )  # so that it is connected, and its next request is the verb's
        self.answers: list[Any] = []

    @property
    def hit(self) -> bool:
        """Whether the fault fired: the verb needed so many requests."""
        return bool(self.proxy.fired)

    def call(self, verb: Callable[[], list[Any] | None]) -> Answer:
        """Call a verb under the fault; what it returned is in `answers`."""
        getattr(self.proxy, self._fault)(skip=self._skip)
        try:
            self.answers = verb() or []
        except AmbiguousSend:
            return "unknown"
        except DriverUnavailable:
            return "failed"
        finally:
            self.proxy.heal()
        return "ok"


def _acquaint(h: Harness) -> None:
    """Go through every verb once, so that the server has seen each: what is hit is the verb, not its introduction."""
    driver = h.driver(virtual=False)
    driver.send([h.message(queue="first")])
    driver.send([h.message(queue="first"), h.message(queue="first")])
    driver.settle([Done(h.claim_one(driver, lease=30.0, queue="first"))])
    done, again = driver.claim(["first"], limit=2, lease=30.0)
    driver.extend([done, again], lease=30.0)
    driver.settle([Done(done), Again(again)])
    driver.settle([Dead(h.claim_one(driver, lease=30.0, queue="first"), "error")])
    driver.close()


def struck(h: Harness, fault: Literal["lose_reply", "cut_request"]) -> Iterator[Struck]:
    """Hit a verb's first request, then its second, and so on, until it has no more."""
    _acquaint(h)
    for skip in range(BOUNDARIES):
        client = Struck(h, fault, skip)
        yield client
        client.driver.close()
        if not client.hit:
            assert skip, f"the verb needs no request that {fault} could hit"
            return
    raise AssertionError(f"the verb needs more than {BOUNDARIES} requests")


def _struck_dispatch(h: Harness, fault: Literal["lose_reply", "cut_request"]) -> set[tuple[Answer, bool]]:
    """Return what was answered, and whether it had been stored, for each request that was hit."""
    direct, seen = h.driver(virtual=False), set()
    for number, client in enumerate(struck(h, fault)):
        queue = f"q{number}"
        message = h.message(queue=queue)
        answer = client.call(lambda client=client, message=message: client.driver.send([message]))  # type: ignore[misc]
        stored = direct.claim([queue], limit=5, lease=30.0)
        client.driver.send([message])
        both = [*stored, *direct.claim([queue], limit=5, lease=30.0)]
        assert len(both) == 1, f"{answer}, sent again under its id, and then there were {len(both)}"
        assert answer != "failed" or not stored, "a failure that was said to be definite had stored the job"
        assert answer != "ok" or stored, "what was accepted is not there"
        if client.hit:
            seen.add((answer, bool(stored)))
    return seen


DISPATCH: Any = {"suite": "contract", "needs": ("server", "unique_ids"), "faults": ("proxy",), "timing": True}
SETTLE: Any = {"suite": "contract", "needs": ("server", "fenced", "lease"), "faults": ("proxy",), "timing": True}


@scenario("FLT-09-DISPATCH", **DISPATCH)
def scenario_flt_09_lost_reply_on_dispatch(h: Harness) -> None:
    seen = _struck_dispatch(h, "lose_reply")
    assert ("unknown", True) in seen, f"no dispatch was applied without its client knowing: {seen}"


@scenario("FLT-10-DISPATCH", **DISPATCH)
def scenario_flt_10_cut_request_on_dispatch(h: Harness) -> None:
    seen = _struck_dispatch(h, "cut_request")
    assert seen & {("unknown", False), ("failed", False)}, f"no dispatch was lost on its way: {seen}"


def _struck_settle(
    h: Harness, fault: Literal["lose_reply", "cut_request"], outcome: Callable[[Delivery], Outcome], left: list[int]
) -> None:
    """Hit each request of a settlement, repeat it, and see that it counted once: `left` are the attempts of what is due then."""
    direct = h.driver(virtual=False)
    repeated: set[str] = set()
    for number, client in enumerate(struck(h, fault)):
        queue = f"q{number}"
        direct.send([h.message(queue=queue)])
        mine = outcome(h.claim_one(client.driver, lease=30.0, queue=queue))
        answer = client.call(lambda client=client, mine=mine: client.driver.settle([mine]))  # type: ignore[misc]
        assert answer != "ok" or client.answers[0] in {"applied", "already_settled"}
        [again] = client.driver.settle([mine])
        assert again in {"applied", "already_settled"}, f"{answer}, settled again: {again}"
        found = direct.claim([queue], limit=5, lease=30.0)
        assert [delivery.attempt for delivery in found] == left
        if client.hit:
            repeated.add(client.answers[0] if answer == "ok" else again)
    wanted = "already_settled" if fault == "lose_reply" else "applied"
    assert wanted in repeated, f"no settlement was {wanted} when it was repeated: {repeated}"


def _again(delivery: Delivery) -> Outcome:
    return Again(delivery)


def _dead(delivery: Delivery) -> Outcome:
    return Dead(delivery, "error")


@scenario("FLT-09-ACK", **SETTLE)
def scenario_flt_09_lost_reply_on_ack(h: Harness) -> None:
    _struck_settle(h, "lose_reply", Done, [])


@scenario("FLT-10", **SETTLE)
def scenario_flt_10_cut_request_on_ack(h: Harness) -> None:
    _struck_settle(h, "cut_request", Done, [])


@scenario("FLT-09-NACK", **SETTLE)
def scenario_flt_09_lost_reply_on_nack(h: Harness) -> None:
    _struck_settle(h, "lose_reply", _again, [2])


@scenario("FLT-10-NACK", **SETTLE)
def scenario_flt_10_cut_request_on_nack(h: Harness) -> None:
    _struck_settle(h, "cut_request", _again, [2])


@scenario("FLT-09-DEAD", **SETTLE)
def scenario_flt_09_lost_reply_on_dead(h: Harness) -> None:
    _struck_settle(h, "lose_reply", _dead, [])


def _struck_extend(h: Harness, fault: Literal["lose_reply", "cut_request"]) -> None:
    direct = h.driver(virtual=False)
    for number, client in enumerate(struck(h, fault)):
        queue = f"q{number}"
        direct.send([h.message(queue=queue)])
        mine = h.claim_one(client.driver, lease=30.0, queue=queue)
        answer = client.call(lambda client=client, mine=mine: client.driver.extend([mine], lease=30.0))  # type: ignore[misc]
        assert answer != "ok" or client.answers[0].held
        [again] = client.driver.extend([mine], lease=30.0)
        assert again.held, "a renewal whose answer was lost cost the lease"
        assert direct.claim([queue], limit=5, lease=30.0) == []
        assert client.driver.settle([Done(mine)]) == ["applied"]


@scenario("FLT-09-EXTEND", **SETTLE)
def scenario_flt_09_lost_reply_on_extend(h: Harness) -> None:
    _struck_extend(h, "lose_reply")


@scenario("FLT-10-EXTEND", **SETTLE)
def scenario_flt_10_cut_request_on_extend(h: Harness) -> None:
    _struck_extend(h, "cut_request")


@scenario("FLT-09", needs=("server", "count", "unique_ids"), faults=("proxy",), timing=True)
def scenario_flt_09_lost_replies_under_load(h: Harness) -> None:
    """Lose every third reply of producer and worker for a while: nothing runs twice, because every repetition is recognised."""
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    worker = h.work(queue, lease=10.0)
    load = h.load(queue, 100, lambda number: Job("t", number), pause=0.005)
    wait_until(lambda: ran, "the first job to run")  # a queue may be held back until it is safe
    for _ in range(30):
        proxy.lose_reply(skip=2)
        time.sleep(0.03)
    proxy.heal()
    load.wait()
    assert proxy.fired["lose_reply"] >= 10, f"{proxy.fired} fired"
    h.fired("lost replies")
    h.finish(Plan(dispatches=100, faults=("lost replies",)))
    worker.stop(10)
    assert sorted(ran) == list(range(100)), "a job ran twice, or not at all"


@scenario("FLT-11", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_11_slice_1_byte(h: Harness) -> None:
    proxy = h.proxy()
    proxy.slice(1)
    queue = h.queue(through=proxy)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    worker = h.work(queue, lease=5.0)
    h.load(queue, 20, lambda number: Job("t", number)).wait()
    wait_until(lambda: len(ran) == 20, "20 jobs byte by byte")
    worker.stop(10)
    assert proxy.fired["slice"]
    h.fired("slice")
    h.finish(Plan(dispatches=20, faults=("slice",)))


@scenario("FLT-12", **SETTLE)
def scenario_flt_12_delayed_application(h: Harness) -> None:
    """Deliver a settlement after its sender gave up and another took the job over: it changes nothing."""
    direct, proxy = h.driver(virtual=False), h.proxy()
    late = h.driver(virtual=False, through=proxy)
    direct.send([h.message("1"), h.message("2")])
    first, second = late.claim(["default"], limit=2, lease=1.0)
    proxy.hold()
    with pytest.raises(DriverUnavailable):
        late.settle([Done(first), Again(second)])
    taken = wait_until(lambda: direct.claim(["default"], limit=2, lease=30.0, wait=1.0), "the leases to end")
    taken += [] if len(taken) == 2 else wait_until(lambda: direct.claim(["default"], limit=2, lease=30.0), "both")
    assert {delivery.attempt for delivery in taken} == {2}
    sent = proxy.passed["up"]
    proxy.release()
    wait_until(lambda: proxy.passed["up"] > sent, "what was held to arrive")
    wait_until(lambda: len(proxy.connections) < 2, "the connection that was given up to end")
    assert direct.claim(["default"], limit=2, lease=30.0) == [], "a settlement that came late gave a job back"
    assert direct.settle([Done(delivery) for delivery in taken]) == ["applied", "applied"]


@scenario("FLT-12-DISPATCH", **DISPATCH)
def scenario_flt_12_delayed_dispatch(h: Harness) -> None:
    """Deliver a job after its producer gave up and dispatched it again: one job."""
    direct, proxy = h.driver(virtual=False), h.proxy()
    late = h.driver(virtual=False, through=proxy)
    message = h.message("1")
    late.claim(["nothing"], limit=1, lease=1.0)
    proxy.hold()
    with pytest.raises(AmbiguousSend):
        late.send([message])
    direct.send([message])
    sent = proxy.passed["up"]
    proxy.release()
    wait_until(lambda: proxy.passed["up"] > sent, "what was held to arrive")
    wait_until(lambda: len(proxy.connections) < 2, "the connection that was given up to end")
    assert len(direct.claim(["default"], limit=5, lease=30.0)) == 1


@scenario("FLT-12-ENDED", needs=("server", "unique_ids", "count"), faults=("proxy",), timing=True)
def scenario_flt_12_delayed_past_the_end(h: Harness) -> None:
    """Deliver a dispatch after its producer gave up, dispatched it again, and the job has run and ended: it ran once."""
    proxy = h.proxy()
    late, direct = h.queue(through=proxy), h.queue()
    ran: list[int] = []
    direct.register("t", lambda payload: ran.append(payload))
    for _ in range(3):
        late.dispatch(Job("t", 0))  # so that it is connected, and knows its server
    proxy.hold()
    with pytest.raises(AmbiguousDispatch) as caught:
        late.dispatch(Job("t", 1))
    direct.dispatch(Job("t", 1, id=caught.value.job_id))
    worker = h.work(direct)
    wait_until(lambda: len(ran) == 4 and not direct.stats().in_flight, "the jobs to end")
    sent = proxy.passed["up"]
    proxy.release()
    wait_until(lambda: proxy.passed["up"] > sent, "what was held to arrive")
    wait_until(lambda: not proxy.connections, "the connection that was given up to end")
    counts = direct.stats()
    worker.stop(10)
    assert (counts.pending, counts.in_flight) == (0, 0), "a request that came late stored the job again"
    assert sorted(ran) == [0, 0, 0, 1], "a job ran again for a request that came late"


@scenario("FLT-19", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_19_address_change(h: Harness) -> None:
    proxy, elsewhere = h.proxy(), h.proxy()
    queue = h.queue(through=proxy)
    ran: list[int] = []
    queue.register("t", lambda payload: ran.append(payload))
    worker = h.work(queue, lease=2.0)
    h.load(queue, 10, lambda number: Job("t", number)).wait()
    proxy.move("127.0.0.1", elsewhere.port)
    h.fired("move")
    h.load(queue, 10, lambda number: Job("t", 10 + number)).wait()
    wait_until(lambda: len(set(ran)) == 20, "jobs of after the move to run")
    assert elsewhere.accepted, "nobody came to the new address"
    worker.stop(10)
    h.finish(Plan(dispatches=20, faults=("move",)))


@scenario("FLT-23", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_flt_23_swizzle(h: Harness) -> None:
    """Silence the connections one by one, and let them speak again in another order."""
    proxy, rng = h.proxy(), random.Random(23)
    queues = [h.queue(through=proxy) for _ in range(2)]
    ran: list[int] = []
    workers = []

    def job(payload: int) -> None:
        ran.append(payload)
        time.sleep(0.005)

    for queue in queues:
        queue.register("t", job)
        workers.append(h.work(queue, lease=1.0))
    load = h.load(queues[0], 100, lambda number: Job("t", number), pause=0.01)
    wait_until(lambda: ran, "the first job to run")  # a queue may be held back until it is safe
    for _ in range(3):
        chosen = rng.sample(proxy.connections, k=len(proxy.connections))
        for connection in chosen:
            proxy.hold(connection=connection)
            time.sleep(0.05)
        for connection in rng.sample(chosen, k=len(chosen)):
            proxy.release(connection=connection)
            time.sleep(0.05)
    assert proxy.fired["hold"]
    h.fired("swizzle")
    load.wait()
    wait_until(lambda: len(set(ran)) == 100, "all to run")
    for worker in workers:
        worker.stop(10)
    h.finish(Plan(dispatches=100, faults=("swizzle",)))


@scenario("ERR-05", needs=("server", "count", "unique_ids"), faults=("proxy",), timing=True)
def scenario_err_05_definite_vs_indeterminate(h: Harness) -> None:
    """Tell a refused connection, which stored nothing, from a lost reply and a lost request, which look alike."""
    proxy, direct = h.proxy(), h.queue()
    queue = h.queue(through=proxy)
    queue.dispatch(Job("t"))
    for fault in (proxy.lose_reply, proxy.cut_request):
        fault(HEAD)
        with pytest.raises(AmbiguousDispatch) as caught:
            queue.dispatch(Job("t", {"word": "needle"}))
        proxy.heal()
        before = direct.stats().pending
        queue.dispatch(Job("t", {"word": "needle"}, id=caught.value.job_id))
        assert direct.stats().pending - before == (fault == proxy.cut_request)
    proxy.refuse()
    proxy.reset_all()
    with pytest.raises(DriverUnavailable) as refused:
        queue.dispatch(Job("t"), timeout=2.0)
    assert not isinstance(refused.value, AmbiguousDispatch)
    assert direct.stats().pending == 3
    proxy.accept()
    wait_until(lambda: _dispatched(queue), "dispatching to work again")
    assert direct.stats().pending == 4


HEAD = b"needle"
"""Travels in the job's payload: the request that carries it is the one to hit."""


def _dispatched(queue: Queue) -> bool:
    try:
        queue.dispatch(Job("t"))
    except DriverUnavailable:
        return False
    return True


@scenario("LSE-LATE-CLAIM", needs=("server", "count", "lease", "fenced"), faults=("proxy",), timing=True)
def scenario_lse_late_claim_whose_answer_comes_after_the_lease_starts_nothing(h: Harness) -> None:
    """Let a claim's answer take longer than the lease that it tells of: by then another has the job, and it runs once."""
    proxy, starts = h.proxy(), list[str]()
    late, soon = h.queue(through=proxy), h.queue()

    def begin(where: str) -> None:
        starts.append(where)
        time.sleep(1.5)

    late.register("t", lambda: begin("late"))
    soon.register("t", lambda: begin("soon"))
    late.open()
    with late.worker(concurrency=1, lease=0.5) as cut_off:
        assert cut_off.ready(20)
        proxy.delay(0.6)
        handle = soon.dispatch(Job("t"))
        wait_until(lambda: sum(c.running for c in soon.stats().queues) == 1, "the job to be lent over the slow network")
        h.fired("latency")
        with soon.worker(concurrency=1, lease=0.5):
            assert h.ended(handle).state == "completed"
            proxy.heal()
    assert len(starts) == 1, f"it was started by a worker whose lease was over: {starts}"


@scenario("LSE-05", needs=("server", "processes", "count", "lease"), faults=("proxy",), timing=True)
def scenario_lse_05_heartbeat_survives_one_error(h: Harness) -> None:
    queue, proxy = h.queue(), h.proxy()
    holder = h.spawn_worker(through=proxy, lease=1.5, concurrency=1)
    [handle] = h.dispatch_recorded(queue, [Job("slow", {"seconds": 4.5})])
    h.wait_for_starts(1)
    h.spawn_worker(lease=1.5, concurrency=1)  # would take the job over
    for _ in range(3):
        assert proxy.reset_all()
        time.sleep(1.0)
    h.fired("reset")
    assert h.ended(handle).state == "completed"
    assert len(h.starts()) == 1, "a renewal that failed once, most of a lease before its end, cost the lease"
    h.finish(Plan(dispatches=1, faults=("reset",), workers=(holder.pid,)))


@scenario("SAF-08", needs=("server", "count"), faults=("proxy",), timing=True)
def scenario_saf_08_connection_leak_at_broker(h: Harness) -> None:
    proxy = h.proxy()
    queue = h.queue(through=proxy)
    queue.register("t", lambda: None)
    for _ in range(3):
        worker = h.work(queue, lease=2.0)
        h.load(queue, 10, lambda _: Job("t")).wait()
        wait_until(lambda: queue.stats().pending == 0, "all to be worked off")
        worker.stop(10)
    most = len(proxy.connections)
    assert 1 <= most <= CONNECTIONS, f"{most} connections after one worker of four threads"
    queue.close()
    wait_until(lambda: not proxy.connections, "every connection to be gone from the server")


CONNECTIONS = 16
"""More than a queue and its worker of four threads may ever need."""


@scenario("SAF-06", suite="contract", needs=("server",), faults=("proxy",), timing=True)
def scenario_saf_06_fd_leak(h: Harness) -> None:
    proxy = h.proxy()

    def cycle() -> None:
        driver = h.build(virtual=False, through=proxy)
        driver.open()
        driver.send([h.message()])
        proxy.reset_all()
        wait_until(lambda: _answers(driver, h.message()), "it to connect again")
        driver.close()

    cycle()
    before = _files()
    for _ in range(50):
        cycle()
    wait_until(lambda: not proxy.connections, "the proxy's own sockets to be closed")
    wait_until(lambda: _files() <= before + 2, f"open files to go back to {before}, and there are {_files()}")


def _answers(driver: Driver, message: Message) -> bool:
    try:
        driver.send([message])
    except (DriverUnavailable, AmbiguousSend):
        return False
    return True


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
