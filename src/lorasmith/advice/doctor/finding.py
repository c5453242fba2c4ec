"""What a check says, and the lines that mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lorasmith.advice.doctor.computer import Computer

Status = Literal["ok", "slow", "broken", "not there", "not needed"]
STATUSES: tuple[Status, ...] = ("ok", "slow", "broken", "not there", "not needed")
"""ok: works. slow: works, at a cost that the line names. broken: in the way of making a LoRA, or
installed and of no use. not there: something optional. not needed: of no use on this computer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Args:
        evidence: what was seen.
        mend: a command or a setting to copy; there where the status is slow or broken, and where
            something optional can be had.
        check, area: which check it is of, and under which heading it stands.
    """

    status: Status
    evidence: str
    mend: str = ""
    check: str = ""
    area: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """
    Args:
        name: what it looks at, as the report has it.
        look: ``None`` where the facts do not say, as of what only a whole run finds out.
    """

    name: str
    area: str
    look: Callable[[Computer], Finding | None]

    def __call__(self, computer: Computer) -> Finding | None:
        finding = self.look(computer)
        return replace(finding, check=self.name, area=self.area) if finding else None


@dataclass(frozen=True)
class DoctorReport:
    """
    Args:
        version: of lorasmith.
        findings: in the order of the checks.
        quick: nothing was tried, and PyTorch was not looked into.
    """

    version: str
    computer: Computer
    findings: Sequence[Finding]
    quick: bool = False

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == "broken"]

    def counts(self) -> dict[Status, int]:
        return {
            status: sum(finding.status == status for finding in self.findings)
            for status in STATUSES
        }

    def to_json(self) -> dict[str, Any]:
        """With nothing in it that tells who the user is."""
        computer = self.computer
        return {
            "lorasmith": self.version,
            "quick": self.quick,
            "system": computer.system,
            "machine": computer.machine,
            "python": ".".join(map(str, computer.python.version)),
            "packages": {name: one.version for name, one in sorted(computer.packages.items())},
            "environment": dict(computer.environment),
            "counts": self.counts(),
            "findings": [
                {
                    "area": one.area,
                    "check": one.check,
                    "status": one.status,
                    "evidence": one.evidence,
                    "mend": one.mend,
                }
                for one in self.findings
            ],
        }


_HOMES = re.compile(r"(/(?:home|Users)/|[A-Za-z]:\\+Users\\+)[^/\\\s'\":;]+", re.IGNORECASE)
# Users who are nobody in particular.
_COMMON = {"", "root", "user", "runner", "ubuntu", "admin", "lorasmith", "python", "home"}


def shorten(text: str, home: Path, user: str) -> str:
    """``text`` without the user's name: the home folder is ``~``, others' homes lose their name.

    Args:
        user: the login, which may stand in further paths.
    """
    for form in dict.fromkeys((str(home), home.as_posix(), str(home).replace("\\", "\\\\"))):
        if len(form) > 1:
            text = re.sub(rf"{re.escape(form)}(?![\w.-])", "~", text)
    text = _HOMES.sub(r"\1…", text)
    if user.lower() not in _COMMON:
        text = re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\]|$|[\s'\":;,])", "…", text)
    return text


def shorten_all(value: Any, home: Path, user: str) -> Any:
    """:func:`shorten` for every text in records, tables and lists."""
    if isinstance(value, str):
        return shorten(value, home, user)
    if isinstance(value, Mapping):
        return {key: shorten_all(one, home, user) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(shorten_all(one, home, user) for one in value)
    if hasattr(value, "__dataclass_fields__"):
        names = value.__dataclass_fields__
        return replace(
            value, **{name: shorten_all(getattr(value, name), home, user) for name in names}
        )
    return value
