"""What the measures say by themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.advice.diagnose.made import grid, readings

from lorasmith.advice.diagnose import sections
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.formats.block_weights import parse, unet_block_map
from lorasmith.measures.answers import Answers
from lorasmith.measures.base_kept import BaseKept
from lorasmith.measures.block_effects import BlockEffects
from lorasmith.measures.records import DIVERGED
from lorasmith.measures.tag_effects import TagEffect, TagEffects

BLOCKS = ["BASE", "IN01", "IN02", "OUT03"]


def subject(captions: tuple[str, ...] = ("zorp, smile",) * 3, triggers: Any = ("zorp",)) -> Subject:
    """As far as sections read it."""
    items = [SimpleNamespace(caption=caption) for caption in captions]
    eval_set = SimpleNamespace(references=SimpleNamespace(items=items))
    architecture = SimpleNamespace(blocks=unet_block_map())
    base = SimpleNamespace(architecture=architecture)
    settings = SimpleNamespace(captions=SimpleNamespace(separator=","))
    return cast(
        Subject,
        SimpleNamespace(eval_set=eval_set, triggers=triggers, base=base, settings=settings),
    )


def test_parts_are_told_as_the_guides_do() -> None:
    lines = sections.parts(grid(unet=0.5, text_encoder=1.5))
    assert lines[0].startswith("Best at UNet 0.50 ± 0.00 and text encoder 1.50 ± 0.00")
    assert "optimizer.unet_lr) by 0.5," in lines[1]
    assert lines[2] == "The text encoder's part could take 1.5 times its rate."
    assert sections.parts(grid()) == ("Both parts are best at full strength.",)
    assert sections.parts(None) == ()


def test_a_tag_that_comes_unasked_is_told_with_who_taught_it() -> None:
    effects = TagEffects([TagEffect("crown", "headwear", 3, 1.0, 1.0, 1.0)], 4)
    shown = readings({"headwear": ["crown", "no hat", "crown"]}, ["smile", "", "crown"])
    (line,) = sections.tags(subject(), effects, shown)
    assert line == "'crown' comes unasked in 100% of 4 drawings; 0.png teaches it."
    # Where most captions ask for it, that is what they taught.
    common = subject(("zorp, crown",) * 3)
    assert sections.tags(common, effects, shown) == ()


def test_a_tag_that_cannot_be_had_is_told_where_the_base_can_draw_it() -> None:
    lost = TagEffects([TagEffect("frown", "mouth", 2, 0.0, 0.0, 1.0)], 4)
    (line,) = sections.tags(subject(), lost, None)
    assert "is in 0% of 4 drawings; the base alone draws it in 100%" in line
    unknown = TagEffects([TagEffect("frown", "mouth", 2, 0.0, 0.0, 0.25)], 4)
    assert sections.tags(subject(), unknown, None) == ()
    obeyed = TagEffects([TagEffect("frown", "mouth", 2, 1.0, 0.25, 1.0)], 4)
    (line,) = sections.tags(subject(), obeyed, None)
    assert line == "They come when asked and not else: frown."


def test_other_things() -> None:
    kept = BaseKept(["a cat", "a house"], [0.1, 0.3], [0.2, 0.3], [0.1, 0.2])
    lines = sections.base(kept)
    assert lines[0].startswith("Prompts of other things move 0.75 ± 0.25 times")
    assert "15% ± 5%" in lines[1]
    without = sections.base(BaseKept(["a cat", "a house"], [0.1, 0.3], [], [0.1, 0.9]))
    assert len(without) == 1
    worst = sections.base(BaseKept(["a cat", "b", "c"], [0, 0, 0], [], [0.0, 0.0, 0.9]))
    assert worst[-1] == "Farthest: 'c' (90%)."
    single = sections.base(BaseKept(["a cat"], [0.1], [0.2], [0.3]))
    assert "inf" not in " ".join(single)
    assert single[0].startswith("Prompts of other things move 0.50 times")
    (ruined,) = sections.base(BaseKept(["a cat"], [DIVERGED], [DIVERGED], [0.3]))
    assert "diverged" in ruined


def test_a_word_that_stands_out_is_a_trigger_to_try() -> None:
    found = Answers(["zorp"], [0.9], 0.3, ["cat", "zorp"], [1.0, 2.8])
    assert sections.proposed_trigger(found) == ("zorp", 2.8)
    assert "a trigger to try" in sections.answers(subject(triggers=()), found)[0]
    assert "its trigger" in sections.answers(subject(), found)[0]
    flat = Answers([], [], 0.0, ["cat", "dog"], [1.0, 1.1])
    assert sections.proposed_trigger(flat) is None
    assert sections.answers(subject(), flat) == (
        "No word that was tried moves its predictions more than others do.",
    )
    assert "no word to try" in sections.answers(subject(), Answers([], [], 0.0, [], []))[0]
    ruined = Answers(["a"], [DIVERGED], DIVERGED, ["a"], [1.0])
    assert "diverged" in sections.answers(subject(), ruined)[0]


@pytest.fixture
def effects() -> BlockEffects:
    return BlockEffects(
        BLOCKS, [-0.8, -0.8], [[-0.2, -0.2], [-0.6, -0.6], [-0.8, -0.801], [-0.7, -0.72]]
    )


def test_blocks_that_do_nothing_are_left_out(effects: BlockEffects) -> None:
    assert effects.contributions()["BASE"] == (pytest.approx(0.75), pytest.approx(0))
    assert effects.idle() == ["IN02"]
    lines = sections.blocks(subject(), effects)
    assert "BASE 75% ± 0%, IN01 25% ± 0%" in lines[0]
    preset = sections.block_preset(effects)
    assert f"lbw={preset}" in lines[1]
    weights = parse(preset)
    assert [weights[block] for block in BLOCKS] == [1, 1, 0, 1]
    assert parse(sections.training_blocks(effects))["IN02"] == 0
    assert parse(sections.training_blocks(effects))["OUT03"] == 1
    only = BlockEffects(["BASE", "IN01"], [-0.5, -0.5], [[-0.5, -0.5], [-0.1, -0.1]])
    assert only.idle() == ["BASE"]
    assert not any("Train without" in line for line in sections.blocks(subject(), only))
    sdxl = BlockEffects(["IN04"], [-0.5], [[0.0]])
    assert sections.block_preset(sdxl, sides=9).count(",") == 11


def test_a_lora_that_learned_nothing_has_no_useful_blocks() -> None:
    assert sections.blocks(subject(), BlockEffects(BLOCKS, [-0.001], [[0.0]] * 4)) == ()
