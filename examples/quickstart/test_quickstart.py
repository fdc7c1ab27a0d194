"""The example says what the README says it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_quickstart_runs(tmp_path: Path) -> None:
    app = Path(__file__).with_name("app.py")
    done = subprocess.run([sys.executable, str(app)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sent 'hello' to ada@example.org\n"), done.stderr
