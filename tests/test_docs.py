"""Every snippet of the README and of docs/ runs, so that what a newcomer copies works.

Python snippets of one page share a namespace, from top to bottom, in a temporary folder. A line before a snippet may say otherwise:

    <!-- not run: needs a Redis server -->      it is only compiled; the reason is required
    <!-- new page -->                           it starts with an empty namespace
    <!-- raises: UnsupportedError -->           it must end with that error
    <!-- file: app.py -->                       it is written to that file, for the commands below it

Of shell snippets (sh, console) the lines that call `queuekit` or `python` run in the same folder, in their turn; a line
that ends with `&` runs beside the rest of the page and is stopped at its end. Other commands belong to the reader's machine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = {"sh", "bash", "console", "shell"}
KNOWN = {"python", "toml", "json", "text", "sql", "yaml", "ini", "html", "mermaid", *SHELL}
MARKS = {"not run", "new page", "raises", "file"}
FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"<!-- *(?P<name>[a-z ]+?) *(?:: *(?P<value>.*?))? *-->\s*\Z")
SECONDS = 60
"""For one command of a page: a reader would not wait longer either."""


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return where it stands, as an editor understands it."""
        return f"{self.page}:{self.line}"


def snippets(page: Path, text: str) -> Iterator[Snippet]:
    """Yield the fenced blocks of a page, from top to bottom."""
    for match in FENCE.finditer(text):
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        yield Snippet(
            page=page, line=line, language=match["language"].strip(), code=code, marks=marks_before(text[: match.start()])
        )  # fmt: skip


def marks_before(text: str) -> dict[str, str]:
    """Return the comments that stand directly above a snippet."""
    marks: dict[str, str] = {}
    while found := MARK.search(text):
        if "\n\n" in text[found.start() :]:
            break
        marks[found["name"]] = found["value"] or ""
        text = text[: found.start()]
    return marks


class Page:
    """Runs the snippets of one page: a namespace, a folder, and the programs that were started beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.beside = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Begin with no names; as the main module, because that is what a reader's program is."""
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace: dict[str, Any] = vars(module)

    def run(self, snippet: Snippet) -> None:
        if "new page" in snippet.marks:
            self.begin()
        if "file" in snippet.marks:
            (self.folder / snippet.marks["file"]).write_text(snippet.code, encoding="utf-8")
        elif snippet.language == "python":
            self.run_python(snippet)
        elif snippet.language in SHELL and "not run" not in snippet.marks:
            for command in commands(snippet):
                self.run_command(command, snippet)

    def run_python(self, snippet: Snippet) -> None:
        # The empty lines make a traceback name the line of the page.
        code = compile("\n" * snippet.line + snippet.code, str(snippet.page), "exec", dont_inherit=True)
        if "not run" in snippet.marks:
            return
        if error := snippet.marks.get("raises"):
            with pytest.raises(Exception) as caught:
                exec(code, self.namespace)
            assert caught.type.__name__ == error, snippet.place
        else:
            exec(code, self.namespace)

    def run_command(self, command: str, snippet: Snippet) -> None:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        if command.endswith("&"):
            words = shlex.split(command.removesuffix("&"))
            self.beside.callback(
                stop, subprocess.Popen(words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL)
            )
            return
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{snippet.place}: {command}\n{done.stdout}"


def stop(program: subprocess.Popen[bytes]) -> None:
    """End a program that ran beside a page, as Ctrl-C would."""
    program.terminate()
    try:
        program.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
        raise


def commands(snippet: Snippet) -> Iterator[str]:
    """Yield the lines of a shell snippet that this repository answers for."""
    prompt = "$ " if re.search(r"^\$ ", snippet.code, re.MULTILINE) else ""
    lines = snippet.code.replace("\\\n", " ").splitlines()
    for line in lines:
        command = line.removeprefix(prompt).strip()
        if line.startswith(prompt) and re.match(r"(queuekit|python3?) ", command):
            yield re.sub(r"\s+#\s.*", "", command)


