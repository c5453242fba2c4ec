"""Colours and modes as Pillow's own ImageCms and the formats' definitions have them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from lorasmith.curation.images.convert import is_srgb, normalised, oddities, to_srgb
from lorasmith.curation.images.image_file import ImageFile, read_image_file

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def wide_profile() -> bytes:
    """sRGB's profile with red and green exchanged, and a name of its own: the same format, other
    colours."""
    data = bytearray(SRGB.tobytes())
    table = {
        bytes(data[at : at + 4]): at
        for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)
    }
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    offsets = data[red + 4 : red + 8], data[green + 4 : green + 8]
    data[red + 4 : red + 8], data[green + 4 : green + 8] = offsets[1], offsets[0]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "zorp".encode("utf-16-be"))


def test_colours_of_a_profile_are_those_of_imagecms() -> None:
    icc = wide_profile()
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    expected = ImageCms.profileToProfile(RGB, profile, SRGB, outputMode="RGB")
    assert expected is not None
    ours = np.asarray(to_srgb(RGB, icc)).astype(int)
    np.testing.assert_array_equal(ours, np.asarray(expected))
    # Red and green are exchanged, as we made it.
    assert np.abs(ours - np.asarray(RGB)[..., [1, 0, 2]]).max() <= 3
    layer = RGB.copy()
    layer.putalpha(77)
    with_alpha = np.asarray(to_srgb(layer, icc))
    np.testing.assert_array_equal(with_alpha[..., :3], ours)
    assert (with_alpha[..., 3] == 77).all()


def test_srgb_and_nonsense_change_nothing() -> None:
    assert is_srgb(SRGB.tobytes())
    assert not is_srgb(wide_profile())
    for icc in (SRGB.tobytes(), b"nonsense", b"", None):
        assert to_srgb(RGB, icc) is RGB
    grey = RGB.convert("L")  # a profile of three channels does not fit
    np.testing.assert_array_equal(np.asarray(to_srgb(grey, wide_profile())), np.asarray(grey))


def file_of(image: Image.Image, icc: bytes | None = None) -> ImageFile:
    return ImageFile(image, "PNG", Image.Exif(), icc=icc)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (RGB, RGB),
        (RGB.convert("CMYK"), RGB),
        (RGB.convert("L"), RGB.convert("L").convert("RGB")),
        (RGB.quantize(16), RGB.quantize(16).convert("RGB")),
        (Image.new("I;16", (4, 4), 32_896), Image.new("RGB", (4, 4), (128, 128, 128))),
        (Image.new("LA", (4, 4), (90, 255)), Image.new("RGBA", (4, 4), (90, 90, 90, 255))),
    ],
    ids=lambda image: image.mode,
)
def test_modes_become_rgb(image: Image.Image, expected: Image.Image) -> None:
    result = normalised(file_of(image)).image
    assert result.mode == expected.mode
    np.testing.assert_allclose(np.asarray(result, int), np.asarray(expected, int), atol=1)


def test_transparency_stays_or_gets_a_ground() -> None:
    layer = Image.new("RGBA", (4, 4), (0, 0, 0, 51))  # a fifth black
    assert normalised(file_of(layer)).image.mode == "RGBA"
    on_white = normalised(file_of(layer), (255, 255, 255)).image
    assert on_white.mode == "RGB"
    assert on_white.getpixel((0, 0)) == (204, 204, 204)
    palette = RGB.quantize(8)
    palette.info["transparency"] = 0
    assert normalised(file_of(palette)).image.mode == "RGBA"


def test_the_profile_goes_with_its_colours() -> None:
    assert normalised(file_of(RGB, wide_profile())).icc is None


def test_oddities_are_told_from_the_header(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    RGB.save(tmp_path / "plain.png")
    RGB.save(tmp_path / "turned.jpg", exif=exif)
    RGB.convert("CMYK").save(tmp_path / "cmyk.jpg")
    RGB.quantize(8).save(tmp_path / "palette.png")
    RGB.save(tmp_path / "profile.png", icc_profile=wide_profile())
    RGB.save(tmp_path / "srgb.png", icc_profile=SRGB.tobytes())
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    RGB.save(tmp_path / "film.gif", save_all=True, append_images=[RGB.transpose(0)])
    reasons = {path.name: oddities(path).reasons for path in tmp_path.iterdir()}
    assert reasons == {
        "plain.png": (),
        "turned.jpg": ("turned by EXIF",),
        "cmyk.jpg": ("CMYK",),
        "palette.png": ("in a palette",),
        "profile.png": ("in another colour profile",),
        "srgb.png": (),
        "deep.png": ("of 16 bits",),
        "film.gif": ("in a palette",),
    }
    assert oddities(tmp_path / "film.gif").frames == 2
    second = read_image_file(tmp_path / "film.gif", 1).image.convert("RGB")
    with Image.open(tmp_path / "film.gif") as film:
        film.seek(1)
        np.testing.assert_array_equal(np.asarray(second), np.asarray(film.convert("RGB")))


def test_sixteen_bits_in_colours_are_told(tmp_path: Path) -> None:
    """A PNG with 16 bits to a channel, written by hand: Pillow writes none."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 65535, 0, 257 * 128, 0, 65535, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row))
    (tmp_path / "a.png").write_bytes(data + chunk(b"IEND", b""))
    assert oddities(tmp_path / "a.png").reasons == ("of 16 bits",)
    image = normalised(read_image_file(tmp_path / "a.png")).image
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 128), (0, 255, 0)]
