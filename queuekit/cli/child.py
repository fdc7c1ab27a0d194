"""One child of `queuekit worker`: imports the app, works, and leaves with an exit code that says why.

Started by the supervisor as `python -m queuekit.cli.child SETTINGS FD`; FD is its end of a pair of sockets. The child writes
one byte to it once the app is loaded, and closes it for writing when it has nothing left to do but to exit. When the
other end closes, its parent is dead, and the child leaves at once.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from queuekit.bell import Bell
from queuekit.cli.app import load
from queuekit.cli.changes import Changes
from queuekit.cli.exits import ABANDONED, CRASHED, OK, RECYCLED, RELOADED, STUCK, USAGE
from queuekit.cli.memory import resident_mib
from queuekit.cli.output import tell
from queuekit.cli.settings import WorkerSettings
from queuekit.errors import ConfigurationError, DriverRejected, DriverUnavailable, QueuekitError
from queuekit.queue import Queue
from queuekit.worker.foreground import DUMP, dumping_stacks, running_jobs
from queuekit.worker.worker import Worker

__all__ = ["Child", "main"]

LOADED = b"l"
LOOK_EVERY = 0.5
"""Seconds between looks at memory, files and the worker's health; signals and --max-jobs are noticed at once."""
LAST_CALL = 4.0
"""Seconds that giving jobs back may take when this process leaves at once; interrupted handlers have two of them."""
PATIENT = 30 * 86_400.0
"""A child that is recycled lets its jobs finish, however long they take."""


class Child:
    """Runs one worker until a signal or a reason of its own ends it.

    1. Load the app and build the worker; tell the supervisor.
    2. Work until there is a reason to leave: a signal, a limit, a changed file, a stuck handler.
    3. Stop the worker; give back what still runs after the grace.
    """

    def __init__(self, settings: WorkerSettings, parent: socket.socket) -> None:
        self._settings = settings
        self._parent = parent
        self._bell = Bell((signal.SIGTERM, signal.SIGINT, DUMP))
        self._changes = Changes(Path.cwd())
        self._worker: Worker | None = None
        self._enough = False

    def run(self) -> int:
        """Live; return the exit code."""
        with self._bell, dumping_stacks():
            threading.Thread(target=self._die_with_parent, name="queuekit-parent", daemon=True).start()
            try:
                queue, worker = self._load()
            except (ConfigurationError, DriverRejected) as error:
                return self._refused(error)
            gc.collect()
            gc.freeze()  # what was imported lives as long as the process: no collection looks at it again while a job waits
            worker.start()
            return self._leave(queue, worker, self._until_over(worker))

    # ---------------------------------------------------------------------------------------------------- starting

    def _load(self) -> tuple[Queue, Worker]:
        settings = self._settings
        queue = load(settings.app)
        _log_to_stderr()
        _refuse_unshared(queue, settings)
        if settings.max_jobs is not None:
            queue.on_job_end(self._count_to(settings.max_jobs))
        worker = queue.worker(concurrency=settings.concurrency, queues=settings.queues, lease=settings.lease)
        _refuse_little_memory(settings.max_memory)
        try:
            queue.open()
        except DriverUnavailable as error:
            logging.getLogger("queuekit.worker").warning("the backend is not there yet: %s", error)
        self._worker = worker
        self._parent.send(LOADED)
        return queue, worker

    def _count_to(self, most: int) -> Callable[[object], None]:
        """Return a job hook that ends the work at once; jobs in processes have no hooks, and are noticed by a look."""
        numbers = itertools.count(1)

        def ended(_context: object) -> None:
            if next(numbers) == most:
                self._enough = True
                self._bell.ring()

        return ended

    def _refused(self, error: QueuekitError) -> int:
        """Say what is wrong; with --reload, wait until somebody has corrected it."""
        tell(f"queuekit worker: {error}")
        if not self._settings.reload:
            return USAGE
        self._parent.send(LOADED)
        self._changes.watch_failed(self._settings.app.partition(":")[0], error)
        tell("queuekit worker: waiting for a change")
        while (file := self._changes.look()) is None:
            self._bell.wait(LOOK_EVERY)
            if self._asked_to_stop():
                return OK
        return self._reloaded(file)

    # ----------------------------------------------------------------------------------------------------- working

    def _until_over(self, worker: Worker) -> int:
        """Watch the worker; return the exit code for why it is over."""
        while True:
            code = self._reason(worker)
            if code is not None:
                return code
            self._bell.wait(LOOK_EVERY)

    def _reason(self, worker: Worker) -> int | None:
        settings = self._settings
        if self._asked_to_stop():
            return OK
        if worker.ended:
            return CRASHED
        if worker.stuck.is_set():
            return STUCK
        if self._enough or self._used_up(worker):
            return RECYCLED
        if settings.reload and (file := self._changes.look()) is not None:
            return self._reloaded(file)
        return None

    def _used_up(self, worker: Worker) -> bool:
        most, memory = self._settings.max_jobs, self._settings.max_memory
        return (most is not None and worker.done >= most) or (memory is not None and resident_mib() > memory)

    def _reloaded(self, file: Path) -> int:
        tell(f"queuekit worker: {file.name} changed")
        return RELOADED

    def _asked_to_stop(self) -> bool:
        """Answer the signals that came; whether one of them says to stop."""
        arrived = self._bell.signals()
        if DUMP in arrived:
            tell(f"queuekit worker: {running_jobs(self._worker)}")
        return signal.SIGTERM in arrived or signal.SIGINT in arrived

    # ----------------------------------------------------------------------------------------------------- leaving

    def _leave(self, queue: Queue, worker: Worker, code: int) -> int:
        if code == RECYCLED:
            code = self._finish(worker)
        left = worker.stop(timeout=self._settings.grace)
        if left:
            tell(f"queuekit worker: gives back what still runs after {self._settings.grace:g} s: {' '.join(left)}")
            _bounded(worker.abandon)
            _leave_at_once(code if code == STUCK else ABANDONED)
        queue.close()
        return code

    def _finish(self, worker: Worker) -> int:
        """Let running jobs end, unless a signal comes first."""
        threading.Thread(target=worker.stop, kwargs={"timeout": PATIENT}, daemon=True).start()
        while not worker.ended:
            self._bell.wait(LOOK_EVERY / 10)
            if self._asked_to_stop():
                return OK
        return RECYCLED

    def _stop_now(self) -> None:
        """Claim no more, interrupt what can be interrupted, and give everything back."""
        if self._worker is not None:
            self._worker.stop(timeout=0)
            self._worker.abandon()

    def _die_with_parent(self) -> None:
        try:
            while self._parent.recv(1):
                continue
        except OSError:
            pass
        tell(f"queuekit worker: process {os.getpid()} leaves because its supervisor is gone")
        _bounded(self._stop_now)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # the processes of its handlers too, and nobody is left to ask for a code
        _leave_at_once(ABANDONED)


