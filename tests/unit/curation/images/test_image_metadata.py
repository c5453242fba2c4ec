"""Captions and other metadata in image files; the pixels' own bytes are never touched."""

from __future__ import annotations

import io
import struct
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorasmith.curation.images.image_metadata import (
    copied,
    embed_caption,
    embedded_caption,
    exif_description,
    exif_orientation,
    read_metadata,
    with_exif_entry,
    with_xmp_description,
    xmp_description,
)
from lorasmith.data.image_texts import generation_text

CAPTION = 'zorp, <red & "blue"> hat, é 帽子'


def image(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.linear_gradient("L").resize((31, 21)).convert(mode)
    picture.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def pixel_bytes(data: bytes) -> bytes:
    """What is compressed of the pixels."""
    if data[1:4] == b"PNG":
        return data[data.index(b"IDAT") :]
    if data[:2] == b"\xff\xd8":
        return data[data.index(b"\xff\xda") :]
    place = data.index(b"VP8", 12 if data[12:16] != b"VP8X" else 30)
    (length,) = struct.unpack_from("<I", data, place + 4)
    return data[place : place + 8 + length]


def exif_of_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0\0h\0i"
    return exif


FILES = {
    "png": image("PNG"),
    "png of a palette": image("PNG", "P"),
    "png with text": image("PNG", pnginfo=PngInfo()),
    "jpeg": image("JPEG"),
    "jpeg of a camera": image("JPEG", exif=exif_of_camera(), comment=b"hello"),
    "progressive jpeg": image("JPEG", progressive=True),
    "webp": image("WEBP"),
    "lossless webp": image("WEBP", lossless=True),
    "transparent webp": image("WEBP", "RGBA", lossless=True),
    "extended webp": image("WEBP", exif=exif_of_camera()),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_caption_in_a_file(data: bytes) -> None:
    new = embed_caption(data, CAPTION)
    assert embedded_caption(new) == CAPTION
    assert pixel_bytes(new) == pixel_bytes(data)
    before, after = opened(data), opened(new)
    assert (before.mode, before.size) == (after.mode, after.size)
    assert before.tobytes() == after.tobytes()
    # Where other programs look: Pillow takes EXIF's texts for Latin-1.
    assert after.getexif()[0x010E].encode("latin-1").decode() == CAPTION
    assert escape(CAPTION).encode() in after.info["xmp"]
    if after.format == "PNG":
        assert after.info["Description"] == CAPTION


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_doing_it_again_changes_nothing(data: bytes) -> None:
    once = embed_caption(data, CAPTION)
    assert embed_caption(once, CAPTION) == once
    other = embed_caption(once, "a cat")
    assert embedded_caption(other) == "a cat"
    assert pixel_bytes(other) == pixel_bytes(data)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_what_follows_the_image_stays(name: str) -> None:
    new = embed_caption(FILES[name] + b"behind", CAPTION)
    assert new.endswith(b"behind")
    assert embedded_caption(new) == CAPTION


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_any_text(text: str) -> None:
    text = text.strip()
    for name in ("png", "jpeg", "webp"):
        new = embed_caption(FILES[name], text)
        assert embedded_caption(new) == text
        assert xmp_description(read_metadata(new).xmp) == text


def test_what_was_there_stays() -> None:
    new = embed_caption(FILES["jpeg of a camera"], CAPTION)
    picture = opened(new)
    exif = picture.getexif()
    assert exif[0x010F] == "a camera"
    assert exif[0x0112] == 6
    assert exif.get_ifd(0x8769)[0x9286] == b"UNICODE\0\0h\0i"
    assert picture.info["comment"] == b"hello"


def test_other_text_of_a_png_stays() -> None:
    info = PngInfo()
    info.add_text("parameters", "a prompt\nSteps: 20")
    info.add_text("Description", "old", zip=True)
    new = opened(embed_caption(image("PNG", pnginfo=info), CAPTION))
    assert new.info["parameters"] == "a prompt\nSteps: 20"
    assert new.info["Description"] == CAPTION


@pytest.mark.parametrize("order", ["II*\0", "MM\0*"])
def test_exif_of_both_byte_orders(order: str) -> None:
    start = "<" if order[0] == "I" else ">"
    block = order.encode() + struct.pack(f"{start}IHHHI", 8, 1, 0x0112, 3, 1)
    block += struct.pack(f"{start}HH", 8, 0) + bytes(4)
    new = with_exif_entry(block, 0x010E, 2, b"a long text\0")
    assert exif_description(new) == "a long text"
    assert exif_orientation(new) == 8
    assert new[8 : len(block)] == block[8:]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + new)
    assert exif[0x010E] == "a long text"


def test_another_packet_keeps_its_parts() -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="3">'
        "<dc:description><rdf:Alt><rdf:li>old</rdf:li></rdf:Alt></dc:description>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    new = with_xmp_description(packet.encode(), "new <x>").decode()
    assert xmp_description(new.encode()) == "new <x>"
    assert new.startswith(packet[:70])
    assert "old" not in new
    with pytest.raises(ValueError, match="XMP"):
        with_xmp_description(b"<html/>", "x")


def test_metadata_is_copied_from_format_to_format() -> None:
    info = PngInfo()
    info.add_text("parameters", "a prompt")
    source = image("PNG", pnginfo=info, exif=exif_of_camera())
    plain = image("PNG", pnginfo=info)
    for name in ("png", "jpeg", "webp"):
        new = copied(source, FILES[name])
        assert pixel_bytes(new) == pixel_bytes(FILES[name])
        exif = opened(new).getexif()
        assert exif[0x010F] == "a camera"
        # The copy's pixels are upright already.
        assert exif[0x0112] == 1
        assert generation_text(opened(copied(plain, FILES[name]))) == "a prompt"


@pytest.mark.parametrize("data", [b"", b"GIF89a", FILES["png"][:40], FILES["jpeg"][:50]])
def test_what_is_no_such_file(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is"):
        embed_caption(data, "x")


def test_a_jpeg_has_limits() -> None:
    with pytest.raises(ValueError, match="at most"):
        embed_caption(FILES["jpeg"], "x" * 70_000)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=8), st.integers(0, 400))
def test_damage_is_told(name: str, noise: bytes, place: int) -> None:
    data = bytearray(FILES[name])
    data[place : place + len(noise)] = noise
    try:
        embed_caption(bytes(data), CAPTION)
    except ValueError as error:
        assert str(error)  # noqa: PT017
