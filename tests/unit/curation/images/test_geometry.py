from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lorasmith.curation.images.geometry import Geometry, resized

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def test_crop_resize_flip_in_this_order() -> None:
    geometry = Geometry((80, 60), (20, 0, 80, 60), (30, 30), flip=True)
    result = np.asarray(geometry.apply(RGB), int)
    # Shrinking by two is the mean of four.
    part = np.asarray(RGB, float)[:, 20:]
    means = part.reshape(30, 2, 30, 2, 3).mean((1, 3))[:, ::-1]
    assert np.abs(result - means).max() <= 0.5
    assert geometry.result == (30, 30)


def test_masks_at_another_scale_stay_so() -> None:
    mask = Image.new("L", (40, 30))
    mask.paste(255, (10, 0, 40, 30))
    shaped = Geometry((80, 60), (20, 0, 80, 60), (30, 30)).apply(mask)
    assert shaped.size == (15, 15)
    assert shaped.getextrema() == (255, 255)


def test_what_changes_nothing_says_so() -> None:
    assert not Geometry((80, 60)).changes
    assert not Geometry((80, 60), (0, 0, 80, 60), (80, 60)).changes
    assert Geometry((80, 60), flip=True).changes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_can_be_resized(mode: str) -> None:
    image = Image.new("I;16", (80, 60), 65_535) if mode == "I;16" else RGB.convert(mode)
    for size in ((20, 15), (160, 120), (80, 15)):
        assert resized(image, size).size == size


def test_colours_under_transparency_do_not_bleed() -> None:
    layer = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    layer.paste((0, 0, 255, 255), (0, 0, 2, 4))
    pixels = np.asarray(resized(layer, (1, 1)))[0, 0]
    assert pixels[0] < 20
    assert pixels[2] > 235
