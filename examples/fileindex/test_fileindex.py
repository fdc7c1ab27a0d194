"""The file index survives the kill of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_every_file_is_indexed_although_a_worker_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}.txt").write_text(f"file {number} has six words\n" * 2000, "utf-8")
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "link").symlink_to(folder / "0.txt")
    (folder / "unreadable").symlink_to("/proc/self/mem")  # reading it fails, for root too
    program = Path(__file__).with_name("fileindex.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every file has one row and one completion" in done.stdout
    assert "binary" in done.stdout
    assert "unreadable (OSError)" in done.stdout
