"""The commands that look at jobs, and what they say when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from queuekit import DriverUnavailable, Job, Queue
from queuekit.cli import main
from queuekit.cli.exits import FAILED, MEANINGS, NOTHING, OK, TIMED_OUT, UNAVAILABLE, USAGE
from queuekit.sqlite import SqliteDriver


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a command puts on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> int:
    """Run a command as a process of its own would: with an app that nobody has imported yet."""
    before = set(sys.modules)
    try:
        return main(arguments)
    finally:
        for name in set(sys.modules) - before:
            if str(Path.cwd()) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def work_off(queue: Queue) -> None:
    """Run what is ready, by handlers that add or fail."""

    def bad() -> None:
        raise ValueError("no good")

    queue.register("app.add", lambda payload: 3)
    queue.register("app.bad", bad, retries=0)
    with queue.worker(concurrency=2):
        queue.drain(timeout=10)


# ------------------------------------------------------------------------------------------------------- looking


def test_jobs_shows_a_page_and_how_to_get_the_next(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        queue.dispatch(Job("app.add", {"a": n, "b": 1}, tags=("nightly",)))
    assert run("jobs", "app:queue", "--limit", "2", "--tag", "nightly", "--state", "pending") == OK
    out, err = capsys.readouterr()
    assert out.count("app.add") == 2
    assert "--after" in err


def test_jobs_as_json_can_be_paged_through(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    sent = [queue.dispatch(Job("app.add", {"a": n, "b": 1})).id for n in range(3)]
    seen, after = [], []
    while after is not None:
        assert run("jobs", "app:queue", "--json", "--limit", "2", *after) == OK
        page = json.loads(capsys.readouterr().out)
        seen += [job["id"] for job in page["jobs"]]
        after = ["--after", page["next"]] if page["next"] else None
    assert seen == sent


def test_a_cursor_that_is_none_is_told_in_one_sentence(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}))
    assert run("jobs", "app:queue", "--after", "garbage") == USAGE
    assert "after='garbage' (str) is refused: give the `next` of the page before" in capsys.readouterr().err


def test_jobs_shows_why_a_job_failed(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.bad", {}))
    work_off(queue)
    assert run("jobs", "app:queue", "--state", "failed") == OK
    assert "error: ValueError: no good" in capsys.readouterr().out


def test_queues_and_stats_count(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, queue="mail"))
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, delay=60))
    queue.pause("mail")
    assert run("queues", "app:queue", "--json") == OK
    found = {q["queue"]: q for q in json.loads(capsys.readouterr().out)["queues"]}
    assert found["mail"]["pending"] == found["default"]["scheduled"] == 1
    assert run("queues", "app:queue") == OK
    assert "paused" in capsys.readouterr().out
    assert run("stats", "app:queue", "--json") == OK
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["pending"], totals["scheduled"]) == (1, 1)
    assert run("stats", "app:queue") == OK
    assert "no worker is alive" in capsys.readouterr().out


def test_stats_lists_live_workers(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    with queue.worker(concurrency=7) as worker:
        assert worker.ready()
        assert run("stats", "app:queue") == OK
    assert "0/7" in capsys.readouterr().out


def test_drivers_names_what_can_be_used_and_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("drivers") == OK
    assert "sqlite://" in capsys.readouterr().out
    assert run("drivers", "--json") == OK
    found = json.loads(capsys.readouterr().out)
    assert "browse" in next(d for d in found["installed"] if d["scheme"] == "sqlite")["features"]
    assert not {d["scheme"] for d in found["installed"]} & set(found["missing"])


# ------------------------------------------------------------------------------------------------------- waiting


def test_wait_is_over_when_the_jobs_of_a_tag_have_ended(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, tags=("nightly",)))
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, delay=600, tags=("other",)))
    late = threading.Timer(0.3, work_off, [queue])
    late.start()
    assert run("wait", "app:queue", "--tag", "nightly", "--timeout", "20") == OK
    late.join()
    out, err = capsys.readouterr()
    assert out == "1 completed, 0 failed, 0 cancelled\n"
    assert "waiting for 1 of 1 jobs: 1 pending" in err


def test_wait_tells_a_failure_by_its_exit_code(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    job = queue.dispatch(Job("app.bad", {}, tags=("nightly",)))
    work_off(queue)
    assert run("wait", "app:queue", "--tag", "nightly") == FAILED
    assert f"failed: {job.id} app.bad (error): no good" in capsys.readouterr().err
    assert run("wait", "app:queue", "--tag", "nightly", "--json") == FAILED
    assert json.loads(capsys.readouterr().out)["not_completed"][0]["id"] == job.id


def test_wait_gives_up_when_its_time_is_over(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}))
    start = time.monotonic()
    assert run("wait", "app:queue", "--timeout", "0.3") == TIMED_OUT
    assert time.monotonic() - start < 5
    assert "queuekit stats app:queue" in capsys.readouterr().err


def test_wait_for_jobs_that_do_not_exist_is_no_success(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wait", "app:queue", "--tag", "typo") == NOTHING
    assert "--tag typo" in capsys.readouterr().err


def test_wait_rides_out_an_outage(
    queue: Queue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}))
    work_off(queue)
    real, calls = SqliteDriver.browse, []

    def shaky(self: SqliteDriver, query: object) -> object:
        calls.append(query)
        if len(calls) < 3:
            raise DriverUnavailable("the disk is away")
        return real(self, query)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteDriver, "browse", shaky)
    assert run("wait", "app:queue") == OK
    assert "the disk is away" in capsys.readouterr().err


def test_an_unavailable_backend_has_an_exit_code_of_its_own(
    queue: Queue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_self: object, _query: object) -> None:
        raise DriverUnavailable("the disk is away")

    monkeypatch.setattr(SqliteDriver, "browse", away)
    assert run("jobs", "app:queue") == UNAVAILABLE
    assert capsys.readouterr().err == "queuekit: the disk is away\n"


# -------------------------------------------------------------------------------------------------------- errors

APPS = {
    "nothere:queue": ("there is no module 'nothere' in ", ""),
    "app:jobs": ("app has no 'jobs'; app has app:queue", ""),
    "app:add": ("app:add is a JobType, not a Queue; app has app:queue", ""),
    "app.py:queue": ("'app.py' is no module name: write app:queue", ""),
    "./app.py": ("names no object: write module:attribute, such as app:queue", ""),
    "sqlite:///jobs.db": ("is an address: name the module and the Queue object in it", ""),
    "redis://user:hunter2@h/0": ("'redis://user:***@h/0' is an address", ""),
    "empty:queue": ('empty holds no queue: write queue = Queue("sqlite:///jobs.db") there', "x = 1"),
    "needs:queue": ("needs imports 'nosuchlib', which is not installed", "import nosuchlib"),
    "broken:queue": ("broken cannot be compiled", "def f(:"),
    "raises:queue": ("importing raises raised KeyError (raises.py, line 2): 'HOME2'", "import os\nos.environ['HOME2']"),
    "leaves:queue": ("importing leaves raised SystemExit", "raise SystemExit(1)"),
    "scheme:queue": ("no driver for nosuch://", 'from queuekit import Queue\nqueue = Queue("nosuch://x")'),
    "mem:queue": ("keeps its jobs inside one process", 'from queuekit import Queue\nqueue = Queue("memory://")'),
    "nul:queue": ("null", 'from queuekit import Queue\nqueue = Queue("null://")'),
}


@pytest.mark.parametrize("target", APPS)
def test_a_wrong_app_is_told_in_one_sentence(target: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence, code = APPS[target]
    if code:
        (here / f"{target.partition(':')[0]}.py").write_text(code)
    assert run("stats", target) == USAGE
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("\n") == 1
    assert not out


def test_an_extra_that_is_not_installed_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "bare.py").write_text('from queuekit import Queue\nqueue = Queue("redis://x")')
    monkeypatch.setattr("queuekit.drivers._entry_points", lambda name=None: ())
    assert run("stats", "bare:queue") == USAGE
    assert "pip install 'queuekit[redis]'" in capsys.readouterr().err


WRONG = {
    "worker app:queue --concurrency 0": "'0' is refused: give a whole number from 1 up",
    "worker app:queue --queues high:x": "'high:x' is refused: write a queue's name and its weight",
    "worker app:queue --queues high,high": "'high' is named twice",
    "worker app:queue --queues sp\u00e4t": "names are 1 to 60 of the characters",
    "worker app:queue --lease nan": "finite number of seconds",
    "worker app:queue --lease soon": "give seconds as a number",
    "worker app:queue --max-jobs -1": "--max-jobs",
    "jobs app:queue --state done": "invalid choice: 'done'",
    "wait": "app:queue",
    "": "COMMAND",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_says_what_to_do(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(*line.split())
    assert left.value.code == USAGE
    assert WRONG[line] in capsys.readouterr().err


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    out = capsys.readouterr().out
    assert all(f"{code}  {text}" in out for code, text in MEANINGS.items())


def test_a_reader_that_has_seen_enough_is_no_error(queue: Queue, here: Path) -> None:
    queue.dispatch_many([Job("app.add", {"a": n, "b": 1}) for n in range(2000)])
    command = f"{sys.executable} -m queuekit.cli jobs app:queue --limit 2000 | head -1"
    found = subprocess.run(["bash", "-c", command], cwd=here, capture_output=True, text=True, check=True, timeout=30)
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_the_library_does_not_import_its_command_line() -> None:
    code = "import sys, queuekit; sys.exit(any(m.startswith('queuekit.cli') or m == 'argparse' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


# ------------------------------------------------------------------------------------------------------- the doctor


def test_doctor_says_what_each_setting_promises(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "app:queue") == OK
    out = capsys.readouterr().out
    assert "note: synchronous = NORMAL" in out
    assert "power failure" in out
    assert "?synchronous=FULL" in out


def test_doctor_fails_when_a_promise_is_weaker_than_documented(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", f"sqlite:///{here}/jobs.db?synchronous=OFF", "--json") == FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["worst"] == "error"
    assert [f["setting"] for f in found["findings"] if f["level"] == "error"] == ["synchronous"]
    assert run("doctor", f"sqlite:///{here}/jobs.db", "--json") == OK
    assert json.loads(capsys.readouterr().out)["worst"] == "note"


def test_doctor_can_be_told_that_warnings_are_accepted() -> None:
    assert run("doctor", "memory://") == FAILED
    assert run("doctor", "memory://", "--fail-on", "error") == OK


def test_doctor_without_a_backend_looks_at_the_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == OK
    assert {"python", "queuekit"} <= {f["setting"] for f in json.loads(capsys.readouterr().out)["findings"]}


def test_doctor_names_the_feature_that_a_driver_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "null://") == USAGE
    assert "cannot say what its settings promise" in capsys.readouterr().err


def test_migrate_makes_the_tables_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"sqlite:///{here}/fresh.db"
    assert run("migrate", address, "--check") == OK
    assert "missing: 0001_jobs" in capsys.readouterr().out
    assert run("migrate", address) == OK
    assert "applied: 0001_jobs" in capsys.readouterr().out
    assert run("migrate", address, "--json") == OK
    assert json.loads(capsys.readouterr().out) == {"applied": []}
    assert run("migrate", "memory://") == USAGE


def test_doctor_on_a_backend_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", f"sqlite:///{here}/no/jobs.db") == UNAVAILABLE
    assert "does not exist" in capsys.readouterr().err


def test_doctor_and_migrate_look_at_the_namespace_that_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"sqlite:///{here}/fresh.db"
    assert run("migrate", address, "--namespace", "shop") == OK
    assert "applied: 0001_jobs" in capsys.readouterr().out
    assert run("migrate", address, "--namespace", "shop", "--check") == OK
    assert "nothing to do" in capsys.readouterr().out
    assert run("migrate", address, "--check") == OK
    assert "missing: 0001_jobs" in capsys.readouterr().out, "it is the usual namespace's"
    assert run("doctor", address, "--namespace", "shop") == OK
    capsys.readouterr()
    assert run("migrate", address, "--check") == OK
    assert "missing: 0001_jobs" in capsys.readouterr().out, "the doctor looked at the usual namespace"


@pytest.mark.parametrize("command", ["doctor", "migrate"])
def test_a_namespace_is_refused_beside_an_app_which_has_its_own(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "app:queue", "--namespace", "shop") == USAGE
    assert "app:queue has a namespace of its own: leave out --namespace shop" in capsys.readouterr().err
    assert not (here / "jobs.db").exists()


def test_doctor_refuses_a_namespace_without_a_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--namespace", "shop") == USAGE
    assert "--namespace goes with a URL" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- the move


def test_move_brings_what_waits_to_another_file_and_says_so(
    queue: Queue, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.dispatch_many([Job("app.add", {"a": n, "b": 1}) for n in range(450)])
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, delay=60, queue="other"))
    target = f"sqlite:///{here}/there.db"
    assert run("move", "app:queue", target) == OK
    out = capsys.readouterr().out
    assert "queue default: 450 jobs moved; the queue stays paused" in out
    assert "queue other: 1 job moved" in out
    queue.dispatch(Job("app.add", {"a": 2, "b": 1}))  # an application that was not switched over yet
    assert run("move", "app:queue", target, "--json") == OK
    [found] = json.loads(capsys.readouterr().out)
    assert found == {"queue": "default", "moved": 1, "left": 0, "paused": True}
    with Queue(target) as there:
        depths = {counts.queue: (counts.pending, counts.scheduled) for counts in there.stats().queues}
    assert depths == {"default": (451, 0), "other": (0, 1)}


def test_move_says_what_is_left_running(queue: Queue, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}))
    [_running] = queue.driver.claim(["default"], limit=1, lease=60)
    assert run("move", "app:queue", f"sqlite:///{here}/there.db", "--timeout", "0") == TIMED_OUT
    assert "0 jobs moved; 1 left (running, or not due): run it again later" in capsys.readouterr().out


def test_move_refuses_what_the_target_cannot_honour_and_leaves_it(
    queue: Queue, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.dispatch(Job("app.add", {"a": 1, "b": 1}, key="k"))
    assert run("move", "app:queue", "null://") == USAGE
    assert "has a key, which null cannot honour" in capsys.readouterr().err
    assert queue.stats().pending == 1


def test_move_to_the_same_backend_is_refused_whatever_it_is_called(
    queue: Queue, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.dispatch_many([Job("app.add", {"a": n, "b": 1}) for n in range(6)])
    (here / "link.db").symlink_to(here / "jobs.db")
    address = f"sqlite:///{here}/jobs.db"
    for one, other in (
        (address, address),
        ("app:queue", "app:queue"),
        ("app:queue", f"{address}?synchronous=FULL"),
        (f"sqlite:///{here}/link.db", "app:queue"),
    ):
        assert run("move", one, other) == USAGE
        told = capsys.readouterr().err
        assert f"{one} and {other.replace('synchronous=FULL', '…')} are the same backend in the same namespace" in told
    assert queue.stats().pending == 6
    assert not queue.driver.paused()


def test_move_says_which_jobs_the_target_refuses_and_takes_them_later(
    queue: Queue, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"sqlite:///{here}/there.db"
    job = Job("app.add", {"a": 1, "b": 1}, unique_key="k", unique_for=60)
    with Queue(target) as there:
        held, holder = queue.dispatch(job).id, there.dispatch(job).id
        assert run("move", "app:queue", target) == TIMED_OUT
        out = capsys.readouterr().out
        assert "0 jobs moved; 1 left because another job holds its unique scope in the target" in out
        assert f"(that of {held} is held by {holder}): run it again when that one has ended" in out
        assert run("move", "app:queue", target, "--json") == TIMED_OUT
        [found] = json.loads(capsys.readouterr().out)
        assert found["refused"] == {held: holder}
        there.delete(holder)
        assert run("move", "app:queue", target) == OK
        assert there.get(held).state == "pending"


def test_move_that_finds_nothing_says_whether_that_is_all(
    queue: Queue, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.open()
    target = f"sqlite:///{here}/there.db"
    assert run("move", "app:queue", target) == OK
    assert capsys.readouterr().out == "there was nothing to move\n"
    monkeypatch.setattr(Queue, "supports", lambda _self, feature: feature != "browse")  # as of a transport
    assert run("move", "app:queue", target) == OK
    assert "in the queues that sqlite lists: name those that it does not, with --queue NAME" in capsys.readouterr().out
