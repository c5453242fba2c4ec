"""What a file says goes along, and its pixels survive where the format allows."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from lorasmith.core.errors import DatasetError, UserError
from lorasmith.curation.images.image_file import (
    for_format,
    read_image_file,
    write_image_file,
)
from lorasmith.data.image_texts import generation_text

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def copy(source: Path, name: str, quality: int | None = None) -> Image.Image:
    """The file read and written again under another name, opened by Pillow."""
    target = source.with_name(name)
    write_image_file(read_image_file(source), target, quality)
    image = Image.open(target)
    image.load()
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_keeps_every_mode_and_pixel(tmp_path: Path, mode: str) -> None:
    image = Image.new("I;16", (9, 7), 40_000) if mode == "I;16" else RGB.convert(mode)
    image.save(tmp_path / "a.png")
    again = copy(tmp_path / "a.png", "b.png")
    assert again.mode == mode
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


def test_png_text_exif_xmp_profile_and_resolution(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "zorp\nSteps: 20")
    info.add_itxt("Title", "猫")
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "me"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    RGB.save(tmp_path / "a.png", pnginfo=info, exif=exif, icc_profile=icc, dpi=(300, 300))
    again = copy(tmp_path / "a.png", "b.png")
    assert again.text == {  # type: ignore[attr-defined]
        "parameters": "zorp\nSteps: 20",
        "Title": "猫",
        "XML:com.adobe.xmp": "<x/>",
    }
    assert again.getexif()[ExifTags.Base.Artist] == "me"
    assert again.info["icc_profile"] == icc
    assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_generation_text_moves_into_the_comment_of_a_jpeg(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "zorp, 猫\nSteps: 20")
    RGB.save(tmp_path / "a.png", pnginfo=info)
    assert generation_text(copy(tmp_path / "a.png", "a.jpg")) == "zorp, 猫\nSteps: 20"
    assert generation_text(copy(tmp_path / "a.png", "a.webp")) == "zorp, 猫\nSteps: 20"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_are_carried_out_once(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "camera"
    RGB.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as original:
        upright = ImageOps.exif_transpose(original)
    again = copy(tmp_path / "a.png", "b.png")
    np.testing.assert_array_equal(np.asarray(again), np.asarray(upright))
    assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert again.getexif()[ExifTags.Base.Make] == "camera"


def test_a_jpeg_keeps_its_tables_and_so_nearly_every_pixel(tmp_path: Path) -> None:
    soft = RGB.resize((9, 6)).resize((240, 160), Image.Resampling.BICUBIC)
    soft.save(tmp_path / "a.jpg", quality=70, subsampling=2)
    with Image.open(tmp_path / "a.jpg") as original:
        pixels = np.asarray(original).astype(int)
        tables = original.quantization  # type: ignore[attr-defined]
    again = copy(tmp_path / "a.jpg", "b.jpg")
    assert again.quantization == tables  # type: ignore[attr-defined]
    assert np.abs(np.asarray(again) - pixels).mean() < 0.1
    assert copy(tmp_path / "a.jpg", "c.jpg", 20).quantization != tables  # type: ignore[attr-defined]


def test_lossless_webp_stays_so(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.webp", lossless=True)
    again = copy(tmp_path / "a.webp", "b.webp")
    np.testing.assert_array_equal(np.asarray(again), np.asarray(RGB))


def test_transparent_parts_become_white_where_there_are_none(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 4, 8))
    image.save(tmp_path / "a.png")
    pixels = np.asarray(copy(tmp_path / "a.png", "a.bmp"))
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[0, 7].tolist() == [255, 255, 255]
    assert for_format(image, "WEBP").mode == "RGBA"


def test_a_profile_of_other_channels_is_left_behind(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    RGB.convert("CMYK").save(tmp_path / "a.jpg", icc_profile=icc)
    assert "icc_profile" not in copy(tmp_path / "a.jpg", "a.png").info


def test_damaged_exif_is_dropped(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert copy(tmp_path / "a.jpg", "b.jpg").size == (60, 40)


def test_the_thumbnail_in_exif_goes(tmp_path: Path) -> None:
    """It would show the picture as it was."""
    RGB.resize((16, 10)).save(tmp_path / "small.jpg")
    small = (tmp_path / "small.jpg").read_bytes()

    def directory(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
        rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)

    first, second = 8, 8 + 18
    exif = b"II*\0" + struct.pack("<I", first) + directory([(0x112, 3, 1, 6)], second)
    thumbnail = [(0x103, 3, 1, 6), (0x201, 4, 1, second + 42), (0x202, 4, 1, len(small))]
    exif += directory(thumbnail, 0) + small
    RGB.save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert small in (tmp_path / "a.jpg").read_bytes()
    assert copy(tmp_path / "a.jpg", "b.jpg").size == (40, 60)
    assert small not in (tmp_path / "b.jpg").read_bytes()


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"a\.png"):
        read_image_file(tmp_path / "a.png")
    RGB.save(tmp_path / "b.png")
    with pytest.raises(UserError, match="none"):
        write_image_file(read_image_file(tmp_path / "b.png"), tmp_path / "none" / "c.png")