@pytest.fixture
def page_in_a_folder(tmp_path, monkeypatch) -> Iterator[Page]:
    """Give a page a folder of its own, from which Python imports what the page writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = set(sys.modules)
    page = Page(tmp_path)
    with page.beside:
        yield page
    written = {file.stem for file in tmp_path.glob("*.py")}
    for name in set(sys.modules) - before:
        if name in written:
            del sys.modules[name]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_snippets_of_a_page_run(page, page_in_a_folder):
    for snippet in snippets(page, page.read_text(encoding="utf-8")):
        page_in_a_folder.run(snippet)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_snippet_is_marked_so_that_it_is_run_or_says_why_not(page):
    for snippet in snippets(page, page.read_text(encoding="utf-8")):
        assert snippet.language in KNOWN, f"{snippet.place}: a snippet in {snippet.language or 'no language'}"
        assert snippet.marks.keys() <= MARKS, f"{snippet.place}: unknown mark"
        assert snippet.marks.get("not run", "a reason"), f"{snippet.place}: 'not run' needs a reason"


def test_the_readme_shows_how_to_begin():
    languages = [snippet.language for snippet in snippets(Path("README.md"), (ROOT / "README.md").read_text("utf-8"))]
    assert "python" in languages
    assert SHELL & set(languages)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_file_of_the_repository_leads_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


# The tool itself: a snippet that fails must be noticed.


def run_text(text: str, page: Page) -> None:
    for snippet in snippets(Path("page.md"), text):
        page.run(snippet)


def test_the_doctor_s_page_names_what_every_driver_looks_at():
    page = (ROOT / "docs" / "doctor.md").read_text()
    named = re.compile(r'(?:setting=|_ok\(|_switch\(\s*settings,\s*)"([^"]+)"')
    sources = (
        "queuekit/memory/driver.py",
        "queuekit/sqlite/diagnosis.py",
        "drivers/redis/queuekit_redis/doctor.py",
        "drivers/postgres/queuekit_postgres/diagnosing.py",
        "drivers/rabbitmq/queuekit_rabbitmq/diagnosis.py",
        "drivers/sqs/queuekit_sqs/diagnosis.py",
    )
    for source in sources:
        settings = set(named.findall((ROOT / source).read_text()))
        assert settings, f"{source} has no findings"
        assert not {setting for setting in settings if f"`{setting}`" not in page}, source


def test_snippets_of_one_page_share_their_names(page_in_a_folder):
    run_text("```python\na = 1\n```\n\ntext\n\n```python\nassert a == 1\n```\n", page_in_a_folder)


def test_a_new_page_begins_without_names(page_in_a_folder):
    with pytest.raises(NameError):
        run_text("```python\na = 1\n```\n<!-- new page -->\n```python\na\n```\n", page_in_a_folder)


def test_a_failing_snippet_fails_with_the_line_of_its_page(page_in_a_folder):
    with pytest.raises(ZeroDivisionError) as caught:
        run_text("# Title\n\n```python\na = 1\na / 0\n```\n", page_in_a_folder)
    assert caught.traceback[-1].lineno + 1 == 5
    assert str(caught.traceback[-1].path).endswith("page.md")


def test_a_snippet_that_is_not_run_must_still_be_python(page_in_a_folder):
    with pytest.raises(SyntaxError):
        run_text("<!-- not run: needs a broker -->\n```python\ndef:\n```\n", page_in_a_folder)
    run_text("<!-- not run: needs a broker -->\n```python\nraise SystemExit\n```\n", page_in_a_folder)


def test_an_announced_error_must_come(page_in_a_folder):
    run_text("<!-- raises: KeyError -->\n```python\n{}['a']\n```\n", page_in_a_folder)
    with pytest.raises(pytest.fail.Exception):
        run_text("<!-- raises: KeyError -->\n```python\n{}\n```\n", page_in_a_folder)


def test_commands_find_the_files_that_the_page_wrote(page_in_a_folder):
    text = "<!-- file: hello.py -->\n```python\nprint('hello')\n```\n\n```console\n$ python hello.py\nhello\n$ reboot\n```\n"
    run_text(text, page_in_a_folder)


def test_a_failing_command_is_noticed(page_in_a_folder):
    with pytest.raises(AssertionError, match="no_such_file"):
        run_text("```sh\npython no_such_file.py   # a comment\n```\n", page_in_a_folder)


def test_a_command_beside_the_page_is_stopped_at_its_end(page_in_a_folder):
    with page_in_a_folder.beside:
        run_text("```sh\npython -c 'import time; time.sleep(600)' &\n```\n", page_in_a_folder)


def test_an_indented_snippet_and_a_mark_that_is_far_away_are_read_right():
    (snippet,) = snippets(Path("page.md"), "<!-- new page -->\n\n- item\n\n  ```python\n  if a:\n      b\n  ```\n")
    assert snippet.code == "if a:\n    b\n"
    assert snippet.marks == {}
