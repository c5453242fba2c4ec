"""The settings of runs as plain values, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings, all_settings
from lorasmith.jobs.runs.logs import plain_value
from lorasmith.jobs.runs.records import Difference
from lorasmith.training.runs.folder import existing_run_folder


def values_of(settings: TrainSettings) -> dict[str, Any]:
    """Every setting by its path, JSON-ready; "none" is ``None``."""
    dumped = plain_value(settings.model_dump(mode="json"))
    return {
        path: dumped[item.section][item.name]
        for path, item in all_settings().items()
        if item.name in dumped[item.section]
    }


def default_values() -> dict[str, Any]:
    """As :func:`values_of`, of a run of which nothing is said."""
    return values_of(TrainSettings())


def differences(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[Difference]:
    """The settings that differ, in the order of the reference page."""
    return [
        Difference(path=path, value=values.get(path), other=others.get(path))
        for path in all_settings()
        if (path in values or path in others) and values.get(path) != others.get(path)
    ]


def compare_runs(path: Path, other: Path) -> list[Difference]:
    """The settings that differ between two runs.

    Raises:
        RunError: one of them is no run folder.
        SettingsError: settings of one cannot be read.
    """
    first, second = (load_settings(existing_run_folder(one).settings) for one in (path, other))
    return differences(values_of(first), values_of(second))
