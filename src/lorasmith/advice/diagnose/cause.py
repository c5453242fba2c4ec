"""What a cause is: a rule that suspects it, and what the rule found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorasmith.advice.diagnose.evidence import Evidence, Sign


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a rule found.

    Args:
        likelihood: 0 to 1.
        evidence: clauses with their numbers, what is known before what was measured.
        value: what decided.
        changes: settings to train with next time.
        command: the command that mends the dataset; "" where settings are all there is to change.
        todo: what to do, a sentence.
    """

    likelihood: float
    evidence: tuple[str, ...]
    value: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class CauseRule:
    """One row of the table.

    Args:
        id: lower case with hyphens; it never changes.
        title: what was wrong, in a few words.
        find: what it finds; pure.
        why: that does harm, a sentence.
        source: the guide that says so; "" where it is plain.
        threshold: from where ``value`` counts.
        unit: of it.
    """

    id: str
    title: str
    find: Callable[[Evidence], Suspicion | None]
    why: str
    source: str = ""
    threshold: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """A suspicion with what is its rule's own."""

    rule: CauseRule
    suspicion: Suspicion

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def likelihood(self) -> float:
        return self.suspicion.likelihood

    def to_json(self) -> dict[str, Any]:
        found = self.suspicion
        return {
            "id": self.rule.id,
            "title": self.rule.title,
            "likelihood": round(found.likelihood, 3),
            "evidence": list(found.evidence),
            "value": found.value,
            "threshold": self.rule.threshold,
            "unit": self.rule.unit,
            "why": self.rule.why,
            "source": self.rule.source,
            "todo": found.todo,
            "changes": dict(found.changes),
            "command": found.command,
        }


def texts_of(*parts: str | Sign) -> tuple[str, ...]:
    texts = (part if isinstance(part, str) else part.text for part in parts)
    return tuple(dict.fromkeys(text for text in texts if text))


def on_log(factor: float, full: float) -> float:
    """0 at a factor of 1, 1 from ``full`` on."""
    return min(1.0, max(0.0, math.log(factor) / math.log(full)))


def larger(*signs: Sign) -> Sign:
    return max(signs, key=lambda sign: sign.size)
