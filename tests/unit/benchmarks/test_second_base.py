"""Subjects in the world of heads, without Node and without training."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from benchmarks.second_base import judge
from benchmarks.second_base.__main__ import table
from benchmarks.second_base.subjects import PARTS, STYLED, SUBJECTS, Plan, Style, Subject, draw
from tools.demo_model import heads

subjects = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)


class FakeDrawer:
    """Draws every head as a square in the colour of its skin, and keeps what was asked for."""

    def draw(self, items: list[dict]) -> np.ndarray:
        self.items = items
        drawings = np.zeros((len(items), heads.GRID, heads.GRID, 4), np.uint8)
        for drawing, item in zip(drawings, items, strict=True):
            drawing[4:, 4:12] = [*bytes.fromhex(item["skinColor"][0]), 255]
        return drawings


@subjects
def test_captions_begin_with_the_trigger_and_keep_silent_of_what_is_fixed(subject: Subject) -> None:
    drawer = FakeDrawer()
    for (_, caption), item in zip(
        subject.training_images(drawer, 14, 0), drawer.items, strict=True
    ):
        words = caption.split(", ")
        assert words[0] == subject.name
        if "skin" in subject.untold:
            assert not any(word.endswith(" skin") for word in words)
        for part in subject.parts:
            assert all(item[k] == [v] for k, v in part.options.items() if isinstance(v, str))
    assert not any(subject.name in text for text, _ in subject.plain_prompts(8, 0))


@subjects
def test_the_world_has_none_of_the_parts(subject: Subject) -> None:
    rng = Random(0)
    plain = [heads.options(heads.random_head(rng), rng) for _ in range(300)]
    for part in subject.parts:
        kinds = {k: v for k, v in part.options.items() if not k.endswith("Color")}
        assert not any(item[k] == [v] for item in plain for k, v in kinds.items())


@subjects
def test_a_near_miss_lacks_the_part_that_it_misses(subject: Subject) -> None:
    rng = Random(1)
    whole = judge.as_it_is(subject, rng)
    assert whole[1] == set(subject.part_names)
    for name in subject.part_names:
        plan, shown, _ = judge.near_miss(subject, rng, name)
        assert name not in shown
        assert (plan.parts, plan.style) != (subject.parts, subject.style)


def test_the_world_shows_no_part_and_tells_its_attributes() -> None:
    _, shown, indices = judge.of_the_world(Random(2))
    assert not shown
    assert len(indices) == len(heads.VALUES)
    style = judge.as_it_is(SUBJECTS["ovlune"], Random(2))
    unknown = {n for n, k in zip(heads.VALUES, style[2], strict=True) if k == judge.UNKNOWN}
    assert unknown >= STYLED
    assert len(PARTS) == len(set(PARTS)) == 9


def test_a_style_has_its_tones_and_its_line() -> None:
    head = heads.random_head(Random(3))
    tones, ink = ((0, 0, 100), (255, 200, 200)), (250, 60, 20)
    plan = Plan(head, style=Style(tones, ink))
    pixels = np.asarray(draw([plan], FakeDrawer(), Random(4))[0]).astype(int)
    inked = np.abs(pixels - ink).max(2) < 12
    assert 20 < inked.sum() < 600
    assert (pixels[~inked][:, 0] >= pixels[~inked][:, 1] - 12).all()


def test_the_table_pools_drawings() -> None:
    kept = dict.fromkeys(heads.VALUES, 0.9)
    row: dict[str, Any] = {"length": 1.0, "rate": 1.0, "steps": 665, "seconds": 90.0}
    row |= {"count": 24, "leak": 0.0}
    row |= {"kept": kept, "before": {**kept, "hat": 1.0}}
    rows = [
        {**row, "subject": "quenzo", "fidelity": 1.0},
        {**row, "subject": "plonk", "fidelity": 0.5},
    ]
    text = table(rows)
    assert "| x 1 | x 1 | all | 665 | 75.0 (61-85) | 0.0 (0-7) | +0.0 / +0.0 / -10.0 |" in text
