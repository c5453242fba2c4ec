"""Subjects are found where the demo world drew them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.unit.curation.images.conftest import Scene, draw_scene

from lorasmith.curation.images.crop import CropRule, choose_crop
from lorasmith.curation.images.focus import find_saliency, to_lab
from lorasmith.data.recorded_crops import Box


def area(box: Box) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def overlap(a: Box, b: Box) -> int:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def share_kept(scene: Scene, focus: str) -> float:
    """Of the creature, by a square crop."""
    box = choose_crop(scene.image, CropRule(focus=focus))
    assert box[2] - box[0] == box[3] - box[1] == min(scene.image.size)
    return overlap(box, scene.box) / area(scene.box)


@pytest.mark.slow
def test_square_crops_keep_the_creature_where_the_middle_does_not() -> None:
    scenes = [draw_scene(seed) for seed in range(120)]
    assert len({scene.ground for scene in scenes}) == 10
    by_subject = np.array([share_kept(scene, "subject") for scene in scenes])
    by_middle = np.array([share_kept(scene, "center") for scene in scenes])
    assert (by_subject > 0.98).mean() > 0.97
    assert (by_middle > 0.98).mean() < 0.75


@pytest.mark.slow
def test_the_subjects_box_is_that_of_the_creature() -> None:
    ratios = []
    for seed in range(200, 280):
        scene = draw_scene(seed)
        box = find_saliency(scene.image).subject()
        assert box is not None
        both = overlap(box, scene.box)
        ratios.append(both / (area(box) + area(scene.box) - both))
    assert np.median(ratios) > 0.8
    assert np.mean(np.array(ratios) > 0.5) > 0.9


def test_one_scene() -> None:
    scene = draw_scene(3)
    assert share_kept(scene, "subject") > 0.98


def test_an_image_of_one_colour_has_no_subject() -> None:
    image = Image.new("RGB", (300, 200), "teal")
    assert find_saliency(image).subject() is None
    assert choose_crop(image, CropRule()) == (50, 0, 250, 200)
    assert choose_crop(image, CropRule("subject")) == (0, 0, 300, 200)


def test_bars_of_a_film_are_no_subject() -> None:
    image = Image.new("RGB", (400, 300))
    image.paste("skyblue", (0, 40, 400, 260))
    image.paste("red", (280, 120, 340, 200))
    box = find_saliency(image).subject()
    assert box is not None
    assert overlap(box, (280, 120, 340, 200)) > 0.9 * 60 * 80
    assert area(box) < 2.2 * 60 * 80


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (9, 7), (16, 4000)])
def test_any_size(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 80).convert("RGB")
    saliency = find_saliency(image)
    assert saliency.values.min() >= 0
    assert saliency.values.max() <= 1
    box = saliency.subject()
    assert box is None or (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1])


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_colours_in_lab(colour: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    """As published for sRGB under D65 (Lindbloom's calculator)."""
    values = to_lab(np.array([[colour]], np.float32) / 255)
    np.testing.assert_allclose(values[0, 0], lab, atol=0.05)
