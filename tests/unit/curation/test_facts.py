"""What is measured of images, against what others measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.curation import measuring
from lorasmith.curation.facts import ImageFacts, Pixels
from lorasmith.curation.facts_store import FactsStore
from lorasmith.curation.measuring import measure_image, measure_images, perceptual_hashes


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
    assert perceptual_hashes([grey])[0].to_bytes(8, "big") == bits


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


def test_transparency_counts_where_it_shows(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (40, 40), (1, 2, 3, 200)).save(tmp_path / "clear.png")
    Image.new("P", (40, 40)).save(tmp_path / "palette.png", transparency=0)
    clear = {path.name for path in tmp_path.iterdir() if measure_image(path).transparent}
    assert clear == {"clear.png", "palette.png"}


def test_only_new_images_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        random_image(number, 4).save(path)
    first = FactsStore(tmp_path).measure(paths)
    decoded: list[Path] = []
    original = measure_images

    def watched(
        paths: Sequence[Path], hashes: Sequence[str] = (), *, closely: bool = False
    ) -> list[ImageFacts]:
        decoded.extend(paths)
        return original(paths, hashes, closely=closely)

    monkeypatch.setattr(measuring, "measure_images", watched)
    assert FactsStore(tmp_path).measure(paths) == first
    assert decoded == []
    assert all(facts.pixels is None for facts in first.values())
    close = FactsStore(tmp_path).measure(paths, closely=True)
    assert {p: replace(facts, pixels=None) for p, facts in close.items()} == first
    assert all(facts.pixels is not None for facts in close.values())
    assert sorted(decoded) == paths
    decoded.clear()
    assert FactsStore(tmp_path).measure(paths, closely=True) == close
    assert FactsStore(tmp_path).measure(paths) == close
    assert decoded == []
    random_image(9, 4).save(paths[2])
    FactsStore(tmp_path).measure(paths)
    assert decoded == [paths[2]]


@pytest.mark.parametrize("quality", [3, 20, 49, 50, 75, 95, 100])
def test_a_jpegs_quality_is_told_by_its_tables(tmp_path: Path, quality: int) -> None:
    random_image(1, 30).save(path := tmp_path / "a.jpg", quality=quality)
    assert measure_image(path).jpeg_quality == quality
    random_image(1, 30).save(tmp_path / "a.png")
    assert measure_image(tmp_path / "a.png").jpeg_quality == 0


def test_what_is_odd_about_a_file_is_told_in_words(tmp_path: Path) -> None:
    image = random_image(1, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.save(tmp_path / "plain.png")
    turned, cmyk, plain = (
        measure_image(tmp_path / name) for name in ("turned.jpg", "cmyk.jpg", "plain.png")
    )
    assert (turned.oddities, cmyk.oddities, plain.oddities) == ("turned by EXIF", "CMYK", "")
    assert (turned.width, turned.height) == (70, 90)


def closely(path: Path) -> Pixels:
    pixels = measure_image(path, closely=True).pixels
    assert pixels is not None
    return pixels


def test_bars_are_measured_and_plain_grounds_are_not(tmp_path: Path) -> None:
    image = random_image(1, 30).resize((512, 400))
    bars = Image.new("RGB", (512, 512))
    bars.paste(image, (0, 56))
    bars.save(tmp_path / "bars.png")
    drawing = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(drawing).ellipse((100, 100, 400, 500), fill="navy")
    drawing.save(tmp_path / "drawing.png")
    assert closely(tmp_path / "bars.png").border == pytest.approx(112 / 512, abs=0.02)
    assert closely(tmp_path / "drawing.png").border == 0


def test_a_subject_on_plain_ground_is_where_it_is(tmp_path: Path) -> None:
    drawing = Image.new("RGB", (512, 1024), "white")
    ImageDraw.Draw(drawing).rectangle((128, 256, 255, 767), fill="navy")
    drawing.save(tmp_path / "a.png")
    pixels = closely(tmp_path / "a.png")
    assert pixels.plain == 1
    assert np.array(list(pixels.subject)) / 255 == pytest.approx([0.25, 0.25, 0.5, 0.75], abs=0.03)
