"""Every kind of bad input in a dataset: said clearly, of the right weight, and nothing escapes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.curation.check.check import CheckReport, check_dataset
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan

Make = Callable[[Path], object]


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, channels), dtype=np.uint8))


def encoded(path: Path, width: int = 64, height: int = 64) -> bytes:
    noise(width, height).save(path)
    return path.read_bytes()


def cut(name: str, share: float) -> Make:
    def make(folder: Path) -> None:
        data = encoded(folder / name)
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return make


def write(name: str, data: bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(data)


def save(name: str, width: int, height: int, channels: int = 3) -> Make:
    return lambda folder: noise(width, height, channels).save(folder / name)


def captioned(data: bytes) -> Make:
    def make(folder: Path) -> None:
        noise(64, 64).save(folder / "bad.png")
        (folder / "bad.txt").write_bytes(data)

    return make


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def bomb(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(90001 * 100))
    chunks = (b"IHDR", header), (b"IDAT", body), (b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, part) for kind, part in chunks)
    (folder / "bad.png").write_bytes(data)


def short_bomb(folder: Path) -> None:
    """122 bytes that are decoded, in a second, into half a gigabyte."""
    frame = bytes.fromhex("b004009d012a18f02433") + bytes(90)
    chunk = b"VP8 " + struct.pack("<I", len(frame)) + frame
    (folder / "bad.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)


def flipped_bits(folder: Path) -> None:
    data = bytearray(encoded(folder / "bad.png"))
    data[len(data) // 2] ^= 0xFF
    (folder / "bad.png").write_bytes(data)


def broken_exif(folder: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\xff\xff\xff\xff"
    noise(64, 64).save(folder / "bad.jpg", exif=exif)


def strange_orientation(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    noise(64, 64).save(folder / "bad.jpg", exif=exif)


def unreadable(folder: Path) -> None:
    encoded(folder / "bad.png")
    (folder / "bad.png").chmod(0)
    if os.access(folder / "bad.png", os.R_OK):
        pytest.skip("root may read everything; see test_permission_denied")


def animation(folder: Path) -> None:
    frames = [noise(64, 64), noise(64, 65).resize((64, 64))]
    frames[0].save(folder / "bad.webp", save_all=True, append_images=frames[1:])


def shared_stem(folder: Path) -> None:
    noise(64, 65).save(folder / "bad.png")
    noise(64, 66).save(folder / "bad.jpg")


def copied(folder: Path) -> None:
    noise(80, 64).save(folder / "bad.png")
    noise(80, 64).resize((160, 128)).save(folder / "bad too.jpg", quality=95)


def link_to_itself(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "bad.png")


def link_to_nothing(folder: Path) -> None:
    (folder / "bad.png").symlink_to(folder / "gone.png")


def folder_called_png(folder: Path) -> None:
    (folder / "bad.png").mkdir()


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad.png")


def check(folder: Path) -> CheckReport:
    found = scan(find_folders(folder))
    return check_dataset(found, build_dataset(found, plan_buckets(64, 64)), count_tokens=len)


def text(problems: tuple[Problem, ...]) -> str:
    return "\n".join(str(problem) for problem in problems)


ERRORS: dict[str, tuple[Make, str]] = {
    "truncated PNG": (cut("bad.png", 0.6), "truncated"),
    "truncated JPEG": (cut("bad.jpg", 0.6), "truncated"),
    "truncated WebP": (cut("bad.webp", 0.6), "bad.webp"),
    "truncated BMP": (cut("bad.bmp", 0.6), "truncated"),
    "truncated AVIF": (cut("bad.avif", 0.6), "bad.avif"),
    "PNG cut in its header": (cut("bad.png", 0.001), "not a picture"),
    "text named .png": (write("bad.png", b"hello, world\n"), "text, not a picture"),
    "web page named .jpg": (write("bad.jpg", b"<!DOCTYPE html><html>"), "web page"),
    "Git LFS pointer": (write("bad.png", b"version https://git-lfs.github.com/spec/v1"), "LFS"),
    "0 bytes": (write("bad.png", b""), "empty (0 bytes)"),
    "zeros": (write("bad.png", bytes(5000)), "not a picture"),
    "executable named .jpg": (write("bad.jpg", b"\x7fELF\x02\x01\x01\0" * 9), "not a picture"),
    "flipped bits": (flipped_bits, "damaged"),
    "1x1": (save("bad.png", 1, 1), "1x1"),
    "20000x10": (save("bad.png", 20000, 10), "20000x10"),
    "decompression bomb": (bomb, "megapixels"),
    "short decompression bomb": (short_bomb, "megapixels"),
    "symbolic link to itself": (link_to_itself, "leads back to itself"),
    "symbolic link to nothing": (link_to_nothing, "symbolic link to nothing"),
    "unreadable": (unreadable, "permission denied"),
}

WARNINGS: dict[str, tuple[Make, str]] = {
    "damaged EXIF": (broken_exif, "EXIF"),
    "EXIF orientation 77": (strange_orientation, "orientation 77"),
    "very long": (save("bad.png", 2000, 64), "cut off"),
    "tiny": (save("bad.png", 20, 20), "and enlarged more than twice"),
    "animation": (animation, "animation of 2 frames"),
    "caption in Windows-1252": (captioned("café".encode("cp1252")), "Windows-1252"),
    "caption of zero bytes": (captioned(b""), "caption file is empty"),
    "caption of blanks": (captioned(b" \r\n\t"), "caption file is empty"),
    "binary caption": (captioned(bytes(range(256))), "not a text file"),
    "caption of several lines": (captioned(b"one\ntwo"), "several lines"),
    "caption too long": (captioned(b"word " * 40), "longer than 75 tokens"),
    "no caption": (save("bad.png", 64, 64), "no caption"),
    "transparent": (save("bad.png", 64, 64, 4), "transparent"),
    "shared stem": (shared_stem, "bad.jpg and bad.png"),
    "nearly the same": (copied, "nearly the same"),
    "GIF": (write("bad.gif", b"GIF89a"), "convert it to PNG"),
}

IGNORED: dict[str, tuple[Make, str]] = {
    "folder named .png": (folder_called_png, "a folder"),
    "named pipe": (pipe, "not a regular file"),
    "hidden file": (write("._bad.png", b"\0\5\x16\7"), "hidden"),
    "JPEG XL without its plugin": (write("bad.jxl", b"\xff\x0a"), "cannot read .jxl"),
    "archive": (write("bad.zip", b"PK\3\4"), "not a picture"),
}

FINE: dict[str, Make] = {
    "caption with a BOM": captioned("\ufeffcafé".encode()),
    "caption in UTF-16": captioned("café".encode("utf-16")),
    "spaces and umlauts": save("ä picture (1).PNG", 64, 64),
    "1-bit": lambda folder: noise(64, 64).convert("1").save(folder / "bad.png"),
    "CMYK": lambda folder: noise(64, 64).convert("CMYK").save(folder / "bad.jpg"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good image."""
    folder = tmp_path / "3_zorp girl"
    folder.mkdir()
    noise(64, 67).save(folder / "good.png")
    (folder / "good.txt").write_text("zorp girl, hat")
    return folder


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind: str, folder: Path) -> None:
    make, expected = ERRORS[kind]
    make(folder)
    report = check(folder)
    assert len(report.errors) == 1, text(report.errors)
    (problem,) = report.errors
    assert expected in problem.what or expected in problem.where
    assert "bad" in problem.where
    assert problem.hint
    assert "Traceback" not in str(problem)
    with pytest.raises(DatasetError):
        report.require_usable()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", WARNINGS)
