"""Every exit code of the command line, with what it tells a script or a supervisor. `queuekit --help` prints them."""

from __future__ import annotations

__all__ = [
    "ABANDONED",
    "CRASHED",
    "FAILED",
    "FORCED",
    "INTERRUPTED",
    "MEANINGS",
    "NOTHING",
    "OK",
    "RECYCLED",
    "RELOADED",
    "STUCK",
    "TIMED_OUT",
    "UNAVAILABLE",
    "USAGE",
]

OK = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 3
TIMED_OUT = 4
NOTHING = 5
# 64 to 78 mean other things in sysexits.h, 128 and more mean signals.
RECYCLED = 80
RELOADED = 81
STUCK = 82
ABANDONED = 83
FORCED = 84
CRASHED = 85
INTERRUPTED = 130

MEANINGS = {
    OK: "all went well; a worker was stopped in good order",
    FAILED: "wait: at least one of the jobs failed or was cancelled; doctor: a promise does not hold as documented",
    USAGE: "the command line or the app is wrong; the message says what to change",
    UNAVAILABLE: "the backend cannot be reached or refuses",
    TIMED_OUT: "wait: jobs were unfinished when the time was up; move: jobs are left in the source",
    NOTHING: "wait: there are no such jobs",
    RECYCLED: "a worker's child reached --max-jobs or --max-memory (it is replaced)",
    RELOADED: "a worker's child saw a changed file (it is replaced)",
    STUCK: "a worker's child had a handler that did not end after its timeout (it is replaced)",
    ABANDONED: "jobs were still running after --grace: they were given back, and other workers start them again",
    FORCED: "a second signal ended the worker at once: its jobs are started again when their leases run out",
    CRASHED: "a worker's child ended by an error of its own (it is replaced)",
    INTERRUPTED: "interrupted from the keyboard",
}
"""What each code means; those from 80 on concern `queuekit worker` and its children."""
