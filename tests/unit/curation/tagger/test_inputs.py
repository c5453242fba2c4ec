"""Against expectations made with Pillow and numpy step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.tagger.inputs import InputFormat, load_input, pad_square, to_input

WD14 = InputFormat(32)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def test_wd14_takes_blue_first_from_0_to_255() -> None:
    image = Image.new("RGB", (32, 32), (10, 20, 200))
    array = to_input(image, WD14)
    assert array.shape == WD14.shape == (32, 32, 3)
    assert array.dtype == np.float32
    assert array[5, 7].tolist() == [200, 20, 10]


def test_an_image_of_the_right_size_is_taken_pixel_by_pixel() -> None:
    image = noise(32, 32)
    assert (to_input(image, WD14) == np.asarray(image, np.float32)[:, :, ::-1]).all()


@pytest.mark.parametrize(("width", "height"), [(50, 20), (20, 50), (33, 32), (7, 31)])
def test_padding_is_white_and_centred(width: int, height: int) -> None:
    image = noise(width, height)
    side = max(width, height)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC), np.float32)
    assert (to_input(image, WD14) == expected[:, :, ::-1]).all()


def test_the_odd_line_of_padding_follows() -> None:
    """As sd-scripts' `np.pad` with `pad_l = pad_x // 2`, and SmilingWolf's own."""
    array = np.asarray(pad_square(Image.new("RGB", (2, 5)), "white"))
    assert array[0, :, 0].tolist() == [255, 0, 0, 255, 255]


def test_deepdanboorus_padding_draws_the_edge_out() -> None:
    array = np.asarray(pad_square(noise(3, 7), "edge"))
    assert array.shape == (7, 7, 3)
    assert (array[:, 0] == array[:, 2]).all()
    assert (array[:, 5:] == array[:, 4:5]).all()


def test_timms_range_and_axes() -> None:
    form = InputFormat(
        32, "NCHW", bgr=False, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1)
    )
    image = noise(32, 32)
    pixels = np.asarray(image, np.float64) / 255
    expected = (pixels - [0.5, 0.4, 0.3]) / [0.5, 0.2, 0.1]
    assert np.allclose(to_input(image, form), expected.transpose(2, 0, 1), rtol=0, atol=1e-5)


def test_cl_taggers_is_that_of_sd_scripts() -> None:
    """`imgs.transpose(0, 3, 1, 2) / 127.5 - 1.0`, of BGR."""
    form = InputFormat(32, "NCHW", scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = noise(32, 32)
    expected = np.asarray(image, np.float64)[:, :, ::-1].transpose(2, 0, 1) / 127.5 - 1
    assert np.allclose(to_input(image, form), expected, rtol=0, atol=1e-5)


def test_transparent_parts_are_white_and_exif_turns_it_upright(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise when shown: the left side goes up
    image.save(tmp_path / "a.png", exif=exif)
    array = load_input(tmp_path / "a.png", WD14)
    assert array[2, 16].tolist() == [0, 0, 255]
    assert array[30, 16].tolist() == [255, 255, 255]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG broken")
    with pytest.raises(DatasetError, match=r"a\.png"):
        load_input(path, WD14)


def test_it_says_what_it_takes() -> None:
    assert str(WD14) == "32 px, NHWC, BGR, 0 to 255"
    form = InputFormat(448, "NCHW", bgr=False, scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert str(form) == "448 px, NCHW, RGB, -1 to 1"


def test_of_a_recorded_crop_the_part_is_seen(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    whole, part = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(pixels).save(whole)
    Image.fromarray(pixels[:, 20:]).save(part)
    (tmp_path / "a.crop.json").write_text('{"box": [20, 0, 80, 60], "size": [80, 60]}')
    np.testing.assert_array_equal(load_input(whole, WD14), load_input(part, WD14))
    (tmp_path / "a.crop.json").write_text("nonsense")
    with pytest.raises(DatasetError, match=r"a\.crop\.json"):
        load_input(whole, WD14)
