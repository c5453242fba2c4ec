"""The table of types, and what the settings know of it without torch."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from lorasmith.adapters.base import Adapter, AdapterOptions
from lorasmith.adapters.registry import adapter_class
from lorasmith.config.adapter_types import ADAPTERS, AdapterType, having
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.training.kinds.adapter import adapter_options


def test_every_type_has_a_row_and_a_class():
    assert set(ADAPTERS) == set(get_args(AdapterType))
    for name in ADAPTERS:
        assert issubclass(adapter_class(name), Adapter)


def test_every_option_is_a_setting():
    for facts in ADAPTERS.values():
        assert set(facts.options) <= set(AdapterSettings.model_fields)


@pytest.mark.parametrize("option", [item.name for item in fields(AdapterOptions)])
def test_settings_reach_the_options(option):
    assert having(option), "no type has it"
    value = {
        "factor": 4,
        "unit": 2,
        "constraint": 0.5,
        "min_rank": 3,
        "rank_power": 2.0,
        "orthogonal": False,
    }.get(option, True)
    settings = TrainSettings.model_validate({"adapter": {option: value}})
    assert getattr(adapter_options(settings.adapter), option) == value
    assert adapter_options(AdapterSettings()) == AdapterOptions()
