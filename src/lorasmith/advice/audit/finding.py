"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lorasmith.advice.audit.inputs import AuditInputs
    from lorasmith.curation.changes.plan import Plan

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: forbids training; warning: costs quality; note: worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule has to say: of an image, of a few that belong together, of a tag.

    A rule's function gives ``what`` and what it concerns; the rest is the rule's own, and filled in
    by :func:`.audit.audit_dataset`.

    Args:
        what: one sentence with the numbers; images that it is about need not be named in it.
        images: it concerns, those that matter most first.
        tags: it concerns.
        value: what was measured.
        command: the shell command that mends it; "" for the rule's own.
        severity: where it is another one than the rule's.
        rule: the rule's id.
        threshold: which ``value`` passed.
        why: it matters, a sentence.
        key: of this very finding, the same as long as it concerns the same: ``rule:3fa9c1d2``.
    """

    what: str
    images: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    value: float | None = None
    command: str = ""
    severity: Severity | None = None
    rule: str = ""
    threshold: float | None = None
    why: str = ""
    key: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.key,
            "rule": self.rule,
            "severity": self.severity,
            "what": self.what,
            "images": [str(path) for path in self.images],
            "tags": list(self.tags),
            "value": self.value,
            "threshold": self.threshold,
            "why": self.why,
            "command": self.command,
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table of rules.

    Args:
        id: lower case with hyphens; it never changes.
        title: a heading over its findings ("Nearly the same").
        severity: of its findings.
        find: what it finds; pure, and pays only for what it reads of the inputs.
        why: it matters, a sentence.
        source: the guide that says so, and where; "" where it is measured or plain.
        threshold: the number that decides.
        unit: of the number, with what it is of ("bits of 64").
        fix: the plan that mends some of its findings, which are then gone; ``None`` where only a
            person can.
        safe: whether the fix may be carried out without looking: nothing is lost that training
            would have used.
        missing: what must be there to look at it and is not ("the extra `audit`"); "" where
            nothing is missing. ``None``: it needs nothing.
        slow: it is not even asked while it is ignored.
        otherwise: which other severity its findings may have, and when ("note where …").
    """

    id: str
    title: str
    severity: Severity
    find: Callable[[AuditInputs], Iterable[Finding]]
    why: str
    source: str = ""
    threshold: float | None = None
    unit: str = ""
    fix: Callable[[AuditInputs, Sequence[Finding]], Plan] | None = None
    safe: bool = False
    missing: Callable[[AuditInputs], str] | None = None
    slow: bool = False
    otherwise: str = ""
