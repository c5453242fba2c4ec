"""Definitions of the settings: complete, consistent, and true of the libraries they speak of."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from pydantic import ValidationError

from lorasmith.config.checks import table as checks
from lorasmith.config.fields import Setting, settings_of
from lorasmith.config.schema import TrainSettings, all_settings, sections
from lorasmith.config.sections.data import FolderSettings
from lorasmith.config.sections.optimizer import OptimizerSettings, ScheduleName

SECTIONS = [
    *(
        "model",
        "data",
        "captions",
        "buckets",
        "augment",
        "adapter",
        "embedding",
        "full",
        "slider",
        "optimizer",
        "schedule",
    ),
    *("loss", "preservation", "train", "validation", "watchdog", "save", "sample"),
    *("log", "performance"),
]

EVERY = [*all_settings().values(), *settings_of(FolderSettings)]


def test_the_sections_are_those_of_the_contract() -> None:
    assert list(sections()) == SECTIONS
    assert len(EVERY) > 80


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.path)
def test_each_setting_is_explained(item: Setting) -> None:
    assert item.description
    assert item.why
    assert item.kind
    assert not item.description.endswith("."), "descriptions are phrases"
    numeric = {int, float} & set(item.types)
    if numeric and not item.choices and "[width, height]" not in item.kind:
        assert item.low is not None or item.path == "schedule.warmup", "a number has a range"


def test_defaults_are_valid_and_of_their_types() -> None:
    # model_validate runs the validators that plain construction skips for defaults.
    defaults = TrainSettings()
    explicit = {
        name: {
            item.name: getattr(getattr(defaults, name), item.name) for item in settings_of(section)
        }
        for name, section in sections().items()
    }
    assert TrainSettings.model_validate(explicit) == defaults
    assert checks.contradictions(defaults) == []
    assert checks.warnings(defaults) == []


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        TrainSettings().optimizer.lr = 1.0  # type: ignore[misc]


def test_the_web_form_gets_a_json_schema() -> None:
    schema = TrainSettings.model_json_schema()
    lr = schema["$defs"]["OptimizerSettings"]["properties"]["lr"]
    assert lr["default"] == 1e-4
    assert lr["why"]
    json.dumps(schema)


@pytest.mark.parametrize(
    ("settings", "alpha"), [({}, 16), ({"alpha": 0}, 16), ({"alpha": 1}, 1), ({"rank": 4}, 4)]
)
def test_alpha_zero_or_none_is_the_rank(settings: dict[str, int], alpha: float) -> None:
    adapter = TrainSettings.model_validate({"adapter": settings}).adapter
    assert adapter.effective_alpha == alpha


def test_rates_of_the_parts_fall_back_to_lr() -> None:
    optimizer = OptimizerSettings(lr=1e-4, text_encoder_lr=5e-5)
    assert {"unet": 1e-4, "text_encoder": 5e-5}.items() <= optimizer.lrs.items()


def test_schedules_are_those_that_training_has() -> None:
    from lorasmith.training.lr_schedules import SHAPES

    assert set(get_args(ScheduleName)) == set(SHAPES)
