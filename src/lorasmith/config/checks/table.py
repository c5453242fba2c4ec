"""Checks that need more than one setting: contradictions stop a run, oddities are shown.

Each check is a generator over the settings tree that yields a :class:`Problem` per finding; the
tables at the ends of the files here say which there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from lorasmith.config.checks import (
    adapter,
    contrast,
    data,
    embedding,
    full,
    loss,
    optimizer,
    run,
    slider,
)
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, all_settings, value_of
from lorasmith.core.errors import Problem

SUBJECTS = (data, adapter, embedding, full, slider, contrast, optimizer, loss, run)
OF_SECTIONS = {"adapter": adapter, "embedding": embedding, "full": full, "slider": slider}
"""Subjects that are about a section which not every kind of run has a use for."""


def contradictions(settings: TrainSettings) -> list[Problem]:
    """What cannot be meant: settings that exclude each other."""
    checks = [check for subject in _subjects(settings) for check in subject.CONTRADICTIONS]
    return [problem for check in checks for problem in check(settings)]


def warnings(settings: TrainSettings) -> list[Problem]:
    """What is allowed but odd, with the reason."""
    checks = [check for subject in _subjects(settings) for check in subject.ODDITIES]
    return [*_idle(settings), *(problem for check in checks for problem in check(settings))]


def _idle(settings: TrainSettings) -> Iterator[Problem]:
    """What was said in sections that this kind of run has no use for."""
    for path, item in all_settings().items():
        section = path.partition(".")[0]
        if section not in OF_SECTIONS or section in kind_facts(settings).sections:
            continue
        if value_of(settings, path) != item.default:
            what = f"has no effect: train.kind is {settings.train.kind}"
            yield Problem(path, what, "remove it")


def _subjects(settings: TrainSettings) -> list[ModuleType]:
    """All but those about sections that this kind of run has no use for."""
    used = kind_facts(settings).sections
    idle = [subject for section, subject in OF_SECTIONS.items() if section not in used]
    return [subject for subject in SUBJECTS if subject not in idle]


def missing_data(settings: TrainSettings) -> list[Problem]:
    """A run needs images, or prompts in their place; settings that are only looked at do not."""
    if kind_facts(settings).contrast(settings) == "prompts":
        return list(slider.missing_prompts(settings))
    if settings.data.path is not None or settings.data.folders:
        return []
    return [
        Problem(
            "data.path", "no training pictures are named", "add --data DIR, or path under [data]"
        )
    ]
