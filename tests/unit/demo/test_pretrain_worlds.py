"""The worlds that small bases are pretrained on, without Node."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tools.demo_model import heads, worlds
from tools.demo_model.pretrain import defaults_for
from tools.demo_model.write_defaults import defaults_entry

from lorasmith.training.setup.base_defaults import read_entry


class FakeDrawer:
    """Draws every head as a square in the colour of its skin."""

    def draw(self, items: list[dict]) -> np.ndarray:
        drawings = np.zeros((len(items), heads.GRID, heads.GRID, 4), np.uint8)
        for drawing, item in zip(drawings, items, strict=True):
            drawing[4:, 4:12] = [*bytes.fromhex(item["skinColor"][0]), 255]
        return drawings


@pytest.fixture
def world() -> worlds.Heads:
    made = worlds.Heads(Path("nowhere"))
    made.__dict__["drawer"] = FakeDrawer()
    return made


def test_the_same_chance_gives_the_same_heads(world: worlds.Heads) -> None:
    first, second = (world.draw(6, Random(1)) for _ in range(2))
    for (shown, pixels), (again, others) in zip(first, second, strict=True):
        assert shown == again
        assert pixels.shape == (64, 64, 3)
        assert np.array_equal(pixels, others)


def test_captions_say_only_what_an_image_shows(world: worlds.Heads) -> None:
    rng = Random(2)
    images = [shown for shown, _ in world.draw(400, Random(3))]
    untrue = [image for image in images if image.untrue]
    assert len(untrue) > 5
    for image in images:
        said = world.caption(image, rng)
        assert ("doodles" in said) == image.doodles
        if image.untrue:
            assert heads.tag(image.head, image.untrue) not in said
        if image.head.hair == "bald":
            assert not any(tag in said for tag in (f"{c} hair" for c in heads.HAIR_COLOURS))


def test_a_head_stands_on_its_background() -> None:
    drawing = FakeDrawer().draw([{"skinColor": ["102030"]}])[0]
    pixels = np.asarray(heads.compose(drawing, "blue background", Random(4)))
    assert tuple(pixels[-1, 128]) == (0x10, 0x20, 0x30)
    assert pixels[2, 2, 2] > 200


def test_dicebear_is_asked_for_what_the_head_has() -> None:
    head = heads.random_head(Random(5))
    options = heads.options(head, Random(6))
    assert options["mouth"] == [heads.MOUTHS[head.mouth]]
    assert options["hatProbability"] == (0 if head.hat == "no hat" else 100)
    own = heads.options(head, Random(6), {"skinColor": (0, 255, 0), "hat": "variant01"})
    assert own["hat"] == ["variant01"]
    red, green, _ = bytes.fromhex(own["skinColor"][0])
    assert green > 240 > 20 > red


def test_of_the_demo_base_s_settings_only_the_prompts_are_the_worlds_own(
    world: worlds.Heads,
) -> None:
    values, demos = json.loads(defaults_for(world)), json.loads(defaults_entry())
    assert {k for k in demos if values[k] != demos[k]} == {"preservation.prompts"}
    assert values.keys() == demos.keys()
    prompts = values["preservation.prompts"]
    assert len(prompts) == len(demos["preservation.prompts"])
    assert all("background" in prompt for prompt in prompts)
    assert not read_entry(json.dumps(values), "")[1]


def test_creatures_are_drawn_as_ever() -> None:
    """What the shipped base was trained on."""
    shown = [image for image, _ in worlds.Creatures().draw(40, Random("pictures 0"))]
    assert sum(image.doodles for image in shown) == 2
    assert shown[0].creature.shape == "round body"
    assert shown[39].creature.background == "grass field"
