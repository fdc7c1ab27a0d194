"""From `app:queue` on the command line to the Queue object that it names, or a sentence that says what is wrong."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from queuekit.errors import ConfigurationError, QueuekitError
from queuekit.queue import Queue
from queuekit.url import shown

__all__ = ["load", "open_shared", "queue_at"]

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


def load(target: str) -> Queue:
    """Import the module of `module:attribute`, with the working directory first on the path, and return its queue.

    Raises `ConfigurationError` for whatever goes wrong, errors inside the module included; those are its cause.
    """
    module_name, attribute = _split(target)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _attribute(_module(module_name), attribute, target)
    if not isinstance(found, Queue):
        message = f"{target} is a {type(found).__name__}, not a Queue{_offer(sys.modules[module_name])}"
        raise ConfigurationError(message)
    return found


def queue_at(target: str, namespace: str | None) -> Queue:
    """Return the queue of `app:queue`, or one for a URL, in the namespace given or else the usual one.

    Raises `ConfigurationError` for a namespace beside `app:queue`, which has its own.
    """
    if "://" in target:
        return Queue(target, namespace=namespace)
    if namespace is not None:
        message = f"{target} has a namespace of its own: leave out --namespace {namespace}, which goes with a URL"
        raise ConfigurationError(message)
    return load(target)


def open_shared(target: str) -> Queue:
    """Load a queue that another process works on; raises `ConfigurationError` when its jobs cannot be seen from here."""
    queue = load(target)
    limits = queue.driver.limits
    if limits.inline or not limits.shared:
        message = (
            f"{target} uses {limits.name}://, which keeps its jobs inside one process, and this is another one: "
            "use a shared backend, such as sqlite:///jobs.db"
        )
        raise ConfigurationError(message)
    return queue


def _split(target: str) -> tuple[str, str]:
    module, colon, attribute = target.partition(":")
    if "://" in target:
        message = f"{shown(target)!r} is an address: name the module and the Queue object in it, such as app:queue"
    elif not colon or not attribute:
        message = f"{target!r} names no object: write module:attribute, such as {_dotted(module) or 'app'}:queue"
    elif not _TARGET.match(module) or module.endswith(".py"):
        message = f"{module!r} is no module name: write {_dotted(module) or 'app'}:{attribute}"
    elif not _TARGET.match(attribute):
        message = f"{attribute!r} is no attribute name: write {module}:queue"
    else:
        return module, attribute
    raise ConfigurationError(message)


def _dotted(path: str) -> str:
    return path.removesuffix(".py").strip("./").replace("/", ".")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(_missing(name, error.name or "")) from error
    except QueuekitError as error:
        message = f"{name} was refused{_place(error)}: {error}"
        raise ConfigurationError(message) from error
    except SyntaxError as error:
        message = f"{name} cannot be compiled: {error.msg} ({error.filename}, line {error.lineno})"
        raise ConfigurationError(message) from error
    except (Exception, SystemExit) as error:
        text = f"importing {name} raised {type(error).__name__}{_place(error)}: {error}"
        message = f'{text}; python -c "import {name}" shows the traceback'
        raise ConfigurationError(message) from error


def _missing(name: str, missing: str) -> str:
    if name == missing or name.startswith(f"{missing}."):
        return (
            f"there is no module {missing!r} in {Path.cwd()} or among the installed packages: "
            "start from the directory that holds it, or correct the name"
        )
    return f"{name} imports {missing!r}, which is not installed: install it in this environment ({sys.prefix})"


def _place(error: BaseException) -> str:
    """Say where in the user's own files an import failed, if it was there."""
    here = str(Path.cwd())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(here)]
    return f" ({Path(frames[-1].filename).relative_to(here)}, line {frames[-1].lineno})" if frames else ""


def _attribute(module: ModuleType, path: str, target: str) -> Any:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            message = f"{target}: {module.__name__} has no {part!r}{_offer(module)}"
            raise ConfigurationError(message) from error
    return found


def _offer(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Queue))
    if not names:
        return f'; {module.__name__} holds no queue: write queue = Queue("sqlite:///jobs.db") there'
    return f"; {module.__name__} has {', '.join(f'{module.__name__}:{name}' for name in names)}"
