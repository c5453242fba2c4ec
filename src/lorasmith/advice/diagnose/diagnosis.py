"""What was found of a LoRA."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.advice.diagnose import sections
from lorasmith.advice.diagnose.cause import Cause
from lorasmith.advice.diagnose.evidence import Evidence
from lorasmith.advice.diagnose.facts import RunFacts
from lorasmith.advice.diagnose.sections import Section
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.measures.records import FULL
from lorasmith.measures.verdict import SnapshotVerdict

VERSION = 1
"""Of the JSON; keys are only ever added."""


@dataclass(frozen=True, slots=True)
class Base:
    """The LoRA on one base model.

    Args:
        results: of the measures that were taken there, by their names.
    """

    subject: Subject
    results: Mapping[str, Any]

    @property
    def name(self) -> str:
        return Path(str(self.subject.settings.model.path)).name


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    Args:
        verdict: under-, well or overtrained, and why; ``None`` where it could not be measured.
        causes: the likeliest first.
        sections: what the measures say by themselves.
        results: of each measure, by its name.
        unknown: what could not be answered, and what it would take.
    """

    subject: Subject
    facts: RunFacts
    evidence: Evidence
    verdict: SnapshotVerdict | None
    causes: tuple[Cause, ...]
    sections: tuple[Section, ...]
    unknown: tuple[str, ...]
    results: Mapping[str, Any]
    bases: tuple[Base, ...] = ()
    drawings: Path | None = None

    @property
    def no_cause(self) -> str:
        """What to say where no cause is named, a sentence."""
        if self.verdict is not None and self.verdict.state == "well":
            return "Nothing that was measured or is known of it looks wrong."
        if self.verdict is not None:
            return "None of the causes that are known explains it."
        if self.facts.source == "nothing":
            return "Nothing of it could be judged."
        return "Nothing that is known of its training looks wrong."

    def to_json(self) -> dict[str, Any]:
        evidence, verdict = self.evidence, self.verdict
        grid = evidence.grid
        return {
            "version": VERSION,
            "file": str(self.subject.path),
            "name": self.subject.name,
            "model": str(self.subject.settings.model.path),
            "state": verdict.state if verdict else None,
            "reasons": list(verdict.reasons) if verdict else [],
            "causes": [cause.to_json() for cause in self.causes],
            "sections": {one.id: list(one.lines) for one in self.sections},
            "unknown": list(self.unknown),
            "facts": self.facts.to_json(),
            "measures": evidence.measures.record() if evidence.measures else None,
            "strengths": None
            if grid is None
            else {
                **dataclasses.asdict(grid),
                "best": dataclasses.asdict(grid.optimum()),
            },
            **sections.to_json(self.subject, self.results),
            "models": [_base_json(base) for base in self.bases],
        }


def _base_json(base: Base) -> dict[str, Any]:
    grid, measures = base.results.get("strengths"), base.results.get("snapshot")
    return {
        "model": str(base.subject.settings.model.path),
        "loss": grid.at(1.0, 1.0)[0] if grid else None,
        "best": dataclasses.asdict(grid.optimum()) if grid else None,
        "likeness": measures.likeness.get(FULL) if measures else None,
    }
