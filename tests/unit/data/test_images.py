from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lorasmith.core.errors import DatasetError
from lorasmith.data.images import fit, glance, load_image, read_header


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_orientation_as_pillow_transposes(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    Image.fromarray(noise(20, 30)).save(path, exif=exif, quality=90)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    upright = load_image(path)
    assert np.array_equal(np.asarray(upright), np.asarray(expected))
    header = read_header(path)
    assert (header.width, header.height) == upright.size


@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", (255, 255, 255)), ("#204060", (0x20, 0x40, 0x60)), ("black", (0, 0, 0))],
)
def test_transparency_shows_the_background(
    tmp_path: Path, background: str, expected: tuple[int, int, int]
) -> None:
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3], pixels[2:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", background)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == expected
    assert image.getpixel((0, 3)) == (200, 200, 200)


def test_half_transparent_is_half_way(tmp_path: Path) -> None:
    Image.new("LA", (2, 2), (100, 128)).save(tmp_path / "a.png")
    red, *_ = load_image(tmp_path / "a.png", "white").getpixel((0, 0))
    assert red == pytest.approx(255 - 155 * 128 / 255, abs=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (8, 8)).save(path)
    assert load_image(path).mode == "RGB"


def test_sixteen_bit_greys_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.abs(np.asarray(load_image(tmp_path / "a.png"))[0, :, 0] - np.arange(256.0)).max() < 1


def test_an_unknown_colour_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="whitish"):
        load_image(tmp_path / "a.png", "whitish")


def area_average(pixels: np.ndarray, count: int) -> np.ndarray:
    """Rows averaged by area, by brute force: each row repeated until they divide evenly."""
    height = pixels.shape[0]
    fine = pixels.astype(np.float64).repeat(count, axis=0)
    return fine.reshape(count, height, *pixels.shape[1:]).mean(axis=1)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
@settings(max_examples=60)
def test_shrinking_is_the_exact_area_average(height: int, width: int, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    pixels = noise(height, width)
    expected = area_average(pixels, rows).transpose(1, 0, 2)
    expected = area_average(expected, columns).transpose(1, 0, 2)
    result = fit(Image.fromarray(pixels), (columns, rows), (0, 0, columns, rows))
    assert result.shape == (rows, columns, 3)
    assert np.abs(result - expected).max() <= 0.51


def test_whole_factors_shrink_as_pillows_reduce() -> None:
    pixels = noise(96, 64)
    expected = np.asarray(Image.fromarray(pixels).reduce(4))
    assert (
        np.abs(fit(Image.fromarray(pixels), (16, 24), (0, 0, 16, 24)) - expected.astype(int)).max()
        <= 1
    )


def test_growing_is_lanczos() -> None:
    image = Image.fromarray(noise(16, 16))
    expected = np.asarray(image.resize((40, 40), Image.Resampling.LANCZOS))[4:36, 2:38]
    assert np.array_equal(fit(image, (40, 40), (2, 4, 38, 36)), expected)


def test_same_size_is_only_cropped() -> None:
    pixels = noise(20, 20)
    assert np.array_equal(
        fit(Image.fromarray(pixels), (20, 20), (3, 1, 19, 17)), pixels[1:17, 3:19]
    )


def test_a_line_of_millions_of_pixels_becomes_a_small_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("L", (24, 2_000_000)).save(path)
    assert glance(path).thumbnail.height <= 2 * 4096
