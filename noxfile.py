"""Sessions for one check at a time and for CI's matrix; `./scripts/test` runs the gate's checks in one environment."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests", "catalogue"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

MAIN = "3.11"
HERE = Path(__file__).parent
SERVED = sorted(path.parent.name for path in HERE.glob("drivers/*/pyproject.toml"))
"""Drivers in distributions of their own, each with a server."""
IMAGES = "redis-7.0=redis:7.0 redis-8.0=redis:8.0 valkey-8.1=valkey/valkey:8.1 postgres-15=postgres:15 postgres-17=postgres:17 rabbitmq-4.0=rabbitmq:4.0"
"""Further generations of each server, as their makers publish them: `name-version=image`. QUEUEKIT_TEST_IMAGES names others."""
PYTHONS = [MAIN, "3.12", "3.13"]
PAIRS = ["rabbitmq+sqlite", "rabbitmq+postgres", "sqs+redis"]
DRIVERS = ["memory", "sqlite", *SERVED, "sqs-fifo", "postgres-pgbouncer", *PAIRS]
PYTEST = ["pytest", "-n", "2"]
CATALOGUE = [*PYTEST, "-p", "queuekit_integration.plugin", "integration/queuekit_integration/catalogue"]
DISTRIBUTIONS = [".", "integration", *(f"drivers/{name}" for name in SERVED)]
UNIT = ["tests", "--ignore=tests/test_docs.py", *map(str, sorted(Path().glob("drivers/*/tests")))]


def install(session: nox.Session, *groups: str) -> None:
    """Install all distributions editable, with the pinned tools of some groups."""
    session.install("--constraint", "constraints.txt", "--upgrade", "pip")
    wanted = [word for group in groups for word in ("--group", group)]
    editable = [word for path in DISTRIBUTIONS for word in ("--editable", path)]
    session.install("--constraint", "constraints.txt", *wanted, *editable)


def needs(session: nox.Session, path: str) -> None:
    """Fail at once, and clearly, where a session has nothing to run."""
    if not Path(path).is_file():
        session.error(f"{path} does not exist: this session has nothing to run")


@nox.session(python=MAIN)
def lint(session: nox.Session) -> None:
    """Check the format, every rule of ruff, and the layers."""
    install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session(python=MAIN)
def types(session: nox.Session) -> None:
    """Check the types with mypy --strict; `nox -s types -- basedpyright` asks for the second opinion."""
    install(session, "types")
    session.run("mypy")
    if "basedpyright" in session.posargs:
        session.install("--group", "pyright")
        session.run("basedpyright", "queuekit")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the unit tests, and the tests of the proof kernel."""
    install(session, "types", "test")
    session.run(*PYTEST, *UNIT, "integration/kernel", *session.posargs)


@nox.session(python=MAIN)
@nox.parametrize("driver", DRIVERS)
def catalogue(session: nox.Session, driver: str) -> None:
    """Run every scenario on one driver, or on a pair; `nox -s guarantees` makes the page of what these runs found."""
    install(session, "test")
    results = Path("results", f"catalogue-{driver}.jsonl")
    results.unlink(missing_ok=True)
    session.run(*CATALOGUE, "--queuekit-driver", driver, "--queuekit-results", str(results), *session.posargs)


@nox.session(python=MAIN)
def guarantees(session: nox.Session) -> None:
    """Make docs/guarantees.md and .json of results/catalogue*.jsonl: `./scripts/test`, `nox -s catalogue`, `containers` and `localstack` write them."""
    install(session, "test")
    results = sorted(map(str, Path("results").glob("catalogue*.jsonl")))
    program = ("python", "-m", "queuekit_integration.guarantees")
    session.run(*program, *(session.posargs or ["generate"]), "--docs", "docs", "--results", *results)


