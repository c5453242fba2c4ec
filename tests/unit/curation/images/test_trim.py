from __future__ import annotations

import io
from random import Random

import numpy as np
import pytest
from PIL import Image
from tests.unit.curation.images.conftest import draw_scene

from lorasmith.curation.images.trim import find_border, find_reduced_border
from lorasmith.demo.world import draw_canvas, random_creature


def noise(width: int, height: int) -> Image.Image:
    numbers = np.random.default_rng(1)
    return Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))


def framed(left: int, top: int, right: int, bottom: int, colour: str = "black") -> Image.Image:
    image = Image.new("RGB", (200 + left + right, 150 + top + bottom), colour)
    image.paste(noise(200, 150), (left, top))
    return image


@pytest.mark.parametrize("colour", ["black", "white", "#808080", "#203080"])
@pytest.mark.parametrize(
    "sides", [(0, 20, 0, 20), (30, 0, 30, 0), (5, 6, 7, 8), (0, 40, 0, 10), (1, 1, 1, 1)]
)
def test_bars_and_frames_go_to_the_pixel(colour: str, sides: tuple[int, int, int, int]) -> None:
    left, top, _, _ = sides
    box = find_border(framed(*sides, colour))
    assert box == (left, top, left + 200, top + 150)


def test_black_bars_on_one_side_only() -> None:
    assert find_border(framed(0, 25, 0, 0)) == (0, 25, 200, 175)


def test_a_frame_within_a_frame() -> None:
    image = Image.new("RGB", (260, 210), "white")
    image.paste(framed(5, 5, 5, 5), (25, 25))
    assert find_border(image) == (30, 30, 230, 180)


@pytest.mark.parametrize(("quality", "tolerance"), [(75, 20), (85, 12), (95, 12)])
def test_bars_after_jpeg(quality: int, tolerance: int) -> None:
    """At no multiple of a block: the edge is smeared over up to 16 px."""
    image = Image.new("RGB", (640, 576))
    image.paste(noise(40, 30).resize((640, 480), Image.Resampling.BICUBIC), (0, 47))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    box = find_border(Image.open(file).convert("RGB"), tolerance)
    assert 0 <= box[1] - 47 <= 10
    assert 0 <= 527 - box[3] <= 10
    assert (box[0], box[2]) == (0, 640)


@pytest.mark.parametrize("ground", ["white", "black", "#bbddff"])
def test_a_drawing_on_a_plain_ground_has_no_border(ground: str) -> None:
    image = Image.new("RGB", (300, 300), ground)
    image.paste(noise(60, 80), (120, 110))
    assert find_border(image) == (0, 0, 300, 300)


@pytest.mark.slow
def test_skies_and_gradients_are_no_border() -> None:
    kinds = {}
    for seed in range(60):
        scene = draw_scene(seed)
        kinds[scene.ground] = find_border(scene.image) == (0, 0, *scene.image.size)
    assert {"gradient background", "grass field", "white background"} <= kinds.keys()
    assert all(whole for ground, whole in kinds.items() if ground != "checks")


@pytest.mark.slow
def test_small_drawings_keep_every_part() -> None:
    """Where ten lines of pixels are a good part of the creature."""
    for seed in range(80):
        rng = Random(seed)
        canvas = draw_canvas(random_creature(rng), rng)
        for side in (64, 128, 160):
            image = canvas.resize((side, side), Image.Resampling.BOX)
            assert find_border(image) == (0, 0, side, side), seed
            file = io.BytesIO()
            image.save(file, "JPEG", quality=85)
            assert find_border(Image.open(file)) == (0, 0, side, side), seed


@pytest.mark.parametrize("direction", [0, 1])
def test_stripes_are_no_border(direction: int) -> None:
    stripes = np.where(np.arange(200) // 20 % 2, 255, 160)
    pixels = np.stack([stripes[:, None].repeat(200, 1)] * 3, -1).astype(np.uint8)
    image = Image.fromarray(pixels if direction else pixels.transpose(1, 0, 2))
    image.paste("red", (70, 60, 130, 150))
    assert find_border(image) == (0, 0, 200, 200)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 40)])
def test_images_of_one_colour_stay(size: tuple[int, int]) -> None:
    assert find_border(Image.new("RGB", size)) == (0, 0, *size)


def test_an_edge_too_soft_for_its_size_is_seen_in_the_reduced_image() -> None:
    pixels = np.full((800, 768, 3), 200, np.uint8)
    pixels[700:] = 0  # a bar; the picture's last lines are nearly as dark
    pixels[684:700, 240:] = 6
    image = Image.fromarray(pixels)
    assert find_border(image) == (0, 0, 768, 800)
    left, top, right, bottom = find_reduced_border(image)
    assert (left, top, right) == (0, 0, 768)
    assert 670 <= bottom <= 684
    hard = framed(0, 25, 0, 0)
    assert find_reduced_border(hard) == find_border(hard)
