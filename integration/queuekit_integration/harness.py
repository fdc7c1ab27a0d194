"""What a driver's author writes so that the catalogue can run on the driver, and what scenarios are written with."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from queuekit import Job, JobHandle, Queue, VirtualClock
from queuekit.contract import Delivery, Driver, DriverError, DriverUnavailable, Message
from queuekit.drivers import connect, features_of
from queuekit.ids import new_id
from queuekit.worker.inline import run_due
from queuekit.worker.worker import Worker
from queuekit_integration.checker import Plan, check
from queuekit_integration.expectations import Expectation, Weaker
from queuekit_integration.faults import Proxy
from queuekit_integration.history import Recorder, Watcher, lease_in_time, read_history
from queuekit_integration.keyspace import Keyspace
from queuekit_integration.load import Load
from queuekit_integration.servers import CannotCauseError, Fault, Server
from queuekit_integration.sessions import Sessions
from queuekit_integration.told import Ending, Told, ending_of, last_told

if TYPE_CHECKING:
    from queuekit_integration.registry import Scenario

__all__ = ["Harness", "WorkerProcess", "drive", "logged", "wait_until"]

DEADLINE = 20.0
"""Seconds after which a wait fails; far above what any step takes, so that only a real hang reaches it."""


def wait_until(predicate: Callable[[], Any], what: str, *, seconds: float = DEADLINE) -> Any:
    """Poll until `predicate` holds, and return what it gave; fails with `what` after the deadline."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            message = f"not within {seconds} s: {what}"
            raise AssertionError(message)
        time.sleep(0.005)


def drive(h: Harness, queue: Queue, seconds: float, step: float = 1.0, *, job: JobHandle[Any] | None = None) -> None:
    """Let virtual time pass in steps, running what is due at each; where time really passes, until `job` has ended, and a little on."""
    run_due(queue)
    if not h.virtual and job is not None:
        wait_until(lambda: (run_due(queue), h.standing(job).ended)[1], f"job {job.id} to end")
        h.advance(0.2)
        run_due(queue)
        return
    passed = 0.0
    while passed < seconds:
        h.advance(step)
        passed += step
        run_due(queue)


@contextlib.contextmanager
def logged(logger: str) -> Iterator[list[str]]:
    """Collect what a logger says meanwhile."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    collector = Collector()
    logging.getLogger(logger).addHandler(collector)
    try:
        yield lines
    finally:
        logging.getLogger(logger).removeHandler(collector)


@dataclass
class WorkerProcess:
    """A real worker process that a scenario may freeze, kill or stop."""

    process: subprocess.Popen[bytes]
    folder: Path

    def kill(self) -> None:
        """Kill -9 and wait."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def dispose(self) -> None:
        """Kill it if it still lives, frozen or not."""
        if self.process.poll() is None:
            self.thaw()
            self.kill()

    def end(self, *, seconds: float = DEADLINE) -> int:
        """Wait until it has ended by itself; return the exit code."""
        return self.process.wait(seconds)

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid


