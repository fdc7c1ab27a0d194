"""The command `doctor`: what the installation and a backend's settings promise, before anything goes wrong."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from queuekit import __version__
from queuekit.cli.app import queue_at
from queuekit.cli.exits import FAILED, OK
from queuekit.cli.output import as_json, say, table
from queuekit.contract import Finding
from queuekit.doctor import LEVELS, examine_installation, worst
from queuekit.errors import ConfigurationError

__all__ = ["doctor"]


def doctor(asked: Namespace) -> int:
    """Look, say what was found, and fail when a promise is weaker than documented."""
    findings = _look(asked)
    level = worst(findings)
    say(as_json({"worst": level, "findings": findings}) if asked.json else _text(findings))
    return FAILED if LEVELS.index(level) >= LEVELS.index(asked.fail_on) else OK


def _look(asked: Namespace) -> list[Finding]:
    if asked.target is None:
        if asked.namespace is not None:
            raise ConfigurationError("--namespace goes with a URL: name the backend to look at, or leave it out")
        return examine_installation(__version__)
    with queue_at(asked.target, asked.namespace) as queue:
        return queue.doctor(concurrency=asked.concurrency)


def _text(findings: Sequence[Finding]) -> str:
    """Return a table of all that was looked at, then what each remark means and what to set."""
    rows = [(finding.level, finding.setting, finding.value) for finding in findings]
    remarks = [_remark(finding) for finding in findings if finding.level != "ok"]
    return "\n\n".join([table(("LEVEL", "SETTING", "VALUE"), rows), *remarks])


def _remark(finding: Finding) -> str:
    remedy = f"\n  → {finding.remedy}" if finding.remedy else ""
    return f"{finding.level}: {finding.setting} = {finding.value}\n  {finding.promise}{remedy}"