@nox.session(python=MAIN)
def containers(session: nox.Session) -> None:
    """Run the catalogue on every generation of every server, in containers; scripts/containers prepares a machine without Docker."""
    install(session, "test")
    session.install("--constraint", "constraints.txt", "--editable", "integration[containers]")
    images = dict(pair.split("=", 1) for pair in os.environ.get("QUEUEKIT_TEST_IMAGES", IMAGES).split())
    session.run("pytest", "integration/containers", env={"QUEUEKIT_TEST_IMAGES": _joined(images)})
    for name, image in images.items():
        server, _, version = name.partition("-")
        driver = {"valkey": "redis"}.get(server, server)
        if driver in SERVED:
            environment = {
                f"QUEUEKIT_TEST_{driver.upper()}_IMAGE": image,
                "QUEUEKIT_TEST_REDIS_PROGRAM": _program(server),
            }
            results = Path("results", f"catalogue-{name}.jsonl")
            results.unlink(missing_ok=True)
            session.run(
                *CATALOGUE,
                "--queuekit-driver",
                driver,
                "--queuekit-profile",
                version if server == driver else name,
                "--queuekit-results",
                str(results),
                *session.posargs,
                env=environment,
            )


def _joined(images: dict[str, str]) -> str:
    return " ".join(f"{name}={image}" for name, image in images.items())


def _program(server: str) -> str:
    return f"{server}-server" if server in {"redis", "valkey"} else ""


@nox.session(python=MAIN)
def localstack(session: nox.Session) -> None:
    """Run the catalogue on LocalStack's SQS; its environment is this session's, the tests are run by the gate's own."""
    session.install("--requirement", "integration/queuekit_integration/servers/localstack-sqs-requirements.txt")
    program = str(Path(session.bin) / "python")
    harnesses = "queuekit_integration.harnesses.sqs"
    results = Path("results", "catalogue-localstack.jsonl")
    results.unlink(missing_ok=True)
    session.run(
        ".venv/bin/python",
        "-m",
        *CATALOGUE,
        "--queuekit-driver",
        f"{harnesses}:LocalStackHarness",
        "--queuekit-driver",
        f"{harnesses}:LocalStackFifoHarness",
        "--queuekit-results",
        str(results),
        *session.posargs,
        env={"QUEUEKIT_LOCALSTACK_PYTHON": program},
        external=True,
    )


@nox.session(python=MAIN)
def race(session: nox.Session) -> None:
    """Run unit tests and catalogue with threads that change hands every microsecond."""
    install(session, "types", "test")
    session.run(*CATALOGUE, *UNIT, *session.posargs, env={"QUEUEKIT_SWITCH_INTERVAL": "1e-6"})


@nox.session(python=MAIN)
def examples(session: nox.Session) -> None:
    """Run every example."""
    install(session, "test")
    session.run(*PYTEST, "examples", *session.posargs)


@nox.session(python=MAIN)
def docs(session: nox.Session) -> None:
    """Run every snippet of the README and of docs/."""
    install(session, "test")
    session.run(*PYTEST, "tests/test_docs.py", *session.posargs)


@nox.session(python=MAIN)
def build(session: nox.Session) -> None:
    """Build every distribution, check what is inside, install and import it."""
    needs(session, "scripts/check_build.py")
    install(session, "build")
    session.run("python", "scripts/check_build.py", *session.posargs)


@nox.session(python=MAIN)
def soak(session: nox.Session) -> None:
    """Run mixed load under faults for a long time: `nox -s soak -- --minutes 60`."""
    needs(session, "scripts/soak.py")
    install(session, "test")
    session.run("python", "scripts/soak.py", *session.posargs)


@nox.session(python=MAIN)
def programs(session: nox.Session) -> None:
    """Run many random programs, new ones each time, on every driver that is there."""
    install(session, "test")
    profile = ("--hypothesis-profile=nightly", "--timeout=3600")
    session.run(*CATALOGUE, "-k", "MODEL or LIMITS or RACES", *profile, *session.posargs)
    session.run(*PYTEST, "integration/kernel/test_model.py", *profile, *session.posargs)


@nox.session(python=MAIN)
def flake(session: nox.Session) -> None:
    """Repeat every scenario and print failures with their 95 % bound: `nox -s flake -- 20`."""
    needs(session, "integration/queuekit_integration/flakes.py")
    install(session, "test")
    session.run("python", "-m", "queuekit_integration.flakes", *(session.posargs or ["20"]))


@nox.session(python=MAIN)
def bench(session: nox.Session) -> None:
    """Measure: `nox -s bench`, or `nox -s bench -- floor redis://…`, `-- scale idle redis://…`, `-- compare --harness FOLDER`."""
    name, *arguments = session.posargs or ["core"]
    script = f"scripts/bench/{name}.py"
    needs(session, script)
    install(session)
    session.run("python", script, *arguments)
