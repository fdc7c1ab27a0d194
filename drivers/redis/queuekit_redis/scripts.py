"""The Lua scripts: each a file named for its transition, put together from the parts that it names in its head."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from queuekit.contract import FAILED_RETAIN, MAX_ERRORS, RETAIN

__all__ = ["NAMES", "Script", "read_scripts", "script"]

MAX_FINISHED = 100_000
"""Finished jobs kept per queue, those forgotten first that would be anyway: memory must not grow with the number of jobs done."""
_FOLDER = Path(__file__).parent / "scripts"
_USES = re.compile(r"^-- uses: (.*)$", re.MULTILINE)
_KEYS = re.compile(r"^-- keys: (.*)$", re.MULTILINE)
NAMES = tuple(path.stem for path in sorted(_FOLDER.glob("*.lua")))
"""The transitions."""


class Script:
    """One transition: its text, the digest by which the server knows it, and the keys that it touches."""

    __slots__ = ("keys", "lists", "name", "sha", "text")

    def __init__(self, name: str) -> None:
        main = (_FOLDER / f"{name}.lua").read_text("utf-8")
        used = _listed(_USES, main)
        parts = [(_FOLDER / "parts" / f"{part}.lua").read_text("utf-8") for part in used]
        source = "\n".join([*parts, main])
        self.name = name
        self.lists = not {"fresh", "plain"}.isdisjoint(used)
        """Whether it is given the fresh lists of its queues besides their bells."""
        self.keys = tuple(dict.fromkeys(_listed(_KEYS, source)))
        self.text = f"{_prologue(self.keys)}\n{_without_comments(source)}"
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """Return a transition's script."""
    return Script(name)


def read_scripts() -> None:
    """Read every script now: a process that has run out of file descriptors since can use them still."""
    for name in NAMES:
        script(name)


def _listed(pattern: re.Pattern[str], text: str) -> list[str]:
    return [word for match in pattern.findall(text) for word in match.split()]


def _prologue(keys: tuple[str, ...]) -> str:
    """Name the declared keys and the contract's constants as locals."""
    numbers = f"{RETAIN:.0f}, {FAILED_RETAIN:.0f}, {MAX_ERRORS}, {MAX_FINISHED}, {len(keys)}"
    names = ", ".join(key.upper() for key in keys)
    places = ", ".join(f"KEYS[{i + 1}]" for i in range(len(keys)))
    return f"local RETAIN, FAILED_RETAIN, MAX_ERRORS, MAX_FINISHED, DECLARED = {numbers}\nlocal {names} = {places}"


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
