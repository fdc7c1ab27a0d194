"""A worker on the main thread's watch: until a signal asks it to stop, or it ends by itself. And what SIGUSR1 shows."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from queuekit.bell import Bell
from queuekit.errors import ConfigurationError

if TYPE_CHECKING:
    from queuekit.worker.worker import Worker

__all__ = ["DUMP", "dumping_stacks", "running_jobs", "watch", "watched"]

STOPS = (signal.SIGTERM, signal.SIGINT)
DUMP = signal.SIGUSR1
STDERR = 2
"""The descriptor: `sys.stderr` may have none, where a program has replaced it."""
LOOK_EVERY = 0.5
"""Seconds between looks whether the worker has ended; signals are noticed at once."""


@contextmanager
def watched() -> Iterator[Bell]:
    """Note the signals meanwhile that `watch` answers; raises `ConfigurationError` off the main thread, which alone hears them."""
    if threading.current_thread() is not threading.main_thread():
        message = (
            f"queue.run() answers signals, which only the main thread hears, and this is {threading.current_thread().name!r}: "
            "call it there, or use queue.start_workers() and queue.shutdown()"
        )
        raise ConfigurationError(message)
    with Bell((*STOPS, DUMP)) as bell, dumping_stacks():
        yield bell


def watch(worker: Worker, bell: Bell) -> None:
    """Block until a signal asks the worker to stop, or it has ended; from then on another one raises `KeyboardInterrupt`."""
    asked: list[signal.Signals] = []
    while not asked and not worker.ended:
        bell.wait(LOOK_EVERY)
        arrived = bell.signals()
        if DUMP in arrived:
            sys.stderr.write(f"queuekit: {running_jobs(worker)}\n")
        asked = [number for number in arrived if number in STOPS]
    for number in STOPS:
        signal.signal(number, signal.default_int_handler)
    asked += [number for number in bell.signals() if number in STOPS]
    if len(asked) > 1:
        raise KeyboardInterrupt


@contextmanager
def dumping_stacks() -> Iterator[None]:
    """Write the stacks of all threads to stderr whenever SIGUSR1 comes, then do what the program does at it."""
    faulthandler.register(DUMP, file=STDERR, all_threads=True, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(DUMP)


def running_jobs(worker: Worker | None) -> str:
    """Say which jobs a worker runs in this process now."""
    running = [] if worker is None else worker.running
    return f"process {os.getpid()} runs {len(running)} jobs: {' '.join(running)}".rstrip(": ")
