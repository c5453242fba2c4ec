"""What is measured of images, against what others measure."""

from __future__ import annotations

from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageFilter

from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.curation.facts import FactsStore, measure_image, perceptual_hash


def random_image(seed: int, coarse: int) -> Image.Image:
    """Soft shapes: ``coarse`` by ``coarse`` random colours, enlarged."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8))
    return small.resize((90, 70), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("coarse", [2, 5, 30])
@pytest.mark.parametrize("seed", range(10))
def test_the_perceptual_hash_is_imagehashs(seed: int, coarse: int) -> None:
    grey = random_image(seed, coarse).convert("L")
    bits = np.packbits(imagehash.phash(grey).hash.flatten()).tobytes()
    assert perceptual_hash(grey).to_bytes(8, "big") == bits


@pytest.mark.parametrize("seed", range(5))
def test_saturation_is_that_of_hsv(tmp_path: Path, seed: int) -> None:
    image = random_image(seed, 6)
    image.save(tmp_path / "a.png")
    hsv = np.asarray(image.convert("HSV").getchannel("S")).mean() / 255
    assert measure_image(tmp_path / "a.png").saturation == pytest.approx(hsv, abs=1 / 255)


def test_blurred_images_are_told_from_sharp_ones(tmp_path: Path) -> None:
    image = random_image(1, 30)
    image.save(tmp_path / "sharp.png")
    image.resize((20, 15)).resize(image.size, Image.Resampling.BICUBIC).save(tmp_path / "soft.png")
    sharp, soft = (measure_image(tmp_path / name).blur for name in ("sharp.png", "soft.png"))
    assert 0 <= sharp < soft - 0.2 <= 1


@pytest.mark.parametrize("blurred", [0, 1, 2, 4])
def test_blur_hangs_neither_on_the_format_nor_on_the_size(tmp_path: Path, blurred: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (130, 170, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((1360, 1040), Image.Resampling.BICUBIC)
    large = image.filter(ImageFilter.GaussianBlur(8 * blurred))
    sizes = {"large": large, "half": large.reduce(2), "quarter": large.reduce(4)}
    blurs = []
    for name, each in sizes.items():
        for ending in ("png", "jpg"):
            each.save(path := tmp_path / f"{name}.{ending}", quality=95)
            blurs.append(measure_image(path).blur)
    assert max(blurs) - min(blurs) < 0.05
    assert min(blurs) > 0.8 if blurred else max(blurs) < 0.3


def test_many_images_are_measured_in_order_and_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        random_image(number, 4).save(path)
    counts: list[int] = []

    def observe(event: Event) -> None:
        assert isinstance(event, Progress)
        counts.append(event.done)

    facts = FactsStore(tmp_path).measure(paths, observe)
    assert list(facts) == paths
    assert facts == {path: measure_image(path) for path in paths}
    assert counts == sorted(counts)
    assert counts[-1] == len(paths)


def test_what_was_measured_before_a_stop_is_remembered(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        random_image(number, 4).save(path)
    controls = Controls()

    def stop(event: Event) -> None:
        controls.stop()

    with pytest.raises(Stopped):
        FactsStore(tmp_path).measure(paths, stop, controls)
    store = FactsStore(tmp_path)
    known = [path for path in paths if store.known(path) is not None]
    assert known == paths[: len(known)]
    assert 0 < len(known) < len(paths)
