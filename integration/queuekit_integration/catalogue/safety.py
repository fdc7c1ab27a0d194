"""SAF: threads, processes, event loops, and what must not be left behind."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from queuekit import Backoff, Job, JobContext, Queue, Snooze
from queuekit.contract import Rate
from queuekit.worker.attempt import Attempt
from queuekit.worker.inline import run_due
from queuekit_integration.harness import Harness, wait_until
from queuekit_integration.registry import scenario


def address_of(h: Harness) -> str:
    """Return where another process finds the backend: the scenario needs processes."""
    address = h.url()
    assert address is not None
    return address


def work_in_a_child(address: str, store: str | None, namespace: str) -> None:
    """Dispatch a job and run it with a worker of this process's own."""
    with Queue(address, store=store, namespace=namespace) as queue:
        ran: list[int] = []

        def child(payload: int) -> int:
            ran.append(payload)
            return payload * 2

        queue.register("child", child)
        queue.start_workers(1)
        handle = queue.dispatch(Job("child", 21))
        wait_until(lambda: ran == [21], "the child's job to run in the child")
        if queue.supports("browse"):
            assert handle.result(20) == 42


@scenario("SAF-02", needs=("processes",), timing=True)
def scenario_saf_02_spawn_and_forkserver(h: Harness) -> None:
    """Work in processes that `multiprocessing` spawned, or forked from its server, while this one works too."""
    queue = h.queue()
    queue.register("here", lambda payload: payload + 1)
    queue.start_workers(1, queues=["other"])
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        process = context.Process(target=work_in_a_child, args=(address_of(h), h.store_url(), h.namespace))  # type: ignore[attr-defined]
        process.start()
        process.join(30)
        assert process.exitcode == 0, f"the child of {method} ended with {process.exitcode}"
        h.returned(queue.dispatch(Job("here", 1, queue="other")), 2)


@scenario("SAF-03", needs=("count",))
def scenario_saf_03_client_shared_by_threads(h: Harness) -> None:
    """Share one client among sixteen threads that send, look, count and settle: each gets the answers to its own questions."""
    queue = h.queue()
    queue.open()
    driver: Any = queue.driver
    start = threading.Barrier(16)

    def use(number: int) -> None:
        start.wait()
        name = f"q{number}"
        for i in range(10):
            handle = queue.dispatch(Job("t", f"{number}/{i}", queue=name))
            if h.lookup:
                assert handle.info().payload == f"{number}/{i}"
            [counts] = driver.count([name])
            assert (counts.queue, counts.pending) == (name, 1)
            [delivery] = driver.claim([name], limit=5, lease=60)
            assert delivery.message.id == handle.id
            assert f"{number}/{i}" in delivery.message.body
            assert driver.settle([_done(delivery)]) == ["applied"]

    with ThreadPoolExecutor(16) as pool:
        for used in [pool.submit(use, number) for number in range(16)]:
            used.result(60)
    if queue.supports("records"):
        assert sum(counts.completed for counts in queue.stats().queues) == 160
    assert queue.stats().pending == 0


def _done(delivery: Any) -> Any:
    from queuekit.contract import Done  # noqa: PLC0415 - only here

    return Done(delivery)


@scenario("SAF-04", needs=("count",))
def scenario_saf_04_one_client_two_event_loops(h: Harness) -> None:
    """Dispatch from one event loop after the other, and from two at once: all arrive, and none waits for the other."""
    queue = h.queue()
    queue.open()

    async def dispatch(name: str) -> set[str]:
        jobs = (Job("t", i, queue=name) for i in range(20))
        return {handle.id for handle in await asyncio.gather(*(queue.dispatch_async(job) for job in jobs))}

    for _ in range(2):
        assert len(asyncio.run(dispatch("in-turn"))) == 20
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(asyncio.run, dispatch(f"at-once-{i}")) for i in range(2)]
        assert [len(one.result(20)) for one in both] == [20, 20]
    assert {counts.queue: counts.pending for counts in queue.stats().queues} == {
        "in-turn": 40, "at-once-0": 20, "at-once-1": 20,
    }  # fmt: skip


@scenario("SAF-07", timing=True)
def scenario_saf_07_thread_and_task_leak(h: Harness) -> None:
    """Use everything that starts threads, then close: none of queuekit's is left."""
    before = set(threading.enumerate())
    queue = h.queue()

    @queue.job(name="plain", timeout=20)
    def plain() -> None: ...

    @queue.job(name="async")
    async def asynchronous() -> None:
        await asyncio.sleep(0)

    async def dispatch() -> list[Any]:
        return list(await asyncio.gather(plain.dispatch_async(), asynchronous.dispatch_async()))

    queue.start_workers(3)
    for handle in asyncio.run(dispatch()):
        assert h.ended(handle).state == "completed"
    assert queue.health().healthy
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert any(name.startswith("queuekit") for name in names), f"nothing to leave behind: {names}"
    queue.close()
    wait_until(lambda: not _left(before), f"all threads to end; left: {_left(before)}", seconds=5)


def _left(before: set[threading.Thread]) -> list[str]:
    return [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]


@scenario("SAF-09", needs=("records", "unique", "key", "concurrency", "rate_limit", "delay"))
def scenario_saf_09_storage_leak(h: Harness) -> None:
    """Run the same load again and again, with new keys each time, and prune: the backend holds no more than after the first."""
    queue = h.queue(virtual=True)

    @queue.job(name="t", retries=2, backoff=Backoff.constant(1))
    def job(ctx: JobContext, i: int) -> str:
        ctx.progress(50)
        if ctx.attempt == 1 and i % 3 == 0:
            raise ValueError("once")
        return "result"

    sizes = [_round(h, queue, job, number) for number in range(3)]
    assert sizes[0] == sizes[1] == sizes[2], f"the backend grew: {sizes}"


