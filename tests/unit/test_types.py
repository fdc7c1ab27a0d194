"""The public API is typed so that a wrong argument is an error before the program runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from queuekit import Job, JobContext, JobHandle, Queue

queue = Queue("memory://")

@queue.job(name="send", retries=5)
def send(ctx: JobContext, to: str, times: int = 1) -> str:
    return to

@queue.job
async def fetch(url: str) -> bytes:
    return b""

handle: JobHandle[str] = send.dispatch("a@b.c", times=2)
text: str = handle.result()
data: bytes = fetch.dispatch("https://x").result()
handle = send.using(delay=5, priority=9).dispatch("a@b.c")
send.dispatch(5)                        # wrong
send.dispatch("a@b.c", times="two")     # wrong
send.dispatch()                         # wrong
send.dispatch("a", subject="hi")        # wrong
send.using(dely=5)                      # wrong
send.using(priority="high")             # wrong
number: int = send.dispatch("a").result()  # wrong
fetch.dispatch(b"https://x")            # wrong
Job("t", {}, retires=3)                 # wrong
queue.dispatch("t")                     # wrong
queue.start_workers("four")             # wrong

@queue.job(retries="three")             # wrong
def other() -> None: ...
"""


def test_wrong_calls_are_type_errors_and_right_ones_are_not(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    wanted = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wanted, done.stdout