@dataclass
class Harness:
    """One cell of the matrix: a driver in one profile, with a namespace that nobody else uses.

    Subclass it in your tests: set `name`, and implement `make_driver`. A driver for several processes also sets `url`.
    """

    silence: ClassVar[float] = 5.0
    """Seconds after which the driver's verbs give up on a server that says nothing, as built here."""

    expectations: ClassVar[Mapping[str, Expectation]] = {}
    """By scenario id, what this column promises less than the scenario, or not yet."""
    without: ClassVar[Mapping[str, Weaker]] = {}
    """By need, what this column promises where its driver lacks one that the API cannot ask for: fencing, unique ids, order."""
    virtual: ClassVar[bool] = True
    """Whether `advance` moves the driver's clock; a service's own cannot be moved, so there time really passes."""
    outlives: ClassVar[bool] = True
    """Whether what the server accepted outlives its end, as started here; an emulator may keep it in memory alone."""
    name: str = ""
    profile: str = ""
    clock: VirtualClock = field(default_factory=VirtualClock)
    namespace: str = ""
    scenario: Scenario | None = None
    """What this cell runs."""
    folder: Path = field(default_factory=Path)
    allowed: frozenset[str] = frozenset()
    """Anomalies that this column's weaker sentence allows in this cell."""
    tolerated: set[str] = field(default_factory=set)
    """Those of them that were seen."""
    _queues: list[Queue] = field(default_factory=list)
    _drivers: list[Driver] = field(default_factory=list)
    _workers: list[WorkerProcess] = field(default_factory=list)
    _proxies: list[Proxy] = field(default_factory=list)
    _recorder: Recorder | None = None
    _told: Told | None = None

    # -------------------------------------------------------------------------------- what a driver's author writes

    def make_driver(self, *, virtual: bool) -> Driver:
        """Build a driver on this cell's backend and namespace; on `self.clock` when `virtual`, else on real time."""
        raise NotImplementedError

    def url(self, *, through: Proxy | None = None) -> str | None:  # noqa: ARG002 - for who has a server
        """Return the address with which another process reaches this cell's backend; None when none can.

        With `through`, the address by which it is reached through that proxy.
        """
        return None

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why this column cannot run on this machine; None where it can."""
        return None

    @property
    def server(self) -> Server | None:
        """The server that the driver speaks to, running when first asked for; None for a driver without one."""
        return None

    def store_url(self, *, through: Proxy | None = None) -> str | None:  # noqa: ARG002 - for who has a store
        """Return the address of the store that the driver is paired with; None for a driver alone."""
        return None

    def parts(self) -> tuple[Driver, Driver] | None:
        """Return a new transport and a new store of this cell, on real time, not opened; None for a driver alone."""
        return None

    def broken(self) -> Driver:
        """Return a driver whose backend cannot be reached, for the error contract."""
        raise NotImplementedError

    def write_garbage(self, body: bytes) -> None:
        """Put a body that queuekit never wrote into the default queue, past the driver."""
        raise NotImplementedError

    def unsafe(self) -> Generator[tuple[str, Driver]]:
        """Make one setting after the other weaken a promise; yield its name, as `diagnose` says it, and a closed driver.

        Put each setting back before the next: others use the same server.
        """
        raise NotImplementedError

    @property
    def file(self) -> Path | None:
        """The one file that holds everything; None for a driver that keeps it elsewhere."""
        return None

    @property
    def keyspace(self) -> Keyspace | None:
        """What can be done to a server whose data are keys; None for any other backend."""
        return None

    @property
    def sessions(self) -> Sessions | None:
        """What can be done to the sessions of a SQL server's clients; None for any other backend."""
        return None

    @property
    def database_at(self) -> tuple[str, str]:
        """Where an application finds the driver's database: a module, and what its `connect` takes.

        Needed where the driver sends or settles in the caller's transaction. What `connect` returns begins a transaction by
        itself, and has `execute`, `commit`, `rollback` and `close`.
        """
        raise NotImplementedError

    def database(self) -> Any:
        """Open the application's own connection to the driver's database."""
        module, address = self.database_at
        return importlib.import_module(module).connect(address)

    @contextlib.contextmanager
    def application(self) -> Iterator[tuple[Any, str]]:
        """Open the application's own connection, with a table of its own; give both."""
        connection, table = self.database(), f'"orders {self.namespace}"'
        connection.execute(f"CREATE TABLE {table} (number INTEGER)")
        connection.commit()
        try:
            yield connection, table
        finally:
            connection.rollback()
            connection.execute(f"DROP TABLE {table}")
            connection.commit()
            connection.close()

    def native(self, driver: Any) -> Any:
        """Return the native client of an open driver's backend; of a pair, the store's."""
        return driver.native()

    def troubles(self) -> Generator[tuple[str, Callable[[], object], type[DriverError]]]:
        """Bring about native errors, one after the other; yield its name, a call that meets it, and what that must raise.

        Undo each before the next.
        """
        raise NotImplementedError

    def footprint(self) -> dict[str, int]:
        """Return what the namespace takes in the backend: keys, rows, entries, each by its kind, live workers left out."""
        raise NotImplementedError

    def leaks(self) -> list[str]:
        """Return what is left over in the backend after the scenario that should not be."""
        return []

    # ------------------------------------------------------------------------------------------ what scenarios use

    @property
    def column(self) -> str:
        """The matrix column."""
        return f"{self.name}:{self.profile}" if self.profile else self.name

    def lacks(self, needs: tuple[str, ...]) -> list[str]:
        """Return those needs that the driver does not meet."""
        driver = self.driver()
        limits = driver.limits
        facts = {
            "fenced": limits.fenced,
            "lease": limits.lease_by == "time",
            # Where a lease ends with its connection, jobs are pushed ahead of need, and an acknowledgement has no answer.
            "lasting": limits.lease_by == "time",
            "unique_ids": limits.unique_ids,
            "processes": limits.shared,
            "order": limits.ordered,
            "virtual_time": self.virtual,
            "server": self.server is not None,
            "outlives": self.outlives,
            "file": self.file is not None,
            "keyspace": self.keyspace is not None,
            "sessions": self.sessions is not None,
            "connections": limits.connections is not None,
            "window": limits.unique_window is not None or "unique" in features_of(driver),
            "pair": self.store_url() is not None,
        }
        have = features_of(driver) | {name for name, holds in facts.items() if holds}
        return [need for need in needs if need not in have]

    def can(self, feature: str) -> bool:
        """Whether the driver has what lets a scenario look closer; what a scenario cannot do without is among its needs."""
        return not self.lacks((feature,))

    def faults(self) -> frozenset[Fault]:
        """Return what can be done to this cell's server; nothing where there is none."""
        return frozenset() if self.server is None else self.server.faults

    def proxy(self, to: Server | None = None) -> Proxy:
        """Return a proxy in front of this cell's server, or another one; it is healed before this cell's queues are closed."""
        server = to or self.server
        assert server is not None, "this driver has no server; the scenario should need `server`"
        proxy = Proxy(server.host, server.port)
        self._proxies.append(proxy)
        return proxy

    def private_server(self, *, folder: Path) -> Server:
        """Start a server of this cell's own, with its data in `folder`; raises `CannotCauseError` where none can be started."""
        raise CannotCauseError(f"{self.name} has no server to start in {folder}")

    @contextlib.contextmanager
    def outage(self, queue: Queue) -> Iterator[None]:
        """Let the backend not answer meanwhile: a driver without a server fails in its verbs, a server is killed."""
        names = [
            name
            for name in ("send", "send_fresh", "claim", "settle", "exchange", "extend")
            if hasattr(queue.driver, name)
        ]
        real = {name: getattr(queue.driver, name) for name in names}

        def fail(*_: Any, **__: Any) -> Any:
            self.recorder.fault("outage", "fired")
            raise DriverUnavailable("injected outage")

        for name in names:
            setattr(queue.driver, name, fail)
        yield
        for name, verb in real.items():
            setattr(queue.driver, name, verb)

    def build(self, *, virtual: bool, through: Proxy | None = None) -> Driver:
        """Build a driver, not opened, that the caller closes."""
        if through is None:
            return self.make_driver(virtual=virtual)
        address = self.url(through=through)
        assert address is not None
        return connect(address, namespace=self.namespace, clock=self.clock if virtual else None)

    def driver(self, *, virtual: bool = True, through: Proxy | None = None) -> Driver:
        """Return an open driver on virtual time, or on real time; `through` a proxy if wanted."""
        driver = self.build(virtual=virtual, through=through)
        self._drivers.append(driver)
        driver.open()
        driver.prepare(["default"])
        return driver

    def queue(self, *, virtual: bool = False, through: Proxy | None = None, **options: Any) -> Queue:
        """Return a queue on real time (for workers), or on virtual time (for `run_due`); `through` a proxy if wanted."""
        driver = self.build(virtual=virtual, through=through)
        queue = Queue(driver, clock=self.clock if virtual else None, **options)
        self._queues.append(queue)
        if not queue.supports("browse"):
            self._told = self._told or Told(self.folder, "scenario")
            queue.observe(self._told)
        return queue

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Let what is made meanwhile use another namespace of the same backend."""
        here = self.namespace
        self.namespace = f"{here}-e"
        try:
            yield
        finally:
            self.namespace = here

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.clock.advance(seconds)

    def message(self, body: str = "{}", *, queue: str = "default", type: str = "t", **fields: Any) -> Message:
        """Return a message with a fresh id."""
        return Message(fields.pop("id", None) or new_id(), queue, type, body, **fields)

    def claim_one(self, driver: Driver, *, lease: float = 10.0, queue: str = "default") -> Delivery:
        """Claim exactly one job."""
        found = driver.claim([queue], limit=1, lease=lease)
        assert len(found) == 1, f"one job should have been claimable, and {len(found)} were"
        return found[0]

    def spawn_worker(
        self, app: str = "queuekit_integration.app", *, through: Proxy | None = None, **settings: Any
    ) -> WorkerProcess:
        """Start a worker process on this cell's backend, `through` a proxy if wanted; it is ready when this returns.

        `settings`: concurrency, lease, queues, grace, clock (seconds by which its wall clock is off); `signals` leaves SIGTERM
        and SIGINT to `Queue.run`; `die_on` kills it at an event; `dispatch` makes it a dispatcher of unique jobs, which begins with number `begin` once the file `wait_for` is in the folder. What its
        handlers do is in `queuekit_integration/app.py`; they
        write to this cell's history folder.
        """
        address = self.url(through=through) if through else self.url()
        assert address is not None, "this driver has no other processes; the scenario should need `processes`"
        name = f"w{len(self._workers)}-{uuid.uuid4().hex[:6]}"
        environment = {
            **os.environ,
            "QUEUEKIT_APP": json.dumps(
                {
                    "url": address,
                    "store": self.store_url(through=through),
                    "namespace": self.namespace,
                    "name": name,
                    **settings,
                }
            ),
            "QUEUEKIT_HISTORY": str(self.folder),
            "PYTHONDEVMODE": "",
        }
        ready = self.folder / f"{name}.ready"
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", app], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        worker = WorkerProcess(process, self.folder)
        self._workers.append(worker)
        wait_until(
            lambda: ready.exists() or process.poll() is not None, f"worker {name} ready ({self._log(name)})", seconds=30
        )
        # A job that waited for this worker may have killed it before it could say that it was ready.
        worked = ready.exists() or any(note["worker"] == name for note in self.notes())
        assert worked or process.poll() is None, f"worker {name} ended at once: {self._log(name)}"
        return worker

    def _log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text("utf-8", "replace")[-2000:] if path.exists() else "no log"

    @property
    def recorder(self) -> Recorder:
        """This process's own part of the history."""
        if self._recorder is None:
            self._recorder = Recorder(self.folder, "scenario")
        return self._recorder

    def dispatch_recorded(self, queue: Queue, jobs: Iterable[Job]) -> list[JobHandle[Any]]:
        """Dispatch one by one, with invocation and answer in the history."""
        handles = []
        for job in jobs:
            id = new_id()
            delay = job.options.delay or 0.0
            self.recorder.write("dispatch", "invoke", job=id, key=job.options.key, delay=delay)
            options = msgspec.structs.replace(job.options, id=id)
            handles.append(queue.dispatch(Job.of(job.type, job.payload, options)))
            self.recorder.write("dispatch", "ok", job=id)
        return handles

    def load(self, queue: Queue, count: int, job: Callable[[int], Job], *, pause: float = 0.0) -> Load:
        """Start a producer that dispatches `count` jobs whatever happens, with everything in the history."""
        return Load(queue, self.recorder, count, job, pause=pause).start()

    def work(self, queue: Queue, *, concurrency: int = 4, lease: float = 1.0) -> Worker:
        """Start a worker in this process, with all that it does in the history."""
        limits = queue.driver.limits
        queue.observe(Watcher(self.recorder, lease=lease_in_time(limits, lease), fenced=limits.fenced))
        worker = queue.worker(concurrency=concurrency, lease=lease).start()
        assert worker.ready(DEADLINE), "the worker is not ready"
        return worker

    def fired(self, fault: str) -> None:
        """Write down that a fault hit."""
        self.recorder.fault(fault, "fired")

    def finish(self, plan: Plan, *, seconds: float = 40.0) -> None:
        """Heal all, let everything be worked off, and judge the history; what is left is asked of a client that saw no fault."""
        self.heal()
        for proxy in self._proxies:
            proxy.heal()
        queue = self.queue()
        try:
            wait_until(lambda: not _unfinished(queue), "every job to end after the faults", seconds=seconds)
        except AssertionError as error:
            error.add_note(f"{queue.stats()}; the history is kept in {self._kept()}")
            raise
        self.judge(queue, plan)

    def brief(self, seconds: float) -> float:
        """Return how long a retry waits whose wait the scenario is not about: so long, or not at all where time really passes."""
        return seconds if self.virtual else 0.0

    @property
    def lookup(self) -> bool:
        """Whether jobs can be looked up: records and results are then asserted too, beside what workers told."""
        return all(queue.supports("browse") for queue in self._queues)

    def standing(self, handle: JobHandle[Any]) -> Ending:
        """Return where a job stands now: looked up where that can be done, else by the last outcome that was accepted of it."""
        if self.lookup:
            return ending_of(handle.info())
        return last_told(self.folder, handle.id) or Ending("pending", attempt=0)

    def ended(self, handle: JobHandle[Any], *, seconds: float = DEADLINE) -> Ending:
        """Block until a job has ended; return how. Looked up where that can be done, else as its worker told it."""
        if self.lookup:
            return ending_of(handle.wait(seconds))

        def told() -> Ending | None:
            standing = self.standing(handle)
            return standing if standing.ended else None

        return wait_until(told, f"job {handle.id} to end", seconds=seconds)  # type: ignore[no-any-return]

    def returned(self, handle: JobHandle[Any], result: Any, *, seconds: float = DEADLINE) -> None:
        """Block until a job has ended; assert that it completed and, where results are kept, that this is its own."""
        ending = self.ended(handle, seconds=seconds)
        assert ending.state == "completed", f"job {handle.id} ended as {ending}"
        if self.lookup:
            assert handle.result(1) == result

    def all_done(self, queue: Queue, handles: Iterable[JobHandle[Any]]) -> None:
        """Block until these jobs are completed; where jobs cannot be looked up, until nothing is left to run."""
        if not queue.supports("browse"):
            queue.drain(60)
            return
        for handle in handles:
            assert handle.wait(30).state == "completed"

    def kill_recorded(self, worker: WorkerProcess, *, freeze: bool = False) -> None:
        """Kill (or freeze) a worker, with the fault in the history."""
        fault = "freeze" if freeze else "kill"
        if freeze:
            worker.freeze()
        else:
            worker.kill()
        self.recorder.write("fault", "ok", name=fault, outcome="fired")

    def judge(self, queue: Queue, plan: Plan) -> None:
        """Ask the backend what is left, and assert that the whole history is valid."""
        counts = queue.stats()
        self.recorder.write("oracle", "ok", ready=counts.pending, in_flight=counts.in_flight)
        self.judge_history(plan)

    def judge_history(self, plan: Plan) -> None:
        """Assert that the whole history is valid, but for what this column's weaker sentence allows."""
        verdict = check(read_history(self.folder), dataclasses.replace(plan, allowed=plan.allowed | self.allowed))
        self.tolerated |= verdict.tolerated
        assert verdict.valid, f"{verdict}; the history is kept in {self._kept()}"

    def _kept(self) -> Path:
        """Copy this cell's files to where they outlive it: an invalid history is final, and somebody will want to read it."""
        kept = Path("results", "histories", f"{self.column.replace(':', '-')}-{self.namespace}")
        shutil.copytree(self.folder, kept, dirs_exist_ok=True)
        return kept

    def heal(self) -> None:
        """Undo what was done to the server."""

    def starts(self, job_id: str | None = None) -> list[dict[str, Any]]:
        """Return the handler starts that worker processes recorded, oldest first."""
        return [r for r in self.notes() if r["f"] == "start" and job_id in {None, r["job"]}]

    def wait_for_starts(self, count: int) -> None:
        """Block until worker processes recorded at least so many starts."""
        wait_until(lambda: len(self.starts()) >= count, f"{count} starts")

    def notes(self) -> list[dict[str, Any]]:
        """Return all that worker processes' handlers noted."""
        records: list[dict[str, Any]] = []
        for path in self.folder.glob("*.notes"):
            for line in path.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError):  # a line torn by a kill
                    records.append(json.loads(line))
        return sorted(records, key=lambda record: record["t"])

    def close(self) -> None:
        """End what this cell started, also after a failure, and all of it though one part fails; a server that was harmed is healed first."""
        with contextlib.ExitStack() as stack:
            for end in reversed([*self._ends()]):
                stack.callback(end)

    def _ends(self) -> Iterator[Callable[[], object]]:
        """Yield what is to be done, in order."""
        yield self.heal
        yield from [proxy.heal for proxy in self._proxies]
        yield from [worker.dispose for worker in self._workers]
        if self._recorder is not None:
            yield self._recorder.close
        for queue in self._queues:
            yield functools.partial(queue.shutdown, timeout=2)
            yield queue.close
        yield from [driver.close for driver in self._drivers]
        yield from [proxy.close for proxy in self._proxies]
        if self._told is not None:
            yield self._told.close


def _unfinished(queue: Queue) -> int:
    return sum(counts.pending + counts.scheduled + counts.running for counts in queue.stats().queues)


@contextlib.contextmanager
def cell(kind: type[Harness]) -> Iterator[Harness]:
    """Make a cell, and clean up behind it."""
    with tempfile.TemporaryDirectory(prefix="queuekit-", ignore_cleanup_errors=True) as folder:
        harness = kind(namespace=f"t{uuid.uuid4().hex[:10]}", folder=Path(folder))
        try:
            yield harness
        finally:
            harness.close()
