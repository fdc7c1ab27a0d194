"""What holds for the tree as a whole, and no single module's tests would notice."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import queuekit

ROOT = Path(__file__).parent.parent
NOT_OURS = {".git", ".venv", ".nox", "dist", "build", "results", "node_modules"}
"""Folders that tools make; and whatever else begins with a dot and ends with `cache`."""

HEAVY = (
    "asyncio",
    "argparse",
    "sqlite3",
    "multiprocessing",
    "subprocess",
    "concurrent.futures.thread",
    "http",
    "ssl",
    "pytest",
)
"""What a program that only dispatches has no use for."""


def files_of_the_tree() -> Iterator[Path]:
    """Yield every file that belongs to the project. Walks, because an unpacked sdist has no git."""
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [
            name for name in inner if name not in NOT_OURS and not name.endswith(("cache", "cache__", ".egg-info"))
        ]
        inner[:] = [name for name in inner if name != ".hypothesis"]
        yield from (Path(folder, name) for name in names)


def texts_of_the_tree() -> Iterator[tuple[str, str]]:
    """Yield path and text of every file that is text."""
    for path in files_of_the_tree():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts_of_the_tree()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def toml(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def distributions() -> list[str]:
    return ["pyproject.toml", "integration/pyproject.toml", *(
        found.relative_to(ROOT).as_posix() for found in sorted(ROOT.glob("drivers/*/pyproject.toml"))
    )]  # fmt: skip


# What must not be in the tree


def test_versions_are_pinned_in_constraints_and_in_no_lock_file_with_addresses():
    locks = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"}
    assert not [path for path in files_of_the_tree() if path.name in locks]


def test_constraints_name_a_version_for_everything_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)]


def test_every_dependency_has_a_constraint():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    groups = toml("pyproject.toml")["dependency-groups"]
    wanted = [line for name, group in groups.items() if name != "pyright" for line in group if isinstance(line, str)]
    wanted += [line for path in distributions() for line in toml(path)["project"]["dependencies"]]
    names = {Requirement(line).name for line in wanted}
    assert not {name for name in names if not name.startswith("queuekit")} - pinned


def test_no_package_registry_is_named():
    # Whoever installs queuekit has a registry of their own; its address is their configuration, never ours.
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "index" + "-url", "extra-" + "index", "find-" + "links")
    assert not lines_with(re.compile("|".join(map(re.escape, hosts))))


def test_no_path_of_a_developers_machine_is_named():
    # Written in pieces, so that this file does not name them either.
    folders = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/")
    pattern = re.compile("(?<![A-Za-z0-9_.~$})/-])(?:" + "|".join(map(re.escape, folders)) + ")[a-z0-9_.]")
    assert not lines_with(pattern)


def test_every_skip_says_why():
    silent = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files_of_the_tree()
        if path.suffix == ".py"
        for line in silent_skips(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


SKIPS = {
    "pytest.skip",
    "pytest.xfail",
    "pytest.importorskip",
    *(f"pytest.mark.{n}" for n in ("skip", "skipif", "xfail")),
}


def silent_skips(tree: ast.AST) -> list[int]:
    """Return the lines where a test is skipped, or expected to fail, without a reason."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in SKIPS]
    called = [call.func for call in calls]
    bare = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in SKIPS and node not in called
    ]
    return [node.lineno for node in [*bare, *(call for call in calls if not gives_a_reason(call))]]


def gives_a_reason(call: ast.Call) -> bool:
    reasons = [word.value for word in call.keywords if word.arg == "reason"]
    if ast.unparse(call.func) in {"pytest.skip", "pytest.xfail", "pytest.mark.skip"}:
        reasons += call.args[:1]
    return any(not isinstance(reason, ast.Constant) or bool(reason.value) for reason in reasons)


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("@pytest.mark.skip\ndef f(): ...", True),
        ("@pytest.mark.skip()\ndef f(): ...", True),
        ("@pytest.mark.skip(reason='')\ndef f(): ...", True),
        ("@pytest.mark.skip(reason='no broker here')\ndef f(): ...", False),
        ("@pytest.mark.skipif(x)\ndef f(): ...", True),
        ("@pytest.mark.skipif(x, reason='needs SIGSTOP')\ndef f(): ...", False),
        ("@pytest.mark.xfail(x, strict=True)\ndef f(): ...", True),
        ("def f():\n    pytest.skip()", True),
        ("def f():\n    pytest.skip('no broker here')", False),
        ("def f():\n    pytest.skip(f'no {broker} here')", False),
        ("pytest.importorskip('redis')", True),
    ],
)
def test_a_skip_without_reason_is_noticed(source, silent):
    assert bool(silent_skips(ast.parse(source))) is silent


