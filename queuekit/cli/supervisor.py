"""Keeps a worker's children alive, and ends them in good order."""

from __future__ import annotations

import signal
import time

from queuekit.bell import Bell
from queuekit.cli.exits import ABANDONED, FORCED, OK, USAGE
from queuekit.cli.process import Process
from queuekit.cli.report import Report
from queuekit.cli.restarts import Restarts
from queuekit.cli.settings import WorkerSettings

__all__ = ["Supervisor"]

STOPS = (signal.SIGTERM, signal.SIGINT)
OVERTIME = 8.0
"""Seconds beyond the grace that a child has to interrupt handlers, give jobs back and leave; then it is killed."""
LEAVING = 5.0
"""Seconds that a child has to exit once its work is over: a thread that a handler left behind must not keep its place."""
DUMP_GAP = 0.2
"""Seconds that a child has to write its stacks."""


class Place:
    """One of the children there should be: the process that fills it now, or when the next one is due."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.restarts = Restarts()
        self.due = 0.0


class Supervisor:
    """Runs `processes` children until a signal ends them.

    1. Start one child; once it has loaded the app, the others. An app that cannot be loaded so ends in one message.
    2. Replace children that end: at once where that was planned, else after a growing pause.
    3. Pass SIGTERM and SIGINT on, once; a second one kills. SIGUSR1 is passed on too.
    """

    def __init__(self, settings: WorkerSettings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._bell = Bell((*STOPS, signal.SIGUSR1, signal.SIGCHLD))
        self._places = [Place(number) for number in range(1, settings.processes + 1)]
        self._loaded = False
        self._stopping_since: float | None = None
        self._code = OK

    def run(self) -> int:
        """Supervise until all is over; return the exit code."""
        with self._bell:
            try:
                while not self._over():
                    self._start_due()
                    self._bell.wait(self._until_next(), [p for p in self._running() if p.talks])
                    self._listen()
                    self._answer_signals()
                    self._end_overdue()
                    self._reap()
            finally:
                self._kill_all()  # whatever happened here, no child is left behind
        return self._code

    def _over(self) -> bool:
        return self._stopping_since is not None and not self._running()

    def _running(self) -> list[Process]:
        return [place.process for place in self._places if place.process is not None]

    def _until_next(self) -> float | None:
        """Return the seconds until something must be done unasked."""
        dues = [p.leaving_since + LEAVING for p in self._running() if p.leaving_since is not None]
        if self._stopping_since is not None:
            dues.append(self._stopping_since + self._settings.grace + OVERTIME)
        else:
            dues += [place.due for place in self._wanted() if place.process is None]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    # ---------------------------------------------------------------------------------------------------- starting

    def _wanted(self) -> list[Place]:
        return self._places if self._loaded else self._places[:1]

    def _start_due(self) -> None:
        if self._stopping_since is not None:
            return
        now = time.monotonic()
        for place in self._wanted():
            if place.process is None and place.due <= now:
                place.process = Process(self._settings)
                self._report.started(place.number, place.process.pid)

    def _listen(self) -> None:
        for process in self._running():
            if process.talks:
                process.listen()
                self._loaded = self._loaded or process.loaded

    # ------------------------------------------------------------------------------------------------------ ending

    def _answer_signals(self) -> None:
        for number in self._bell.signals():
            if number == signal.SIGUSR1:
                self._dump()
            elif number in STOPS and self._stopping_since is None:
                self._report.stopping(number.name, self._settings.grace)
                self._stop(number)
            elif number in STOPS:
                self._report.forced(number.name)
                self._code = FORCED
                self._kill_all()

    def _end_overdue(self) -> None:
        """Kill what takes too long to leave."""
        now = time.monotonic()
        for process in self._running():
            if process.leaving_since is not None and process.leaving_since + LEAVING <= now:
                process.send(signal.SIGKILL)
        if self._stopping_since is not None and self._stopping_since + self._settings.grace + OVERTIME <= now:
            self._code = FORCED if self._running() else self._code
            self._kill_all()

    def _stop(self, number: signal.Signals) -> None:
        self._stopping_since = time.monotonic()
        for process in self._running():
            process.send(number)

    def _dump(self) -> None:
        """Have each child dump its stacks, one after the other: otherwise their lines would mix."""
        for process in self._running():
            if process.loaded:  # before that it has no handler, and SIGUSR1 would end it
                process.send(signal.SIGUSR1)
                time.sleep(DUMP_GAP)

    def _kill_all(self) -> None:
        for place in self._places:
            if place.process is not None:
                place.process.kill()
                place.process = None

    def _reap(self) -> None:
        for place in self._places:
            code = None if place.process is None else place.process.ended()
            if place.process is not None and code is not None:
                self._replace(place, place.process, code)

    def _replace(self, place: Place, process: Process, code: int) -> None:
        """Note how a child ended, and when its successor is due."""
        place.process = None
        now = time.monotonic()
        if self._stopping_since is not None:
            self._code = max(self._code, ABANDONED if code == ABANDONED else OK)
            self._report.left(place.number, process.pid, code, pause=None)
        elif code == USAGE and not self._loaded:
            self._code = USAGE  # nobody else has loaded the app either: it would not help to try again
            self._stop(signal.SIGTERM)
        else:
            pause = place.restarts.pause(code, now - process.started_at)
            place.due = now + pause
            self._report.left(place.number, process.pid, code, pause=pause)
