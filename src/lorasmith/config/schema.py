"""All settings of a training run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lorasmith.config.fields import Section, Setting, settings_of
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.sections.data import (
    BucketSettings,
    CaptionSettings,
    DataSettings,
    FolderSettings,
    ModelSettings,
)
from lorasmith.config.sections.embedding import EmbeddingSettings
from lorasmith.config.sections.full import FullSettings
from lorasmith.config.sections.loss import LossSettings, PreservationSettings
from lorasmith.config.sections.optimizer import OptimizerSettings, ScheduleSettings
from lorasmith.config.sections.run import (
    LogSettings,
    PerformanceSettings,
    RunSettings,
    SampleSettings,
    SaveSettings,
)
from lorasmith.config.sections.slider import SliderSettings
from lorasmith.config.sections.validation import ValidationSettings, WatchdogSettings


class TrainSettings(BaseModel):
    """The settings tree of one training run; immutable, and valid by construction in each field.

    What the fields mean together is in :mod:`lorasmith.config.checks.table`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    captions: CaptionSettings = Field(default_factory=CaptionSettings)
    buckets: BucketSettings = Field(default_factory=BucketSettings)
    augment: AugmentSettings = Field(default_factory=AugmentSettings)
    adapter: AdapterSettings = Field(default_factory=AdapterSettings)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    full: FullSettings = Field(default_factory=FullSettings)
    slider: SliderSettings = Field(default_factory=SliderSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    loss: LossSettings = Field(default_factory=LossSettings)
    preservation: PreservationSettings = Field(default_factory=PreservationSettings)
    train: RunSettings = Field(default_factory=RunSettings)
    validation: ValidationSettings = Field(default_factory=ValidationSettings)
    watchdog: WatchdogSettings = Field(default_factory=WatchdogSettings)
    save: SaveSettings = Field(default_factory=SaveSettings)
    sample: SampleSettings = Field(default_factory=SampleSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    performance: PerformanceSettings = Field(default_factory=PerformanceSettings)


FOLDER_TABLES = ("captions", "buckets", "augment")
"""The sections of which a folder may have settings of its own."""


def for_folder(settings: TrainSettings, folder: FolderSettings) -> TrainSettings:
    """The settings as they are for that folder: its own in place of the run's."""
    changes: dict[str, Section] = {}
    for name in FOLDER_TABLES:
        section: Section | None = getattr(folder, name)
        if section is not None:
            changed = {key: getattr(section, key) for key in section.model_fields_set}
            changes[name] = getattr(settings, name).model_copy(update=changed)
    if folder.resolution is not None:
        changes["data"] = settings.data.model_copy(update={"resolution": folder.resolution})
    if folder.batch is not None:
        changes["train"] = settings.train.model_copy(update={"batch": folder.batch})
    return settings.model_copy(update=changes)


def replace_settings(settings: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """A copy with ``changes``, values by path ("train.precision")."""
    by_section: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, _, name = path.partition(".")
        by_section.setdefault(section, {})[name] = value
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(update=values)
            for section, values in by_section.items()
        }
    )


def value_of(settings: TrainSettings, path: str) -> Any:
    """Of the setting of that name, such as "optimizer.lr"."""
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)


@functools.cache
def sections() -> dict[str, type[Section]]:
    """The sections by name, in the order of the reference page."""
    by_name: dict[str, type[Section]] = {}
    for name, info in TrainSettings.model_fields.items():
        assert isinstance(info.annotation, type)
        assert issubclass(info.annotation, Section)
        by_name[name] = info.annotation
    return by_name


@functools.cache
def all_settings() -> dict[str, Setting]:
    """Every setting by its path, ``optimizer.lr``."""
    return {
        item.path: item
        for name, section in sections().items()
        for item in settings_of(section, name)
    }


SHORT_OPTIONS = {
    "model": "model.path",
    "data": "data.path",
    "reg": "data.reg",
    "output": "save.output",
    "name": "save.name",
    "trigger": "captions.trigger",
    "epochs": "train.epochs",
}
"""Options of the command line for the settings that everyone needs, in place of
``--section.key``."""

IN_GUIDES = frozenset(
    {
        *SHORT_OPTIONS.values(),
        *("model.clip_skip", "model.max_tokens", "data.resolution"),
        *("captions.extension", "captions.shuffle", "captions.keep_tokens"),
        *("buckets.enabled", "buckets.min", "buckets.max", "augment.flip"),
        *("adapter.type", "adapter.rank", "adapter.alpha"),
        *("adapter.conv_rank", "adapter.conv_alpha", "adapter.scale_weight_norms"),
        *("optimizer.name", "optimizer.lr", "optimizer.unet_lr", "optimizer.text_encoder_lr"),
        *("optimizer.args", "schedule.name", "schedule.warmup"),
        *("loss.min_snr_gamma", "loss.noise_offset", "loss.prior_weight"),
        *("train.kind", "train.steps", "train.batch", "train.accumulation", "train.seed"),
        *("train.precision", "train.stop", "save.every_epochs", "save.precision", "sample.prompts"),
    }
)
"""What guides to training tell people to set, and how this program is told to watch itself: what a
form shows that does not show everything."""
