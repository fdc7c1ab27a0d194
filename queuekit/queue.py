"""The facade: one object for dispatching, working and operating."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, Unpack, cast, overload

from queuekit.backendtime import BackendTime
from queuekit.clock import Clock, SystemClock
from queuekit.codec import Codec
from queuekit.context import JobContext
from queuekit.contract import (
    Driver,
    Finding,
    Named,
    QueueCounts,
    Receipt,
    State,
    WorkerInfo,
    enter,
    namespace_of,
)
from queuekit.dispatcher import Dispatcher, refuse_unsupported
from queuekit.drivers import connect, features_of, known_features
from queuekit.durations import Duration, checked_name, refuse, seconds, whole
from queuekit.errors import ConfigurationError, QueueClosed, QueuekitError
from queuekit.events import Events, Observer
from queuekit.filters import given, query_of
from queuekit.handle import JobHandle
from queuekit.handlers import Handler, Registry
from queuekit.hooks import Hooks
from queuekit.ids import no_job, sought_id
from queuekit.info import JobInfo, JobPage, job_info
from queuekit.job import Job
from queuekit.jobtype import JobType
from queuekit.options import HANDLER_OPTIONS, HandlerOptions, Options
from queuekit.remedies import unsupported
from queuekit.stats import Capabilities, Health, Stats

if TYPE_CHECKING:
    from concurrent.futures import Future
    from uuid import UUID

    from queuekit.coalesce import Coalescer
    from queuekit.worker.worker import Worker

__all__ = ["Middleware", "Queue"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

Middleware = Callable[[JobContext, Callable[[], Any]], Any]
"""Called around every handler: `def timing(ctx, call_next): …; result = call_next(); …; return result`. Around an async
handler `call_next()` gives an awaitable, and the middleware may be async itself."""

PAGE = 500
"""Records looked at a time by the bulk forms of cancel, retry and delete."""


class Decorator(Protocol):
    """Types what `@queue.job` makes of a handler: without its context parameter, and without `async`."""

    @overload
    def __call__(self, fn: Callable[Concatenate[JobContext, P], Awaitable[R]], /) -> JobType[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[JobContext, P], R], /) -> JobType[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> JobType[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> JobType[P, R]: ...


class Queue:
    """Dispatches jobs to one backend, works them off, and operates it.

    `backend` is a URL (`memory://`, `sqlite:///jobs.db`, `redis://…`) or a driver object. Nothing is connected before
    the first use. Everything here may be called from any thread.

    Queues in different namespaces of one backend know nothing of one another. Without `namespace` it is that of the driver
    object, else `queuekit`; a driver object that was built or opened in another one is refused.
    """

    def __init__(
        self,
        backend: str | Driver,
        *,
        store: str | Driver | None = None,
        default_queue: str = "default",
        namespace: str | None = None,
        middleware: Sequence[Middleware] = (),
        observers: Sequence[Observer] = (),
        requires: Sequence[str] = (),
        codec: Codec | None = None,
        codecs: Sequence[Codec] = (),
        redact: Callable[[str, Any], Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.namespace = namespace_of(backend, store) if namespace is None else checked_name("namespace", namespace)
        self.default_queue = checked_name("default_queue", default_queue)
        self.clock: Clock = SystemClock() if clock is None else _checked_clock(clock)
        self.driver = self._connected("backend", backend, clock, named=namespace is not None)
        if store is not None:
            engine = self._connected("store", store, clock, named=namespace is not None)
            self.driver = _paired(self.driver, engine, self.clock)
        self.features = features_of(self.driver)
        self.middleware = tuple(_checked_callables("middleware", middleware))
        self.events = Events(tuple(_checked_callables("observers", observers)), now=self.clock.time)
        self.handlers = Registry()
        self.hooks = Hooks()
        self._codec = None if codec is None else _checked_codec("codec", codec)
        others = [_checked_codec("codecs", other) for other in _checked_list("codecs", codecs)]
        self.codecs = {c.name: c for c in (*others, *([codec] if codec is not None else ()))}
        if redact is not None and not callable(redact):
            raise refuse(
                "redact", redact, "give a function of a job type's name and a payload, which returns what may be shown"
            )
        self._redact = redact
        self._refuse_missing(requires)
        self._lock = threading.RLock()
        self._opened = False
        self._closed = False
        self._prepared: set[str] = set()
        self._worker: Worker | None = None
        self._coalescer: Coalescer | None = None
        self._dispatcher = self._make_dispatcher()

    def _connected(self, option: str, given: str | Driver, clock: Clock | None, *, named: bool) -> Driver:
        """Return the driver, working in this queue's namespace; `named`: somebody asked for it by name."""
        if isinstance(given, str):
            return connect(given, namespace=self.namespace, clock=clock)
        if not isinstance(given, Driver):
            raise refuse(option, given, "give a URL or a driver")
        if named or isinstance(given, Named):
            enter(given, self.namespace)
        return given

    def _make_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            driver=self.driver,
            features=self.features,
            handlers=self.handlers,
            events=self.events,
            clock=self.clock,
            default_queue=self.default_queue,
            codec=self._codec,
            opened=self.open,
            prepare=self.prepare,
        )

    @property
    def backend_time(self) -> BackendTime:
        """The wall clock that deadlines go by."""
        return self._dispatcher.backend_time

    def swap_driver(self, driver: Driver, clock: Clock) -> Callable[[], None]:
        """Use another driver and clock from now on, and return what puts the old ones back: for tests of an application.

        Refused while workers run.
        """
        if self._worker is not None:
            message = "swap_driver while workers run: call shutdown() first"
            raise ConfigurationError(message)
        kept = (self.driver, self.clock, self.features, self._dispatcher, self._opened, self._closed, self._prepared)
        coalescer = self._coalescer
        self.driver, self.clock, self.features = driver, clock, features_of(driver)
        self._opened, self._closed, self._prepared = False, False, set()
        self._coalescer = None
        self._dispatcher = self._make_dispatcher()

        def restore() -> None:
            if self._coalescer is not None:
                self._coalescer.close()
            self._coalescer = coalescer
            self.driver, self.clock, self.features, self._dispatcher, self._opened, self._closed, self._prepared = kept

        return restore

    # ------------------------------------------------------------------------------------------------------- life

    def open(self) -> None:
        """Connect now instead of at the first use. Idempotent; raises `QueueClosed` after `close`."""
        if self._opened:
            return
        with self._lock:
            if not self._opened:
                self._refuse_closed()
                self.driver.open()
                self._opened = True

    def prepare(self, queue: str) -> None:
        """Make a queue exist; asked of the backend once per process."""
        if queue not in self._prepared:
            self.driver.prepare([queue])
            self._prepared.add(queue)

    def close(self) -> None:
        """Stop this queue's workers (waiting up to 30 s for running jobs) and let go of the backend. Idempotent.

        Afterwards everything that needs the backend raises `QueueClosed`.
        """
        self.shutdown(timeout=30)
        with self._lock:
            coalescer, self._coalescer = self._coalescer, None
            self._closed = True
        if coalescer is not None:
            coalescer.close()
        self.driver.close()
        self._opened = False

    def __enter__(self) -> Self:
        self._refuse_closed()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------- capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: its limits and its features, as values."""
        return Capabilities(limits=self.driver.limits, features=tuple(sorted(self.features)))

    def supports(self, feature: str) -> bool:
        """Whether the backend has a feature; raises `ConfigurationError` for a name that is none."""
        if feature not in known_features():
            message = f"there is no feature {feature!r}; features are: {', '.join(known_features())}"
            raise ConfigurationError(message)
        return feature in self.features

    def _refuse_missing(self, requires: Sequence[str]) -> None:
        for feature in _checked_list("requires", requires):
            if not self.supports(feature):
                raise self._lacks(feature, f"do what requires={feature!r} asks for")

    def _lacks(self, feature: str, what: str) -> ConfigurationError:
        return unsupported(self.driver, feature, what)

    def _need(self, feature: str, what: str) -> Any:
        """Return the driver for a feature that it has; raises `UnsupportedError` when it lacks it."""
        if feature not in self.features:
            raise self._lacks(feature, what)
        self.open()
        return self.driver

    # ---------------------------------------------------------------------------------------------- registration

    @overload
    def job(self, fn: Callable[Concatenate[JobContext, P], Awaitable[R]], /) -> JobType[P, R]: ...
    @overload
    def job(self, fn: Callable[Concatenate[JobContext, P], R], /) -> JobType[P, R]: ...
    @overload
    def job(self, fn: Callable[P, Awaitable[R]], /) -> JobType[P, R]: ...
    @overload
    def job(self, fn: Callable[P, R], /) -> JobType[P, R]: ...
    @overload
    def job(self, *, name: str | None = None, **options: Unpack[HandlerOptions]) -> Decorator: ...

    def job(self, fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:  # type: ignore[misc]  # mypy #16760: Unpack
        """Register a function as the handler of a job type: `@queue.job` or `@queue.job(name="…", retries=5)`.

        The name defaults to the function's module and name. The payload is a JSON object of the function's arguments by name;
        a function whose one parameter besides the context is called `payload` gets the payload whole, whatever it is, and next
        to other parameters `payload` is an argument like them. Raises `ConfigurationError` for bad options, a second
        handler of one name, `*args` or positional-only parameters.
        """

        def decorate(function: Callable[..., Any]) -> JobType[Any, Any]:
            handler = self._register(name or _default_name(function), function, options)
            return JobType(self, handler)

        return decorate if fn is None else decorate(fn)

    def register(self, name: str, handler: Callable[..., Any], **options: Unpack[HandlerOptions]) -> None:
        """Register a handler by name, without decorating it; what `job` says of arguments, `payload` and errors holds here too."""
        self._register(name, handler, options)

    def _register(self, name: str, fn: Callable[..., Any], options: Mapping[str, Any]) -> Handler:
        checked = Options.build(options, where=f"the handler {name!r}", allowed=HANDLER_OPTIONS)
        if checked.executor == "process" and self.middleware:
            message = (
                f'executor="process" runs {name!r} in another process, where this queue\'s middleware does not reach: '
                "leave one of the two out, or use on_job_start and on_job_end, which run around it"
            )
            raise ConfigurationError(message)
        refuse_unsupported(checked, self.driver, self.features)
        handler = self.handlers.add(name, fn.fn if isinstance(fn, JobType) else fn, checked)
        self._dispatcher.forget_plans()
        return handler

    # --------------------------------------------------------------------------------------------------- dispatch

    def dispatch(
        self,
        job: Job,
        *,
        timeout: Duration | None = None,
        cancel: threading.Event | None = None,
        connection: Any = None,
    ) -> JobHandle[Any]:
        """Send a job; return once the backend has accepted it.

        `timeout` and `cancel` bound the sending itself: `DispatchTimeout` and `DispatchCancelled` mean that provably
        nothing was sent. `connection` is the caller's own database connection: the job exists if its transaction commits.
        """
        if not isinstance(job, Job):
            message = f"dispatch takes a Job, not {type(job).__name__}: use Job(type, payload) or handler.dispatch(…)"
            raise ConfigurationError(message)
        plan = self._dispatcher.plan(job.type, job.options)
        limit = None if timeout is None else seconds("timeout", timeout)
        receipt = self._dispatcher.dispatch(plan, job.payload, timeout=limit, cancel=cancel, connection=connection)
        return self._handle(receipt)

    def dispatch_to(self, handler: Handler, options: Options, payload: Any) -> JobHandle[Any]:
        """Send a registered handler's job (what `JobType.dispatch` calls)."""
        return self._handle(self._dispatcher.dispatch(self._dispatcher.plan(handler.name, options), payload))

    def dispatch_many(
        self,
        jobs: Iterable[Job],
        *,
        timeout: Duration | None = None,
        cancel: threading.Event | None = None,
        connection: Any = None,
    ) -> list[JobHandle[Any]]:
        """Send jobs in batches; handles come back in order.

        All jobs are validated before any is sent. When only some were accepted, `PartialDispatch` says which.
        """
        made = self._dispatcher.messages(jobs)
        limit = None if timeout is None else seconds("timeout", timeout)
        receipts = self._dispatcher.dispatch_many(made, timeout=limit, cancel=cancel, connection=connection)
        return [self._handle(receipt) for receipt in receipts]

    async def dispatch_async(self, job: Job) -> JobHandle[Any]:
        """Send a job without ever blocking this thread's event loop; concurrent calls travel in one batch."""
        [message] = self._dispatcher.messages([job])
        if self._coalescer is None:
            self._start_coalescer()
        coalescer = cast("Coalescer", self._coalescer)
        receipt = await coalescer.dispatch(message)
        return self._handle(receipt)

    def _start_coalescer(self) -> None:
        from queuekit.coalesce import Coalescer  # noqa: PLC0415 - asyncio costs 30 ms that most programs never need

        with self._lock:
            self._refuse_closed()
            if self._coalescer is None:
                self._coalescer = Coalescer(self._dispatcher)

    def _handle(self, receipt: Receipt) -> JobHandle[Any]:
        if self.driver.limits.inline:
            from queuekit.worker.inline import run_job  # noqa: PLC0415 - only sync:// works in its dispatcher

            run_job(self, receipt.id)
        return JobHandle(self, receipt.id, created=receipt.created)

    def _run_inline(self) -> None:
        if self.driver.limits.inline:
            from queuekit.worker.inline import run_all  # noqa: PLC0415 - only sync:// works in its dispatcher

            run_all(self)

    # ---------------------------------------------------------------------------------------------------- workers

    def worker(
        self,
        *,
        concurrency: int = 10,
        queues: Mapping[str, int] | Sequence[str] | None = None,
        lease: Duration = 30,
        name: str | None = None,
    ) -> Worker:
        """Return a worker; `start` it, or use it in a `with` statement.

        `concurrency` jobs run at once. `queues` maps names to weights that share out the claims; without it, the
        default queue and every one that a registered handler names. `lease` is how long the backend waits for a sign
        of life before it gives a job to another worker; it is renewed every third of it.
        """
        from queuekit.worker.worker import Worker  # noqa: PLC0415 - a producer needs none of it

        self._refuse_closed()
        return Worker(self, concurrency=concurrency, queues=queues, lease=lease, name=name)

    def start_workers(
        self, concurrency: int = 10, *, queues: Mapping[str, int] | Sequence[str] | None = None, lease: Duration = 30
    ) -> Worker:
        """Work in the background, `concurrency` jobs at once. A second identical call changes nothing.

        Raises `ConfigurationError` when workers run already with other arguments.
        """
        asked = self.worker(concurrency=concurrency, queues=queues, lease=lease)
        with self._lock:
            if self._worker is None or self._worker.ended:
                self._worker = asked
            elif asked.arguments != self._worker.arguments:
                message = (
                    f"workers run already with {self._worker.arguments}, and {asked.arguments} was asked for: "
                    "call shutdown() first, or use queue.worker(…) for a second set"
                )
                raise ConfigurationError(message)
            worker = self._worker
        worker.start()
        return worker

    def shutdown(self, timeout: Duration = 30) -> list[str]:
        """Stop the workers of `start_workers`: give back what has not started, wait for what runs.

        After `timeout` seconds running handlers are interrupted where that is possible. Returns the ids of jobs that still
        run all the same; their leases are renewed until they end. Idempotent, from any thread.
        """
        with self._lock:
            worker = self._worker
        if worker is None:
            return []
        left = worker.stop(timeout=timeout)
        with self._lock:
            if self._worker is worker:
                self._worker = None
        return left

    def run(
        self,
        concurrency: int = 10,
        *,
        queues: Mapping[str, int] | Sequence[str] | None = None,
        lease: Duration = 30,
        grace: Duration = 30,
    ) -> None:
        """Work until SIGTERM or SIGINT, then shut down within `grace` seconds; a second signal ends at once.

        Blocks, on the main thread alone. SIGUSR1 writes the stacks of all threads and the running jobs to stderr. Returns as
        well when another thread calls `shutdown`, and raises what ended the worker when that was an error.
        """
        from queuekit.worker.foreground import watch, watched  # noqa: PLC0415 - a producer needs none of it

        with watched() as bell:
            worker = self.start_workers(concurrency, queues=queues, lease=lease)
            watch(worker, bell)
            self.shutdown(timeout=grace)
        if worker.error is not None:
            raise worker.error

    def drain(self, timeout: Duration | None = None) -> None:
        """Block until nothing is ready or running (delayed jobs do not count); raises `TimeoutError`."""
        self._need("count", "tell when it is drained")
        end = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
        pause = 0.001
        while any(c.pending or c.running for c in self._counts()):
            if end is not None and time.monotonic() >= end:
                message = f"jobs were still ready or running after {timeout} s"
                raise TimeoutError(message)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def workers(self) -> list[WorkerInfo]:
        """Return every live worker of this namespace, in any process, with what it runs."""
        found: list[WorkerInfo] = self._need("registry", "list workers").workers()
        return found

    def on_worker_start(self, fn: F) -> F:
        """Call `fn()` in each worker before its first job; usable as a decorator."""
        return self.hooks.add("worker_start", fn)

    def on_worker_stop(self, fn: F) -> F:
        """Call `fn()` in each worker after its last job, also after an error."""
        return self.hooks.add("worker_stop", fn)

    def on_job_start(self, fn: F) -> F:
        """Call `fn(ctx)` before every handler, on its thread; an error fails the attempt."""
        return self.hooks.add("job_start", fn)

    def on_job_end(self, fn: F) -> F:
        """Call `fn(ctx)` after every handler, on its thread, whatever came of it."""
        return self.hooks.add("job_end", fn)

    # ---------------------------------------------------------------------------------------------------- operate

    def info(self, id: str | UUID) -> JobInfo:
        """Return all that is known of a job; raises `JobNotFound`."""
        driver, sought = self._need("browse", "look a job up"), sought_id(id)
        [record] = driver.get([sought])
        if record is None:
            raise no_job(sought)
        return job_info(record, self.codecs, self._redact)

    def get(self, id: str | UUID) -> JobHandle[Any]:
        """Return the handle of a job; raises `JobNotFound`."""
        return JobHandle(self, self.info(id).id)

    def jobs(
        self,
        *,
        state: State | Sequence[State] | None = None,
        queue: str | None = None,
        type: str | None = None,
        tag: str | None = None,
        search: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> JobPage:
        """Return one page of jobs in order of acceptance; hand the page's `next` in as `after` for the following."""
        driver = self._need("browse", "list jobs")
        found = driver.browse(
            query_of(state=state, queue=queue, type=type, tag=tag, search=search, limit=limit, after=after)
        )
        page = JobPage(job_info(record, self.codecs, self._redact) for record in found.records)
        page.next = found.next
        return page

    def cancel(self, id: str | UUID | None = None, **filters: Any) -> Any:
        """Cancel one job (True unless it had ended, raises `JobNotFound`), or all that match filters (their number)."""
        driver = self._need("control", "cancel a job")
        return self._change(driver.cancel, id, filters, lambda before: before in {"pending", "scheduled", "running"})

    def retry(self, id: str | UUID | None = None, **filters: Any) -> Any:
        """Start a failed or cancelled job over (False in other states), or all that match filters (their number)."""
        driver = self._need("control", "retry a job")
        changed = self._change(driver.retry, id, filters, lambda before: before in {"failed", "cancelled"})
        self._run_inline()
        return changed

    def delete(self, id: str | UUID | None = None, **filters: Any) -> Any:
        """Remove a job and its record (False while it runs), or all that match filters (their number)."""
        driver = self._need("control", "delete a job")
        return self._change(driver.delete, id, filters, lambda before: before != "running")

    def _change(
        self,
        verb: Callable[[Sequence[str]], list[State | None]],
        id: str | UUID | None,
        filters: dict[str, Any],
        changed: Callable[[State], bool],
    ) -> bool | int:
        chosen = given(filters, id=id)
        if id is not None:
            sought = sought_id(id)
            [before] = verb([sought])
            if before is None:
                raise no_job(sought)
            return changed(before)
        count, after = 0, None
        while True:
            page = self.jobs(limit=PAGE, after=after, **chosen)
            before_all = verb([job.id for job in page]) if page else []
            count += sum(before is not None and changed(before) for before in before_all)
            after = page.next
            if after is None:
                return count

    def pause(self, name: str) -> None:
        """Start nothing more from a queue, in any process; dispatching goes on, running jobs finish."""
        self._need("pause", "pause a queue").pause(checked_name("queue", name))

    def resume(self, name: str) -> None:
        """Let a paused queue go on."""
        self._need("pause", "resume a queue").resume(checked_name("queue", name))
        self._run_inline()

    def purge(self, name: str) -> int:
        """Delete all that waits in a queue, and return how much that was; running and finished jobs stay."""
        count: int = self._need("purge", "purge a queue").purge(checked_name("queue", name))
        return count

    def migrations(self) -> list[str]:
        """Return the steps that the backend's tables still lack; the queue need not be open."""
        names: list[str] = self._need_migrate().migrations()
        return names

    def migrate(self) -> list[str]:
        """Make or update the backend's tables, safe from several processes at once; return the steps applied.

        The queue need not be open: opening is what a backend without its tables refuses.
        """
        names: list[str] = self._need_migrate().migrate()
        return names

    def _need_migrate(self) -> Any:
        if "migrate" not in self.features:
            raise self._lacks("migrate", "migrate a schema")
        return self.driver

    def stats(self) -> Stats:
        """Return depth by queue and state, the age of the oldest ready job, and live workers."""
        counts = self._counts()
        workers = self.workers() if "registry" in self.features else []
        return Stats(queues=tuple(counts), workers=tuple(workers))

    def _counts(self) -> list[QueueCounts]:
        """Count every queue of the backend; one that cannot list them counts those that are known here."""
        driver = self._need("count", "count jobs")
        for name in (self.default_queue, *self.handlers.queues()):
            self.prepare(name)
        counts: list[QueueCounts] = driver.count()
        return counts

    def health(self, timeout: Duration = 5) -> Health:
        """Ask the backend for a sign of life; never raises and never takes longer than `timeout` seconds."""
        from concurrent.futures import Future  # noqa: PLC0415 - what a worker never needs

        limit = seconds("timeout", timeout)
        answer: Future[None] = Future()
        thread = threading.Thread(target=_answer, args=(answer, self._touch), name="queuekit-health", daemon=True)
        start = time.monotonic()
        thread.start()
        try:
            answer.result(limit)
        except TimeoutError:
            return Health(healthy=False, message=f"no answer within {limit} s", seconds=time.monotonic() - start)
        except Exception as error:  # whatever ails the backend, this call is there to say it
            text = str(error) if isinstance(error, QueuekitError) else f"{type(error).__name__}: {error}"
            return Health(healthy=False, message=text, seconds=time.monotonic() - start)
        return Health(healthy=True, message="ok", seconds=time.monotonic() - start)

    def doctor(self, *, concurrency: int = 10) -> list[Finding]:
        """Say which promises the installation and the backend's settings weaken, and what to set; reads only.

        `concurrency` is what the connections are judged against. Also returns what is in order (level `ok`). Blocks for a
        few round trips; on SQLite for one reading of the file. Raises `UnsupportedError` where the driver cannot tell.
        """
        from queuekit import __version__, doctor  # noqa: PLC0415 - asked for by hand, never on a job's way

        driver = self._need("diagnose", "say what its settings promise")
        found = doctor.examine(
            driver, self.features, self.clock, concurrency=whole("concurrency", concurrency, least=1, most=10_000)
        )
        return [*doctor.examine_installation(__version__), *found]

    def _touch(self) -> None:
        self.open()
        self.driver.prepare([self.default_queue])

    def history(self, *, queue: str | None = None, limit: int = 100, after: str | None = None) -> JobPage:
        """Return finished jobs that are still retained, in order of acceptance."""
        return self.jobs(state=("completed", "failed", "cancelled"), queue=queue, limit=limit, after=after)

    def prune(self, *, older_than: Duration | None = None) -> int:
        """Forget finished jobs past their retention (or older than this); return how many."""
        driver = self._need("records", "prune records")
        age = None if older_than is None else seconds("older_than", older_than)
        total = 0
        while count := driver.prune(older_than=age):
            total += count
        return total

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of every event in this process from now on; call what is returned to stop."""
        return self.events.add(observer)

    def _refuse_closed(self) -> None:
        if self._closed:
            message = "this queue was closed; build a new one"
            raise QueueClosed(message)

    def __repr__(self) -> str:
        return f"<Queue {self.driver.limits.name} namespace={self.namespace!r}>"


def _answer(future: Future[None], call: Callable[[], None]) -> None:
    try:
        call()
        future.set_result(None)
    except BaseException as error:
        future.set_exception(error)


def _checked_list(option: str, values: Sequence[Any]) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise refuse(option, values, "give a list")
    return values


def _checked_callables(option: str, values: Sequence[Any]) -> Sequence[Any]:
    for value in _checked_list(option, values):
        if not callable(value):
            raise refuse(option, value, "give callables")
    return values


def _checked_codec(option: str, value: Codec) -> Codec:
    if not isinstance(getattr(value, "name", None), str) or not _has_methods(value, "encode", "decode"):
        raise refuse(option, value, "give an object with a name, encode(bytes) -> str and decode(str) -> bytes")
    return value


def _checked_clock(value: Clock) -> Clock:
    if not _has_methods(value, "time", "monotonic", "wait"):
        raise refuse("clock", value, "give a clock, such as queuekit.SystemClock() or queuekit.VirtualClock()")
    return value


def _has_methods(value: object, *names: str) -> bool:
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)


def _paired(transport: Driver, store: Driver, clock: Clock) -> Driver:
    from queuekit.pairing import pair  # noqa: PLC0415 - only a transport with a store needs it

    return pair(transport, store, clock=clock)


def _default_name(fn: Callable[..., Any]) -> str:
    module = getattr(fn, "__module__", None) or ""
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    name = name.rpartition("<locals>.")[2]
    return name if module in {"", "__main__"} else f"{module}.{name}"[-60:]
