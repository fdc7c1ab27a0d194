"""The recorder and its reader: nothing that was written is lost, and what cannot be read is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from queuekit import Event
from queuekit_integration.history import Recorder, Watcher, read_history


def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    code = (
        "import sys,pathlib\nfrom queuekit_integration.history import Recorder\n"
        "r=Recorder(pathlib.Path(sys.argv[1]),'victim')\n"
        "for n in range(10**9):\n r.start(str(n),token=n,attempt=1,lease=1.0)\n print(n,flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = 0
    for line in child.stdout:
        last = int(line)
        if last == 500:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    read = read_history(tmp_path)
    assert last == 500
    assert [r.job for r in read.records[: last + 1]] == [str(n) for n in range(last + 1)]
    assert read.corrupt == 0


def test_a_torn_last_line_is_counted_and_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    recorder.start("a", token=1, attempt=1, lease=1.0)
    recorder.close()
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"t":12,"seq":1,"pi')
    read = read_history(tmp_path)
    assert (len(read.records), read.torn, read.corrupt) == (1, 1, 0)


def test_a_line_that_no_kill_can_have_torn_is_corrupt(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    recorder.drain("ok")
    recorder.close()
    [file] = tmp_path.iterdir()
    file.write_bytes(b'{"t":12,"seq":1,"pi\n' + file.read_bytes())
    read = read_history(tmp_path)
    assert (len(read.records), read.torn, read.corrupt) == (1, 0, 1)


def test_an_empty_folder_is_an_empty_history(tmp_path: Path) -> None:
    read = read_history(tmp_path)
    assert (read.records, read.torn, read.corrupt) == ((), 0, 0)


def test_files_are_merged_in_order_of_time(tmp_path: Path) -> None:
    one, two = Recorder(tmp_path, "one"), Recorder(tmp_path, "two")
    for n in range(10):
        (one if n % 2 else two).cancel("ok", str(n))
    one.close()
    two.close()
    read = read_history(tmp_path)
    assert [r.job for r in read.records] == [str(n) for n in range(10)]
    assert [r.t for r in read.records] == sorted(r.t for r in read.records)
    assert {r.role for r in read.records} == {"one", "two"}


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    threads = [
        threading.Thread(target=lambda: [recorder.oracle(ready=1, in_flight=2) for _ in range(300)]) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    read = read_history(tmp_path)
    assert [r.seq for r in read.records] == list(range(1800))
    assert (read.torn, read.corrupt) == (0, 0)


def test_a_forked_child_writes_to_a_file_of_its_own(tmp_path: Path) -> None:
    code = (
        "import os,sys,pathlib\nfrom queuekit_integration.history import Recorder\n"
        "r=Recorder(pathlib.Path(sys.argv[1]),'w')\nr.drain('invoke')\n"
        "child=os.fork()\nr.drain('ok')\nif child: os.waitpid(child,0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    read = read_history(tmp_path)
    assert len(list(tmp_path.iterdir())) == len({r.pid for r in read.records}) == 2
    assert len(read.records) == 3


def test_a_record_that_was_cut_short_by_a_full_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, "w")
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:5]))
    with pytest.raises(OSError, match="5 of"):
        recorder.drain("ok")
    recorder.close()


def test_a_record_after_the_end_goes_into_nobodys_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    recorder.close()
    other = tmp_path / "other"
    with other.open("wb"), pytest.raises(OSError, match="Bad file descriptor"):  # most likely the recorder's number
        recorder.drain("ok")
    assert other.read_bytes() == b""


def test_every_method_records_its_function(tmp_path: Path) -> None:
    r = Recorder(tmp_path, "w")
    r.dispatch("invoke", "a", key="k", delay=1.5)
    r.start("a", token=1, attempt=1, lease=2.0)
    r.extend("ok", "a", token=1, lease=3.0)
    r.finish("a", token=1)
    r.settle("ok", "a", token=1, outcome="done")
    r.lease_lost("a", token=1)
    r.event("a", "completed", token=1)
    r.cancel("ok", "a")
    r.workflow_terminal("w", "completed")
    r.fault("kill", "fired")
    r.drain("ok")
    r.oracle(ready=1, in_flight=2)
    r.close()
    records = read_history(tmp_path).records
    assert [x.f for x in records] == [
        *("dispatch", "start", "extend", "finish", "settle", "lease_lost", "event", "cancel", "workflow_terminal"),
        *("fault", "drain", "oracle"),
    ]
    assert (records[0].key, records[0].delay) == ("k", 1.5)
    assert (records[-1].ready, records[-1].in_flight) == (1, 2)


def test_a_watcher_records_an_attempt_from_start_to_settlement(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    watch = Watcher(recorder, lease=10.0)
    for kind in ("claimed", "started", "finished", "completed", "settled"):
        watch(Event(kind, 0.0, job_id="a", token=1, attempt=1))  # type: ignore[arg-type]
    for kind in ("claimed", "started", "lease_lost", "finished", "retrying", "settle_lost"):
        watch(Event(kind, 0.0, job_id="a", token=2, attempt=2))  # type: ignore[arg-type]
    watch(Event("worker_started", 0.0))
    recorder.close()
    said = [(r.f, r.type, r.token, r.outcome) for r in read_history(tmp_path).records]
    assert said == [
        ("start", "ok", 1, None),
        ("finish", "ok", 1, None),
        ("event", "ok", 1, "completed"),
        ("settle", "invoke", 1, "done"),
        ("settle", "ok", 1, "done"),
        ("start", "ok", 2, None),
        ("lease_lost", "ok", 2, None),
        ("finish", "ok", 2, None),
        ("event", "ok", 2, "retrying"),
        ("settle", "invoke", 2, "again"),
        ("settle", "fail", 2, "again"),
    ]
    assert 9.0 < read_history(tmp_path).records[0].lease <= 9.95
