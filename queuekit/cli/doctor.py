"""The command `doctor`: what the installation and a backend's settings promise, before anything goes wrong."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from queuekit import __version__
from queuekit.cli.app import load
from queuekit.cli.exits import FAILED, OK
from queuekit.cli.output import as_json, say, table
from queuekit.contract import Finding
from queuekit.doctor import LEVELS, examine_installation, worst
from queuekit.queue import Queue

__all__ = ["doctor"]


def doctor(asked: Namespace) -> int:
    """Look, say what was found, and fail when a promise is weaker than documented."""
    findings = _look(asked.target, asked.concurrency)
    level = worst(findings)
    say(as_json({"worst": level, "findings": findings}) if asked.json else _text(findings))
    return FAILED if LEVELS.index(level) >= LEVELS.index(asked.fail_on) else OK


def _look(target: str | None, concurrency: int) -> list[Finding]:
    if target is None:
        return examine_installation(__version__)
    if "://" in target:
        with Queue(target) as queue:
            return queue.doctor(concurrency=concurrency)
    return load(target).doctor(concurrency=concurrency)


def _text(findings: Sequence[Finding]) -> str:
    """Return a table of all that was looked at, then what each remark means and what to set."""
    rows = [(finding.level, finding.setting, finding.value) for finding in findings]
    remarks = [_remark(finding) for finding in findings if finding.level != "ok"]
    return "\n\n".join([table(("LEVEL", "SETTING", "VALUE"), rows), *remarks])


def _remark(finding: Finding) -> str:
    remedy = f"\n  → {finding.remedy}" if finding.remedy else ""
    return f"{finding.level}: {finding.setting} = {finding.value}\n  {finding.promise}{remedy}"
