"""The base model that settings name, and what they say of it."""

from __future__ import annotations

from lorasmith.config.schema import TrainSettings
from lorasmith.models.open import OpenedCheckpoint, open_unchanged
from lorasmith.models.reference import ModelReference


def model_reference(settings: TrainSettings) -> ModelReference:
    """The base model of a run, and what the settings say of it."""
    fields = settings.model.model_dump(exclude={"defaults"})
    return ModelReference(**fields, zero_terminal_snr=settings.loss.zero_terminal_snr)


def open_base(settings: TrainSettings) -> OpenedCheckpoint:
    """The headers of the base model; no weights are read."""
    return open_unchanged(model_reference(settings))
