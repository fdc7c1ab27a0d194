"""Builds every distribution of the repository and checks that an installed one has what the source tree has.

What is easily lost on the way is looked for in each archive: `py.typed`, every SQL file, the licence, the entry points. The
wheels are then installed together, without their dependencies, and imported from where they were installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = [ROOT, ROOT / "integration", *(found.parent for found in sorted(ROOT.glob("drivers/*/pyproject.toml")))]
DATA = ("py.typed", "*.sql", "*.lua")


def package_of(distribution: Path) -> Path:
    """Return the one package that a distribution holds."""
    (package,) = (found.parent for found in distribution.glob("queuekit*/__init__.py"))
    return package


def needed(distribution: Path) -> set[str]:
    """Return the paths, as an archive names them, of all modules and data files of a distribution's package."""
    package = package_of(distribution)
    files = [found for pattern in ("*.py", *DATA) for found in package.rglob(pattern)]
    return {found.relative_to(distribution).as_posix() for found in files}


def build(distribution: Path, target: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from that sdist; return both."""
    # --no-isolation: hatchling is installed already, and a build should not depend on the network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(distribution)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{distribution.name} does not build:\n{done.stdout}{done.stderr}")
    (wheel,) = target.glob("*.whl")
    (sdist,) = target.glob("*.tar.gz")
    return wheel, sdist


def names_in(archive: Path) -> set[str]:
    """Return the paths of an archive's files; those of an sdist without its leading folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def missing(distribution: Path, archive: Path) -> list[str]:
    """Return what an archive should hold and does not."""
    names = names_in(archive)
    lacks = needed(distribution) - names
    if not any(name.endswith("LICENSE") for name in names):
        lacks.add("LICENSE")
    return sorted(lacks)


def installs(wheels: list[Path]) -> bool:
    """Install the wheels into a folder of their own and import them from there, with their drivers found by entry point."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *map(str, wheels)]
        subprocess.run(pip, check=True)
        program = (
            f"import sys; sys.path.insert(0, {folder!r})\n"
            "from importlib.metadata import distributions\n"
            "import queuekit\n"
            f"assert queuekit.__file__.startswith({folder!r}), queuekit.__file__\n"
            f"points = [point for found in distributions(path=[{folder!r}]) for point in found.entry_points]\n"
            "drivers = {point.name for point in points if point.group == 'queuekit.drivers'}\n"
            "assert drivers >= {'memory', 'sqlite', 'sync', 'null'}, drivers\n"
            "queuekit.Queue('memory://').close()\n"
            "queuekit.Queue('sqlite:///jobs.db').close()\n"
        )
        return subprocess.run([sys.executable, "-c", program], cwd=folder, check=False).returncode == 0


def main() -> int:
    """Build, look, install; print a line for each archive."""
    complete = True
    wheels = []
    with tempfile.TemporaryDirectory() as folder:
        for number, distribution in enumerate(DISTRIBUTIONS):
            target = Path(folder) / str(number)
            wheel, sdist = build(distribution, target)
            wheels.append(wheel)
            for archive in (wheel, sdist):
                lacks = missing(distribution, archive)
                complete = complete and not lacks
                print(f"{archive.name}: {'lacks ' + ', '.join(lacks) if lacks else f'{len(names_in(archive))} files'}")
        works = installs(wheels)
    print("the wheels install and open a queue" if works else "the installed wheels do not work")
    return 0 if complete and works else 1


if __name__ == "__main__":
    raise SystemExit(main())
