"""`python -m queuekit_integration.columns [NAME…]`: which columns, and which programs besides, can run on this machine, and why others cannot.

One line each: its name, `ok` or `missing`, Debian's package that would help (`-` for none), and the reason. Ends with 1 where one is missing.
"""

from __future__ import annotations

import sys

from queuekit_integration.harness import Harness
from queuekit_integration.harnesses import harness, names
from queuekit_integration.servers import Kind, PgBouncer

__all__ = ["describe"]


PROGRAMS: dict[str, Kind] = {"pgbouncer": PgBouncer()}
"""What single tests need besides the servers of their column."""


def describe(name: str) -> tuple[bool, str]:
    """Return whether a column or program can run here, and its line."""
    if name in PROGRAMS:
        return _program(PROGRAMS[name])
    try:
        kind = harness(name)
    except LookupError as error:
        return False, f"{name} missing - {error}"
    reason = kind.unavailable()
    if reason is None:
        return True, f"{name} ok - it can run"
    return False, f"{name} missing {_package(kind)} {reason}"


def _program(kind: Kind) -> tuple[bool, str]:
    if kind.program() is not None:
        return True, f"{kind.name} ok - it can run"
    return False, f"{kind.name} missing {kind.package} it is not installed (Debian: apt-get install {kind.package})"


def _package(kind: type[Harness]) -> str:
    """Return the package that brings what is missing; of a pair, that of the half that cannot run."""
    halves = [getattr(kind, name, kind) for name in ("transport", "engine")]
    server = getattr(next(half for half in halves if half.unavailable()), "kind", None)
    return "-" if server is None else str(server.package)


def main() -> int:
    """Print a line for each column."""
    found = [describe(name) for name in sys.argv[1:] or names()]
    sys.stdout.writelines(f"{line}\n" for _, line in found)
    return 0 if all(ok for ok, _ in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
