"""The subjects of benchmarks/subjects: the same each time, varied, and new to the demo model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from benchmarks.subjects.drawing import PLAIN, Look, _draw_creature, draw
from benchmarks.subjects.subjects import PAIRS, SUBJECTS, Drawing, Subject, of_split
from benchmarks.subjects.traits import TRAITS
from PIL import Image, ImageDraw

from lorasmith.demo import world
from lorasmith.demo.character import TRIGGER
from lorasmith.demo.world import VALUES, random_creature
from lorasmith.demo.world_parts import CANVAS, Brush

WORLD_WORDS = {word for values in VALUES.values() for value in values for word in value.split()} | {
    TRIGGER,
    "doodles",
}

every_subject = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)


@cache
def training_images(subject_name: str) -> list[Drawing]:
    return SUBJECTS[subject_name].training_images(60)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


@pytest.mark.parametrize("seed", range(20))
def test_without_traits_a_creature_is_drawn_as_the_world_draws_it(seed: int):
    def brush() -> Brush:
        image = Image.new("RGB", (CANVAS, CANVAS))
        return Brush(image, ImageDraw.Draw(image), 120, 140, 70, (90, 160, 200), (30, 60, 80))

    creature, ours, theirs = random_creature(Random(seed)), brush(), brush()
    _draw_creature(ours, creature, (), frozenset())
    world._draw_creature(theirs, creature, world.NO_EXTRAS)
    assert ours.image.tobytes() == theirs.image.tobytes()


def test_the_splits_are_of_the_same_kinds():
    kinds = {split: Counter(s.kind for s in of_split(split)) for split in ("choose", "report")}
    assert kinds["choose"] == kinds["report"] + kinds["report"]
    assert kinds["report"] == {"character": 4, "style": 2, "concept": 1}
    assert sum(len(of_split(split)) for split in kinds) == len(SUBJECTS) == 21


def test_no_part_belongs_to_two_subjects():
    traits = [trait.name for s in SUBJECTS.values() for trait in s.look.traits]
    assert sorted(traits) == sorted(TRAITS)


def test_pairs_are_characters_of_one_split():
    for names in PAIRS:
        first, second = (SUBJECTS[name] for name in names)
        assert first.kind == second.kind == "character"
        assert first.split == second.split


@every_subject
def test_names_and_parts_are_not_in_the_world(subject: Subject):
    assert not {subject.trigger, *subject.parts} & WORLD_WORDS
    if subject.kind == "character":
        assert len(subject.parts) >= 3


@every_subject
def test_the_same_image_whatever_the_count(subject: Subject):
    few, many = subject.training_images(3), training_images(subject.name)
    for one, other in zip(few, many[:3], strict=True):
        assert one.caption == other.caption
        assert (pixels(one.image) == pixels(other.image)).all()
    assert (pixels(many[4].image) != pixels(subject.draw(4, seed=1).image)).any()
    assert many[0].image.size == (64, 64)


@every_subject
def test_training_images_vary(subject: Subject):
    drawings = training_images(subject.name)
    assert len({d.caption for d in drawings}) >= 40
    for name in subject.varying:
        usable = set(VALUES[name]) - subject.withheld - subject.never
        assert len({getattr(d.creature, name) for d in drawings}) >= min(4, len(usable)), name


@every_subject
def test_captions_leave_the_subject_unsaid(subject: Subject):
    for drawing in training_images(subject.name):
        first, *tags = drawing.caption.split(", ")
        assert first == subject.trigger
        for name, value in subject.fixed.items():
            assert (f"{value} body" if name == "colour" else value) not in tags
        assert not set(tags) & subject.untold


@every_subject
def test_no_prompt_asks_for_what_was_trained_on(subject: Subject):
    def asked(creature) -> tuple[str, ...]:
        return tuple(getattr(creature, name) for name in subject.varying)

    trained = [d.creature for d in training_images(subject.name)]
    prompts = subject.prompts(40)
    assert not {asked(c) for c in trained} & {asked(p.creature) for p in prompts}
    shown = {getattr(c, name) for c in trained for name in VALUES}
    assert not shown & subject.withheld
    for prompt in prompts:
        values = {getattr(prompt.creature, name) for name in prompt.asked}
        assert prompt.novel == bool(values & subject.withheld)
        assert not values & subject.never
    assert sum(p.novel for p in prompts) == 20


@every_subject
def test_plain_prompts_are_the_worlds(subject: Subject):
    prompts = subject.plain_prompts(16)
    assert all(subject.trigger not in p.text.split(", ") for p in prompts)
    assert sum(p.text.startswith(subject.class_word + ", ") for p in prompts) == 4
    for prompt in prompts[1::2]:
        for name in {"shape", "colour"} & set(subject.fixed):
            assert getattr(prompt.creature, name) == subject.fixed[name]


@every_subject
def test_every_part_is_seen(subject: Subject):
    """Each trait, or the style, changes more than a few pixels by much."""
    creature = replace(random_creature(Random(3)), **subject.fixed)
    looks = [replace(subject.look, traits=tuple(t for t in subject.look.traits if t.name != part))
             for part in subject.parts] if subject.look.traits else [PLAIN]  # fmt: skip
    for look in looks:
        with_part = Look(
            # What remains must stand at the same place, so only the paint is taken away.
            tuple(
                t if t in look.traits else replace(t, paint=lambda *_: None)
                for t in subject.look.traits
            ),
            subject.look.body_colour,
            look.style,
        )
        whole = pixels(draw(creature, Random(1), subject.look))
        less = pixels(draw(creature, Random(1), with_part))
        changed = (abs(whole - less).max(axis=2) > 60).sum()
        assert changed >= 40, (subject.name, changed)


def test_a_training_set_lies_as_users_lay_it(tmp_path: Path):
    subject = SUBJECTS["vellu"]
    folder = subject.write_training_set(tmp_path, 4, repeats=7)
    assert folder == tmp_path / "7_vellu"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"00{k}.{ending}" for k in range(4) for ending in ("png", "txt")
    ]
    drawing = subject.draw(2)
    assert (folder / "002.txt").read_text().strip() == drawing.caption
    with Image.open(folder / "002.png") as image:
        assert (pixels(image) == pixels(drawing.image)).all()