def test_warnings(kind: str, folder: Path) -> None:
    make, expected = WARNINGS[kind]
    make(folder)
    report = check(folder)
    assert not report.errors, text(report.errors)
    assert expected in text(report.warnings)


@pytest.mark.parametrize("kind", IGNORED)
def test_ignored(kind: str, folder: Path) -> None:
    make, expected = IGNORED[kind]
    make(folder)
    report = check(folder)
    assert not report.errors, text(report.errors)
    assert any("bad" in e.path.name and expected in e.reason for e in report.ignored)


@pytest.mark.parametrize("kind", FINE)
def test_fine(kind: str, folder: Path) -> None:
    FINE[kind](folder)
    report = check(folder)
    assert not report.errors, text(report.errors)
    assert len(report.pictures) == 2
    assert not any("caption file" in w.what or "UTF" in w.what for w in report.warnings)


def test_all_at_once_are_all_reported(folder: Path) -> None:
    for number, make in enumerate((cut("bad.png", 0.5), write("bad.jpg", b""))):
        make(folder)
        (folder / f"bad{number}").mkdir()
    assert len(check(folder).errors) == 2


def test_permission_denied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(64, 64).save(folder / "bad.png")

    def refuse(path: Path, *args: object) -> object:
        if "bad" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *args)  # type: ignore[call-overload]

    monkeypatch.setattr("lorasmith.data.images.open", refuse, raising=False)
    (problem,) = check(folder).errors
    assert "permission denied" in problem.what


def test_a_dataset_of_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "1_a").mkdir()
    (tmp_path / "1_a" / "a.png").write_bytes(b"")
    report = check(tmp_path)
    assert any("0 bytes" in problem.what for problem in report.errors)
    assert report.steps.total == 0