def _refuse_unshared(queue: Queue, settings: WorkerSettings) -> None:
    limits = queue.driver.limits
    if settings.processes > 1 and not limits.shared:
        message = f"{limits.name}:// lives inside one process: leave --processes out, or use a shared backend"
        raise ConfigurationError(message)


def _refuse_little_memory(most: int | None) -> None:
    now = resident_mib()
    if most is not None and now >= most:
        message = (
            f"--max-memory {most} is refused: the app takes {now:.0f} MiB before its first job; give more than that"
        )
        raise ConfigurationError(message)


def _log_to_stderr() -> None:
    """Show log records, unless the app has decided about that itself."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s")


def _bounded(call: Callable[[], object]) -> None:
    """Try it, for as long as there is time."""
    thread = threading.Thread(target=_tried, args=(call,), daemon=True)
    thread.start()
    thread.join(LAST_CALL)


def _tried(call: Callable[[], object]) -> None:
    try:
        call()
    except QueuekitError as error:
        tell(f"queuekit worker: could not give jobs back ({error}); they start again when their leases run out")


def _leave_at_once(code: int) -> None:
    """End this process without waiting for its threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str]) -> int:
    """Run a child with what the supervisor gave it."""
    settings, descriptor = arguments
    with socket.socket(fileno=int(descriptor)) as parent:
        parent.set_inheritable(False)
        code = Child(WorkerSettings.decode(settings), parent).run()
        with suppress(OSError):
            parent.shutdown(socket.SHUT_WR)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
