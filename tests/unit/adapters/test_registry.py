"""The table of types, and what the settings know of it without torch."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from lorasmith.adapters.options import AdapterOptions
from lorasmith.adapters.registry import ALGORITHMS
from lorasmith.config.adapter_types import ADAPTERS, AdapterType, having
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.training.setup.network import adapter_options


def test_settings_and_classes_know_the_same_types():
    assert set(ADAPTERS) == set(ALGORITHMS) == set(get_args(AdapterType))


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_both_tables_say_the_same(name):
    assert ADAPTERS[name].conv == ALGORITHMS[name].conv
    assert ADAPTERS[name].targets == ALGORITHMS[name].targets


def test_every_option_is_a_setting():
    for facts in ADAPTERS.values():
        assert set(facts.options) <= set(AdapterSettings.model_fields)


# Settings are called as guides call them; the one name that says too little is spelled out.
NAMES = {"on_input": "train_on_input"}


@pytest.mark.parametrize("option", [item.name for item in fields(AdapterOptions)])
def test_settings_reach_the_options(option):
    name = NAMES.get(option, option)
    assert having(name), "no type has it"
    value = {"factor": 4, "unit": 2, "constraint": 0.5}.get(option, True)
    settings = TrainSettings.model_validate({"adapter": {name: value}})
    assert getattr(adapter_options(settings.adapter), option) == value
    assert adapter_options(AdapterSettings()) == AdapterOptions()
