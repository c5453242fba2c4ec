"""Repeats that let each of several concepts be shown equally often."""

from __future__ import annotations

import math

from lorasmith.advice.advise.case import Case
from lorasmith.advice.advise.rules import Choice
from lorasmith.advice.advise.sources import Source, science
from lorasmith.config.sections.data import FolderSettings
from lorasmith.core.text import shortlist

# How many times as often as another one may be shown; more, and it takes over.
UNEVEN = 1.5

SOURCE: Source = science("Multiple concept support")


def balanced_folders(case: Case) -> Choice | None:
    """Folders with repeats of their own, where those that are there leave concepts uneven."""
    concepts = case.pictures.concepts
    uses = [concept.uses for concept in concepts]
    if case.kind == "style" or len(case.pictures.triggers) < len(concepts):
        return None  # Folders of one subject, or of one style, need no balance.
    if len(concepts) < 2 or max(uses) < UNEVEN * min(uses):
        return None
    most = max(concept.images for concept in concepts)
    repeats = [max(1, round(most / concept.images)) for concept in concepts]
    common = math.gcd(*repeats)
    by_path = {c.path: n // common for c, n in zip(concepts, repeats, strict=True)}
    folders = [
        FolderSettings(path=spec.path, repeats=by_path[spec.path])
        if spec.path in by_path
        else FolderSettings(path=spec.path, repeats=spec.repeats, reg=True)
        for spec in case.run_plan.scan.folders
        if spec.path in by_path or spec.reg
    ]
    shown = [f"{c.name} {c.uses}" for c in concepts]
    reason = f"shown alike; as they are, one would take over ({shortlist(shown)} an epoch)"
    return Choice("data.folders", folders, reason, SOURCE)
