"""`python -m queuekit_integration.columns [NAME…]`: which columns can run on this machine, and why others cannot.

One line a column: its name, `ok` or `missing`, Debian's package that would help (`-` for none), and the reason. Ends with 1 where one is missing.
"""

from __future__ import annotations

import sys

from queuekit_integration.harness import Harness
from queuekit_integration.harnesses import harness, names

__all__ = ["describe"]


def describe(name: str) -> tuple[bool, str]:
    """Return whether a column can run here, and its line."""
    try:
        kind = harness(name)
    except LookupError as error:
        return False, f"{name} missing - {error}"
    reason = kind.unavailable()
    if reason is None:
        return True, f"{name} ok - it can run"
    return False, f"{name} missing {_package(kind)} {reason}"


def _package(kind: type[Harness]) -> str:
    server = getattr(kind, "kind", None)
    return "-" if server is None else str(server.package)


def main() -> int:
    """Print a line for each column."""
    found = [describe(name) for name in sys.argv[1:] or names()]
    sys.stdout.writelines(f"{line}\n" for _, line in found)
    return 0 if all(ok for ok, _ in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
