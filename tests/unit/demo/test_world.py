import time
from dataclasses import asdict
from random import Random

import numpy as np
import pytest
from PIL import Image

from lorasmith.demo.character import (
    TRIGGER,
    ZORP,
    draw_zorp,
    novel_prompts,
    plain_prompts,
    random_zorp,
    trigger_prompts,
    write_training_set,
)
from lorasmith.demo.judge import character_rate, leak_rate, read, tag_accuracy
from lorasmith.demo.world import VALUES, Creature, all_tags, draw, random_creature, tags


@pytest.fixture
def creature() -> Creature:
    return Creature(
        shape="star body",
        colour="gray",
        eyes="one eye",
        mouth="smile",
        hat="crown",
        ears="no ears",
        held="empty hands",
        belly="plain belly",
        background="grass field",
    )


def test_same_seed_draws_the_same_pixels():
    first, second = (Random(5) for _ in range(2))
    for _ in range(20):
        one, other = random_creature(first), random_creature(second)
        assert one == other
        np.testing.assert_array_equal(draw(one, first), draw(other, second))


def test_image_is_64_by_64_rgb_bytes(creature):
    image = draw(creature, Random(0))
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("attribute", list(VALUES))
def test_every_value_is_drawn_and_looks_different(attribute, creature):
    images = {
        draw(Creature(**{**asdict(creature), attribute: value}), Random(1)).tobytes()
        for value in VALUES[attribute]
    }
    assert len(images) == len(VALUES[attribute]) > 2


def test_tags_are_the_values_but_for_what_goes_unsaid(creature):
    assert tags(creature) == [
        "gray body",
        "star body",
        "one eye",
        "smile",
        "crown",
        "no ears",
        "grass field",
    ]


def test_varied_tags_are_a_shuffled_part_of_all_tags(creature):
    rng, every = Random(2), set(all_tags(creature))
    varied = [tags(creature, rng) for _ in range(100)]
    assert all(set(said) <= every for said in varied)
    assert len({tuple(said) for said in varied}) > 50


def test_tags_of_the_world_are_all_different():
    said = {tag for values in VALUES.values() for tag in values}
    assert len(said) == sum(map(len, VALUES.values()))


def test_zorp_parts_are_never_in_the_base_world():
    rng = Random(3)
    for prompt in plain_prompts(500):
        assert TRIGGER not in prompt.text
        words = {"antennae", "wings", "two-tone", "scarf"}
        assert not words & set(prompt.text.replace(",", " ").split())
    teal = np.array(ZORP.wings)
    for _ in range(200):
        pixels = draw(random_creature(rng), rng).astype(int)
        wing = (np.abs(pixels - teal).max(2) < 12).sum()
        assert wing < 60


def test_zorp_parts_are_large_and_apart():
    rng = Random(4)
    for _ in range(50):
        pixels = draw_zorp(random_zorp(rng), rng).astype(int)
        for colour, least in ((ZORP.lower, 150), (ZORP.antennae, 40), (ZORP.wings, 150)):
            close = np.abs(pixels - np.array(colour)).max(2) < 25
            assert close.sum() > least
    # The wings reach out at both sides.
    teal = np.abs(pixels - np.array(ZORP.wings)).max(2) < 25
    assert teal[:, :20].any()
    assert teal[:, 44:].any()


def test_drawing_takes_less_than_5_ms():
    rng = Random(6)
    creatures = [random_creature(rng) for _ in range(100)]
    begin = time.process_time()
    for creature in creatures:
        draw(creature, rng)
    assert (time.process_time() - begin) / 100 < 0.005


def test_training_set_is_in_kohya_layout(tmp_path):
    write_training_set(tmp_path, images=3, regularisation=2, repeats=7, seed=1)
    zorps = sorted((tmp_path / "img" / "7_zorp").iterdir())
    plain = sorted((tmp_path / "reg" / "1_creature").iterdir())
    assert [path.suffix for path in zorps] == [".png", ".txt"] * 3
    assert [path.suffix for path in plain] == [".png", ".txt"] * 2
    assert Image.open(zorps[0]).size == (64, 64)
    caption = zorps[1].read_text().strip().split(", ")
    assert caption[0] == TRIGGER
    assert caption[1] in VALUES["eyes"]
    assert TRIGGER not in plain[1].read_text()


def test_training_set_is_the_same_for_the_same_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_training_set(tmp_path / name, images=2, regularisation=1, seed=seed)

    def files(name: str) -> dict[str, bytes]:
        root = tmp_path / name
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert files("a") == files("b") != files("c")


def test_prompts_ask_for_what_their_creatures_are():
    for prompt in trigger_prompts(20):
        assert prompt.text.startswith("zorp, ")
        assert prompt.creature.eyes in prompt.text
    for prompt in novel_prompts(20):
        asked = {prompt.creature.hat, prompt.creature.held}
        assert any(value in prompt.text for value in asked)


def test_judge_reads_drawings():
    rng = Random(7)
    creatures = [random_creature(rng) for _ in range(60)]
    readings = read([draw(creature, rng) for creature in creatures])
    assert min(tag_accuracy(readings, creatures).values()) > 0.75
    assert leak_rate(readings) < 0.05
    zorps = [draw_zorp(random_zorp(rng), rng) for _ in range(60)]
    assert character_rate(read(zorps)) > 0.95
