from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from lorasmith.data.recorded_crops import Box
from lorasmith.demo.world import draw_canvas, random_creature
from lorasmith.demo.world_parts import BACKGROUNDS, CANVAS


@dataclass(frozen=True)
class Scene:
    """A drawn creature somewhere on a large ground, and where it is.

    Args:
        ground: name of the demo world's, or "checks" or "noise".
    """

    image: Image.Image
    box: Box
    ground: str


def draw_scene(seed: int) -> Scene:
    rng = Random(seed)
    creature = random_creature(rng)
    on_white, on_green = (
        np.asarray(
            draw_canvas(replace(creature, background=f"{colour} background"), Random(seed)), int
        )
        for colour in ("white", "green")
    )
    shown = (on_white == on_green).all(-1)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    inner = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    cut = Image.fromarray(on_white.astype(np.uint8)).crop(inner)
    mask = Image.fromarray(shown).crop(inner)
    size = rng.choice([(768, 512), (512, 768), (900, 400)])
    ground = rng.choice([*BACKGROUNDS, "checks", "noise"])
    image = _ground(ground, size, rng)
    left, top = rng.randint(0, size[0] - cut.width), rng.randint(0, size[1] - cut.height)
    image.paste(cut, (left, top), mask)
    return Scene(image, (left, top, left + cut.width, top + cut.height), ground)


def _ground(name: str, size: tuple[int, int], rng: Random) -> Image.Image:
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    if name == "checks":
        side = rng.randint(20, 80)
        odd = (np.arange(size[1])[:, None] // side + np.arange(size[0])[None] // side) % 2
        return Image.fromarray(numbers.integers(0, 256, (2, 3), np.uint8)[odd])
    if name == "noise":
        small = numbers.integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
        return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    tile = Image.new("RGB", (CANVAS, CANVAS))
    BACKGROUNDS[name](tile, rng)
    return tile.resize(size)


Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """``save(path, width, height, caption=…)``: soft noise, different for each size."""

    def make(path: Path, width: int = 96, height: int = 64, caption: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = np.random.default_rng(width * height)
        small = Image.fromarray(numbers.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return make
