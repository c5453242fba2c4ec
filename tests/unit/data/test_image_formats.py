"""Which formats Pillow may read for us, wherever an image is opened, and how much at a time."""

from __future__ import annotations

import ast
import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from lorasmith.core.errors import DatasetError, PromptError, UserError
from lorasmith.data import images as images
from lorasmith.data.decode_memory import MOST_DECODED, DecodeMemory, decoded_bytes
from lorasmith.data.images import (
    glance,
    load_alpha,
    load_image,
    open_image,
    read_header,
)
from lorasmith.data.scan import scan
from lorasmith.lora_tools.inspect.thumbnail import preview_url
from lorasmith.sampling.infotext import require_infotext

ROOT = Path(__file__).parents[3]

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
%%EndComments
(started) (w) file closefile
%%EOF
"""


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    image.convert("P" if kind in ("PCX",) else "RGB").save(buffer, kind)
    return buffer.getvalue()


def fli() -> bytes:
    return struct.pack("<IHHHHHH", 200, 0xAF12, 1, 64, 64, 8, 3) + bytes(112) + bytes(200)


OTHERS = {
    "EPS": EPS,
    "EPS with a preview": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS,
    "PDF": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    "PSD": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 64, 64, 8, 3) + bytes(12) + bytes(64 * 64 * 3),
    "GBR": struct.pack(">II", 28, 2) + struct.pack(">III", 64, 64, 1) + b"GIMP" + bytes(4 + 4096),
    "FLI": fli(),
    "XBM": b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = { 0x00 };\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>",
    "WMF": struct.pack("<IH4hH6x", 0x9AC6CDD7, 0, 0, 0, 64, 64, 72) + bytes(40),
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    **{kind: saved(kind) for kind in ("PPM", "TGA", "PCX", "ICO", "SGI", "IM", "DDS", "ICNS")},
}  # fmt: skip


@pytest.fixture
def no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every program that would be started."""
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: started.append(args))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **kw: started.append(args))
    return started