def _round(h: Harness, queue: Queue, job: Any, number: int) -> dict[str, int]:
    for i in range(12):
        name = f"{number}-{i}"
        job.using(retain=60, tags=[f"tag-{name}"], unique_key=name).dispatch(i)
        job.using(retain=60, key=name, **({"priority": i % 10} if queue.supports("priority") else {})).dispatch(i)
        job.using(retain=60, concurrency=(name, 1), rate_limit="5/s", delay=i / 10).dispatch(i)
    doomed = [job.using(delay=500, retain=60, unique_key=f"doomed-{number}-{i}").dispatch(i) for i in range(3)]
    for _ in range(14):
        run_due(queue)
        h.advance(0.5)
    doomed[0].cancel()
    doomed[1].delete()
    queue.purge("default")
    h.advance(61)
    assert queue.prune() == 37, "36 that ran and one that was cancelled"
    return h.footprint()


@scenario("SAF-09-RATES", suite="contract", needs=("records", "rate_limit"))
def scenario_saf_09_forgotten_rates(h: Harness) -> None:
    """Use fifty rates once, and prune when their windows are over: nothing of them is left, and none was forgotten before."""
    driver: Any = h.driver()

    def use(number: int) -> int:
        rates = [Rate(f"{number}-{i}", 2, 30.0) for i in range(50)]
        driver.send([h.message(rate=rate, retain=1) for rate in rates for _ in range(3)])
        lent = driver.claim(["default"], limit=200, lease=10)
        driver.settle([_done(delivery) for delivery in lent])
        return len(lent)

    def emptied() -> dict[str, int]:
        driver.purge("default")
        h.advance(31)
        while driver.prune():
            pass
        return h.footprint()

    assert use(0) == 100
    before = emptied()
    for number in (1, 2):
        assert use(number) == 100
        driver.prune()
        assert driver.claim(["default"], limit=200, lease=10) == [], "a grant was forgotten within its window"
        after = emptied()
        assert after == before, f"rates that nobody uses any more are kept: {before}, then {after}"
    assert sum(before.values()) < 50


@scenario("SAF-11", needs=("count", "delay"), timing=True)
def scenario_saf_11_internal_maps_empty(h: Harness) -> None:
    """Run jobs that end in every way: at most what a thread had last is remembered, and nothing once the worker has ended."""
    queue = h.queue()

    @queue.job(name="t", retries=1, backoff=Backoff.constant(0.01))
    def job(ctx: JobContext, i: int) -> None:
        if i % 4 == 1:
            raise ValueError("always")
        if i % 4 == 2 and ctx.attempt == 1:
            raise ValueError("once")
        if i % 4 == 3 and not snoozed:
            snoozed.append(i)
            raise Snooze(0.01)

    snoozed: list[int] = []
    queue.dispatch_many(job.job(i) for i in range(80))
    with queue.worker(concurrency=4):
        wait_until(lambda: _unfinished(queue) == 0, "all to end")
        wait_until(lambda: _remembered(queue) <= 6, "the worker to forget its attempts", seconds=5)
    assert _remembered(queue) == 0


def _unfinished(queue: Queue) -> int:
    return sum(c.pending + c.scheduled + c.running for c in queue.stats().queues)


def _remembered(queue: Queue) -> int:
    """Count this queue's attempts that anything still refers to."""
    gc.collect()
    return sum(type(thing) is Attempt and thing.runtime.queue is queue for thing in gc.get_objects())


def run_program(h: Harness, program: str) -> tuple[int, str, float]:
    """Run a program that has `queue`; return its exit code, what it said, and how many seconds it took to leave."""
    head = f"import time\nfrom queuekit import Job, Queue\nqueue = Queue({address_of(h)!r}, store={h.store_url()!r}, namespace={h.namespace!r})\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", head + textwrap.dedent(program)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    ended = time.monotonic()
    said = done.stdout.decode()
    left = float(said.rsplit("leaving at ", maxsplit=1)[1]) if "leaving at " in said else ended
    return done.returncode, done.stderr.decode(), ended - left


@scenario("SAF-13", needs=("processes", "count"), timing=True)
def scenario_saf_13_gc_without_close(h: Harness) -> None:
    """Drop a queue without closing it, and leave: the process ends at once, and nothing but a warning is said."""
    code, said, seconds = run_program(
        h,
        """
        import gc
        queue.dispatch(Job("t"))
        assert queue.health().healthy
        del queue
        gc.collect()
        print("leaving at", time.monotonic())
        """,
    )
    assert code == 0, said
    assert all("Warning" in line or line.startswith(" ") for line in said.splitlines() if line), said
    assert seconds < 3
    assert h.queue().stats().pending == 1


@scenario("SAF-14", needs=("processes", "browse", "lease"), timing=True)
def scenario_saf_14_interpreter_exit_with_running_worker(h: Harness) -> None:
    """Leave while a worker runs a plain and an async handler: the process ends soon, and its jobs run elsewhere."""
    code, said, seconds = run_program(
        h,
        """
        import asyncio
        @queue.job(name="slow")
        def plain(seconds):
            time.sleep(seconds)
        @queue.job(name="note")
        async def asynchronous(tag=""):
            await asyncio.sleep(60)
        plain.dispatch(60.0)
        asynchronous.dispatch()
        worker = queue.start_workers(2, lease=1)
        while queue.stats().in_flight < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        print("leaving at", time.monotonic())
        """,
    )
    assert code == 0, said
    assert seconds < 5
    assert "Traceback" not in said, said
    queue = h.queue()
    left = queue.jobs(type="note")
    assert len(left) == 1
    h.spawn_worker(lease=1.0)
    assert queue.get(left[0].id).wait(20).state == "completed"
