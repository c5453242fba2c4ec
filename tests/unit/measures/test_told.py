"""The base model tells what its own world's images show."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from PIL import Image

from lorasmith.advice.advise.damping import schedule_of
from lorasmith.demo.world import Creature, draw, random_creature, tags
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.measures.noise_probe import Row
from lorasmith.measures.told import beside, clip_skip, measure_caption_fit, read_tags
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model

HATS = ["no hat", "crown", "top hat"]


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("demo")


@pytest.fixture(scope="module")
def schedule(model: DiffusionModel) -> NoiseSchedule:
    return schedule_of(model.architecture)


def row(model: DiffusionModel, creature: Creature, number: int) -> Row:
    image = Image.fromarray(draw(creature, Random(number)))
    return Row.of(model, image, ", ".join(tags(creature)), number)


def test_hats_are_read(model: DiffusionModel, schedule: NoiseSchedule) -> None:
    creature = random_creature(Random(3))
    rows = [row(model, replace(creature, hat=hat), n) for n, hat in enumerate(HATS)]
    names = ["a.png", "b.png", "c.png"]
    found = read_tags(model, schedule, rows, names, {"headwear": HATS})
    for hat, errors in zip(HATS, found.errors["headwear"], strict=True):
        assert HATS[errors.index(min(errors))] == hat
    assert found.images == names


def test_the_right_clip_skip_predicts_better(
    model: DiffusionModel, schedule: NoiseSchedule
) -> None:
    rows = [row(model, random_creature(Random(5)), 5)]
    fit = measure_caption_fit(model, schedule, rows, (1, 2))
    assert fit.errors[0][0] < fit.errors[1][0]
    assert model.clip_skip == 1
    with clip_skip(model, 2):
        assert model.clip_skip == 2


def test_a_prompt_of_two() -> None:
    assert [beside("zorp", "hat"), beside("", "hat"), beside("zorp", "")] == [
        "zorp, hat",
        "hat",
        "zorp",
    ]