def readers(path: Path) -> dict[str, object]:
    return {
        "header": lambda: read_header(path),
        "whole": lambda: load_image(path),
        "alpha": lambda: load_alpha(path),
        "glance": lambda: glance(path),
        "preview": lambda: preview_url(path),
        "infotext": lambda: require_infotext(path),
    }


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_refused_whatever_they_are_called(
    tmp_path: Path, no_ghostscript: list[object], kind: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(OTHERS[kind])
    for read in readers(path).values():
        with pytest.raises((DatasetError, UserError, PromptError)) as caught:
            read()
        (problem,) = caught.value.problems
        assert name in problem.where
        assert problem.hint
    assert not no_ghostscript
    assert not (tmp_path / "started").exists()


def test_the_other_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for kind, word in {"EPS": "PostScript", "PDF": "PDF", "PSD": "Photoshop", "SVG": "SVG"}.items():
        path.write_bytes(OTHERS[kind])
        with pytest.raises(DatasetError, match=word):
            load_image(path)


def test_a_dataset_and_its_masks_are_read_so_too(
    tmp_path: Path, no_ghostscript: list[object]
) -> None:
    from lorasmith.data.layout import find_folders

    folder = tmp_path / "1_cat"
    folder.mkdir()
    (folder / "a.png").write_bytes(EPS)
    (folder / "a.txt").write_text("cat")
    found = scan(find_folders(tmp_path))
    assert any("PostScript" in str(problem) for problem in found.problems)
    assert not no_ghostscript


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_what_is_read_is_still_read(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    (tmp_path / "a.png").write_bytes(saved(kind))
    assert load_image(tmp_path / "a.png").size == (64, 64)


def test_a_cameras_two_images_in_one_jpeg_are_read(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (32, 24), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    red, _, blue = load_image(tmp_path / "a.jpg").getpixel((5, 5))
    assert red > 200 > 50 > blue


def openings(tree: ast.Module) -> list[str]:
    """What in a module would let Pillow choose a plugin."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("open", "ImageFile", "verify"):
            owner = ast.unparse(node.value)
            if owner.endswith(("Image", "PIL")) and node.attr == "open":
                found.append(f"{node.lineno}: {owner}.open")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("PIL"):
            names = {alias.name for alias in node.names}
            odd = {n for n in names if n in ("open", "ImageFile") or n.endswith("ImageFile")}
            found += [f"{node.lineno}: {name}" for name in odd]
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lorasmith"):
            names = {alias.name for alias in node.names}
            found += [f"{node.lineno}: {node.module}'s" for name in names if name == "load_image"]
        if isinstance(node, ast.Attribute) and node.attr == "LOAD_TRUNCATED_IMAGES":
            found.append(f"{node.lineno}: LOAD_TRUNCATED_IMAGES")
    return found


@pytest.mark.slow
def test_nothing_else_opens_images() -> None:
    places = {
        path.relative_to(ROOT).as_posix(): openings(ast.parse(path.read_text(encoding="utf-8")))
        for folder in ("src", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
    }
    found = {path: lines for path, lines in places.items() if lines}
    assert set(found) == {"src/lorasmith/data/images.py"}
    assert len(found["src/lorasmith/data/images.py"]) == 1


def test_the_formats_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    given: list[Any] = []
    real = Image.open
    monkeypatch.setattr(
        Image, "open", lambda file, **kw: given.append(kw["formats"]) or real(file, **kw)
    )
    with open_image(tmp_path / "a.png") as image:
        assert image.size == (64, 64)
    assert set(given[0]) <= {"PNG", "JPEG", "WEBP", "BMP", "AVIF", "JXL", "TIFF", "GIF"}


# How much is decoded at a time


def flat_png(path: Path, side: int, kind: int = 2) -> None:
    """A few kilobytes that are ``side * side`` pixels."""
    row = bytes(1 + side * {2: 3, 6: 4}[kind])
    packer = zlib.compressobj()
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0)),
        (b"IDAT", body),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n"
    for name, part in chunks:
        data += struct.pack(">I", len(part)) + name + part
        data += struct.pack(">I", zlib.crc32(name + part))
    path.write_bytes(data)


def test_threads_together_stay_below_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat_png(tmp_path / "a.png", 600)
    one = 600 * 600 * 12
    limited = DecodeMemory(3 * one + 1)
    monkeypatch.setattr(images, "decode_memory", limited)
    together, most = 0, 0
    lock = threading.Lock()
    real = images.to_rgb

    def counted(image, background):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        try:
            return real(image, background)
        finally:
            with lock:
                together -= 1

    monkeypatch.setattr(images, "to_rgb", counted)
    with ThreadPoolExecutor(12) as pool:
        sizes = list(pool.map(lambda _: load_image(tmp_path / "a.png").size, range(40)))
    assert sizes == [(600, 600)] * 40
    assert 1 <= most <= 3
    assert 0 < limited.most <= limited.limit
    assert limited.used == 0


def test_an_image_above_the_limit_is_decoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat_png(tmp_path / "a.png", 300, kind=6)
    limited = DecodeMemory(1000)
    monkeypatch.setattr(images, "decode_memory", limited)
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(lambda _: glance(tmp_path / "a.png"), range(12)))) == 12
    assert limited.most == 300 * 300 * 28
    assert limited.used == 0


def test_a_damaged_image_gives_its_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat_png(tmp_path / "a.png", 300)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    limited = DecodeMemory(1000)
    monkeypatch.setattr(images, "decode_memory", limited)
    with pytest.raises(DatasetError):
        load_image(tmp_path / "a.png")
    assert limited.used == 0


def test_the_estimate_covers_what_pillow_keeps(tmp_path: Path) -> None:
    """Pillow says itself how many bytes its blocks hold; RGB has four of them a pixel."""
    flat_png(tmp_path / "a.png", 500)
    with open_image(tmp_path / "a.png") as image:
        assert decoded_bytes(image) >= 500 * 500 * 4
    assert MOST_DECODED < 4 << 30
