"""`queuekit worker` as real processes on an SQLite file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit import Job, Queue
from queuekit.cli.exits import ABANDONED, FORCED, OK
from tests.cli.program import Program, alive, until

Start = Callable[..., Program]
pytestmark = pytest.mark.slow


def ends(queue: Queue, id: str) -> str:
    """Wait until a job has ended; return its state."""
    return queue.get(id).wait(30).state


def runs(here: Path, name: str) -> None:
    """Wait until a handler has left its mark."""
    until(lambda: list(here.glob(f"{name}-*")))


def test_two_processes_work_and_leave_in_order_at_sigterm(queue: Queue, queuekit: Start) -> None:
    handles = queue.dispatch_many([Job("app.add", {"a": n, "b": 1}) for n in range(50)])
    worker = queuekit("worker", "app:queue", "--processes", "2", "--concurrency", "3")
    assert {ends(queue, handle.id) for handle in handles} == {"completed"}
    until(lambda: len(worker.children()) == 2)
    worker.send(signal.SIGTERM)
    assert worker.code() == OK
    assert not any(map(alive, worker.children()))


def test_a_running_job_may_end_after_sigint(queue: Queue, queuekit: Start, here: Path) -> None:
    job = queue.dispatch(Job("app.nap", {"seconds": 1.0}))
    worker = queuekit("worker", "app:queue")
    runs(here, "nap")
    worker.send(signal.SIGINT)
    assert worker.code() == OK
    assert job.state == "completed"


def test_a_handler_that_exits_costs_one_child_and_its_job_runs_again(queue: Queue, queuekit: Start) -> None:
    other = queue.dispatch(Job("app.add", {"a": 1, "b": 1}))
    job = queue.dispatch(Job("app.die_once", {}))
    worker = queuekit("worker", "app:queue", "--lease", "1")
    assert ends(queue, job.id) == "completed"
    assert ends(queue, other.id) == "completed"
    assert "exit code 7; replaced in 0.1 s" in worker.said()


def test_a_killed_child_is_replaced(queue: Queue, queuekit: Start) -> None:
    worker = queuekit("worker", "app:queue")
    until(queue.workers)
    os.kill(worker.children()[0], signal.SIGKILL)
    until(lambda: len(worker.children()) == 2)
    assert ends(queue, queue.dispatch(Job("app.add", {"a": 1, "b": 1})).id) == "completed"
    assert "was ended by SIGKILL" in worker.said()


def test_children_die_with_a_killed_supervisor_and_give_their_jobs_back(
    queue: Queue, queuekit: Start, here: Path
) -> None:
    job = queue.dispatch(Job("app.sleep", {"seconds": 60}))
    worker = queuekit("worker", "app:queue", "--processes", "2")
    runs(here, "sleep")
    until(lambda: len(worker.children()) == 2)
    worker.send(signal.SIGKILL)
    until(lambda: not any(map(alive, worker.children())))
    assert job.state == "pending"


def test_the_processes_of_handlers_die_with_a_killed_supervisor(queue: Queue, queuekit: Start, here: Path) -> None:
    job = queue.dispatch(Job("app.spin", {"seconds": 60}))
    worker = queuekit("worker", "app:queue")
    runs(here, "spin")
    pid = int(next(here.glob("spin-*")).name.removeprefix("spin-"))
    worker.send(signal.SIGKILL)
    until(lambda: not alive(pid), 10)
    until(lambda: job.state == "pending")


def test_the_processes_of_handlers_die_with_a_killed_child(queue: Queue, queuekit: Start, here: Path) -> None:
    queue.dispatch(Job("app.spin", {"seconds": 60}))
    worker = queuekit("worker", "app:queue")
    runs(here, "spin")
    pid = int(next(here.glob("spin-*")).name.removeprefix("spin-"))
    os.kill(worker.children()[0], signal.SIGKILL)
    until(lambda: not alive(pid), 10)


def test_a_second_signal_kills_at_once(queue: Queue, queuekit: Start, here: Path) -> None:
    queue.dispatch(Job("app.sleep", {"seconds": 60}))
    worker = queuekit("worker", "app:queue")
    runs(here, "sleep")
    worker.send(signal.SIGTERM)
    until(lambda: "a second signal kills" in worker.said())
    start = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.code() == FORCED
    assert time.monotonic() - start < 5
    assert not any(map(alive, worker.children()))


def test_after_the_grace_jobs_are_given_back_and_the_exit_code_says_so(
    queue: Queue, queuekit: Start, here: Path
) -> None:
    job = queue.dispatch(Job("app.sleep", {"seconds": 60}))
    worker = queuekit("worker", "app:queue", "--grace", "0.2")
    runs(here, "sleep")
    worker.send(signal.SIGTERM)
    assert worker.code() == ABANDONED
    assert job.state == "pending"
    assert job.info().attempt == 0
    assert job.id in worker.said()


def test_a_child_is_replaced_after_max_jobs(queue: Queue, queuekit: Start) -> None:
    worker = queuekit("worker", "app:queue", "--max-jobs", "3", "--concurrency", "1")
    pids = {queue.dispatch(Job("app.whoami", {})).result(30) for _ in range(9)}
    assert len(pids) >= 2
    assert "reached --max-jobs" in worker.said()
    assert len(worker.children()) >= 2


def test_a_thread_that_a_handler_left_behind_does_not_keep_a_child(queue: Queue, queuekit: Start) -> None:
    queue.dispatch(Job("app.leave_thread", {}))
    worker = queuekit("worker", "app:queue", "--max-jobs", "1")
    until(lambda: len(worker.children()) == 2, 20)
    assert not alive(worker.children()[0])


def test_a_child_is_replaced_when_it_takes_too_much_memory(queue: Queue, queuekit: Start) -> None:
    worker = queuekit("worker", "app:queue", "--max-memory", "70")
    until(queue.workers)
    assert ends(queue, queue.dispatch(Job("app.hog", {})).id) == "completed"
    until(lambda: len(worker.children()) == 2)
    assert "reached --max-jobs or --max-memory" in worker.said()


def test_a_bound_of_memory_below_what_the_app_needs_is_refused(queuekit: Start) -> None:
    worker = queuekit("worker", "app:queue", "--max-memory", "2")
    assert worker.code() == 2
    assert "MiB before its first job" in worker.said()


def test_a_stuck_handler_costs_its_attempt_and_its_child(queue: Queue, queuekit: Start) -> None:
    job = queue.dispatch(Job("app.sleep", {"seconds": 60}, timeout=0.2, retries=0))
    worker = queuekit("worker", "app:queue", "--grace", "0.1")
    assert ends(queue, job.id) == "failed"
    assert job.info().reason == "timeout"
    until(lambda: len(worker.children()) == 2)
    assert "did not end after its timeout" in worker.said()


def test_a_changed_file_reloads_the_app(queue: Queue, queuekit: Start, here: Path) -> None:
    worker = queuekit("worker", "app:queue", "--reload")
    until(queue.workers)
    app = here / "app.py"
    app.write_text(app.read_text() + "\n\n@queue.job\ndef fresh() -> str:\n    return 'new'\n")
    assert queue.dispatch(Job("app.fresh", {})).result(30) == "new"
    assert "app.py changed" in worker.said()


def test_a_reloading_worker_waits_for_a_broken_app_to_be_corrected(queue: Queue, queuekit: Start, here: Path) -> None:
    app = here / "app.py"
    good = app.read_text()
    app.write_text(good + "\ndef broken(:\n")
    worker = queuekit("worker", "app:queue", "--reload")
    until(lambda: "waiting for a change" in worker.said())
    app.write_text(good)
    assert ends(queue, queue.dispatch(Job("app.add", {"a": 1, "b": 1})).id) == "completed"


def test_sigusr1_dumps_stacks_and_running_jobs(queue: Queue, queuekit: Start, here: Path) -> None:
    job = queue.dispatch(Job("app.nap", {"seconds": 60}))
    worker = queuekit("worker", "app:queue", "--grace", "0")
    runs(here, "nap")
    worker.send(signal.SIGUSR1)
    until(lambda: f"runs 1 jobs: {job.id}" in worker.said())
    assert 'app.py", line' in worker.said()
    assert all(map(alive, worker.children()))


def test_an_app_that_cannot_be_loaded_ends_the_worker_with_one_sentence(queuekit: Start, here: Path) -> None:
    worker = queuekit("worker", "app:nothing", "--processes", "3")
    assert worker.code() == 2
    assert worker.said().count("app has no 'nothing'; app has app:queue") == 1
    assert "Traceback" not in worker.said()


def test_a_corrupt_file_is_told_in_one_sentence(queuekit: Start, here: Path) -> None:
    (here / "jobs.db").write_bytes(b"this is no database " * 100)
    worker = queuekit("worker", "app:queue")
    assert worker.code() == 2
    assert "Traceback" not in worker.said()


def test_memory_is_refused_with_more_than_one_process(queuekit: Start, here: Path) -> None:
    (here / "other.py").write_text('from queuekit import Queue\nqueue = Queue("memory://")\n')
    worker = queuekit("worker", "other:queue", "--processes", "2")
    assert worker.code() == 2
    assert "memory:// lives inside one process" in worker.said()


def test_json_tells_of_children_line_by_line(queuekit: Start) -> None:
    worker = queuekit("worker", "app:queue", "--json")
    until(lambda: "started" in worker.printed())
    worker.send(signal.SIGTERM)
    assert worker.code() == OK
    assert [json.loads(line)["event"] for line in worker.printed().splitlines()] == ["started", "stopping", "left"]
