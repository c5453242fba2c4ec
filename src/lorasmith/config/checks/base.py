"""What a check of several settings is, and what checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

Check = Callable[[TrainSettings], Iterator[Problem]]
"""Yields a problem per finding."""


def is_given(settings: TrainSettings, section: str, *names: str) -> bool:
    """Whether one of the settings was said to be something other than its default."""
    values = getattr(settings, section)
    fields = type(values).model_fields
    return any(getattr(values, name) != fields[name].get_default() for name in names)


def trained_rates(s: TrainSettings) -> dict[str, float]:
    """Learning rate of each part that is trained."""
    trains = kind_facts(s).trains(s)
    return {part: s.optimizer.lr_of(part) for part, is_trained in trains.items() if is_trained}