# What must be in the tree


def test_ci_runs_the_command_that_developers_run():
    commands = [line.strip() for line in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()]
    assert "exec ./scripts/test" in commands
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert os.access(ROOT / "scripts/test", os.X_OK)


def test_every_workflow_calls_sessions_and_scripts_that_exist():
    workflows = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(".github/workflows/*.yml")))
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    called = set(re.findall(r"nox -s [\"']?([a-z]+)", workflows))
    assert called
    assert called <= sessions
    assert not [path for path in re.findall(r"run: (\S*(?:scripts|\.ci)/\S+)", workflows) if not (ROOT / path).exists()]


def test_all_distributions_have_one_version():
    for path in distributions():
        project = toml(path)
        assert project["project"]["dynamic"] == ["version"], f"{path} states a version of its own"
        source = (ROOT / path).parent / project["tool"]["hatch"]["version"]["path"]
        assert source.resolve() == ROOT / "queuekit/__init__.py"
    needed = Requirement(toml("integration/pyproject.toml")["project"]["dependencies"][0])
    assert str(needed.specifier) == f"=={queuekit.__version__}"


def test_the_changelog_knows_this_version_or_what_is_unreleased():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in {"Unreleased", queuekit.__version__}


def test_every_scheme_has_the_driver_that_its_entry_point_names():
    for target in toml("pyproject.toml")["project"]["entry-points"]["queuekit.drivers"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name).from_url), target


def test_the_core_depends_on_msgspec_and_cronsim_alone():
    assert {Requirement(line).name for line in toml("pyproject.toml")["project"]["dependencies"]} == {
        "msgspec",
        "cronsim",
    }


def test_every_ignored_lint_rule_has_its_reason_beside_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rules = re.findall(r'^ +"[A-Z]+[0-9]*",.*$', text, re.MULTILINE)
    assert rules
    assert not [rule for rule in rules if not re.search(r"# .{15,}", rule)]


# How the tree behaves as a whole


def loaded_by(program: str) -> list[str]:
    """Return the modules that a fresh interpreter has loaded after a program."""
    program = f"import sys; {program}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


EVERYTHING = "from queuekit import *"


def test_importing_queuekit_loads_nothing_heavy():
    assert not {*HEAVY} & {*loaded_by(EVERYTHING)}


def test_importing_queuekit_loads_no_driver():
    drivers = ("queuekit.memory", "queuekit.sqlite", "queuekit.null")
    assert not [name for name in loaded_by(EVERYTHING) if name.startswith(drivers)]


def test_a_supervisor_loads_nothing_that_only_workers_need():
    loaded = {*loaded_by("import queuekit.cli.main, queuekit.cli.worker")}
    assert not {"msgspec", "inspect", "queuekit.queue", "queuekit.contract", "queuekit.worker"} & loaded


def test_every_name_of_the_package_is_where_it_says():
    homes = {name: home for home, names in queuekit._HOMES.items() for name in names}
    assert sorted([*homes, *([] if "__version__" not in queuekit.__all__ else ["__version__"])]) == sorted(
        queuekit.__all__
    )
    assert all(getattr(queuekit, name) is getattr(importlib.import_module(home), name) for name, home in homes.items())
    checked = ast.parse((ROOT / "queuekit/__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in checked.body if isinstance(node, ast.If)]
    assert {(node.module, alias.name) for node in block.body for alias in node.names} == {
        (home, name) for name, home in homes.items()
    }


def test_a_name_that_the_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Qeue'"):
        getattr(queuekit, "Qeue")  # noqa: B009 - mypy need not know


def test_a_driver_imports_the_contract_alone():
    # import-linter keeps drivers from the modules that it lists; this also keeps them from one that is new.
    allowed = {"queuekit.contract", "queuekit.errors", "queuekit.clock"}
    foreign = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in ("queuekit.memory", "queuekit.sqlite", "queuekit.null")
        for path in (ROOT / package.replace(".", "/")).rglob("*.py")
        for name in imported_by(path)
        if name.startswith("queuekit") and name not in allowed and not f"{name}.".startswith(f"{package}.")
    ]
    assert not foreign


def imported_by(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("interval", ["1e-6", "0.001"])
def test_the_race_mode_reaches_a_program_that_a_test_starts(interval):
    program = "import sys; print(sys.getswitchinterval())"
    environment = {**os.environ, "QUEUEKIT_SWITCH_INTERVAL": interval, "PYTHONPATH": str(ROOT / "scripts/race")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(float(interval))
