from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.data.layout import CACHE_FOLDER, FolderSpec, find_folders
from lorasmith.data.scan import Scan, scan

Save = Callable[..., Path]


def captions(found: Scan) -> dict[str, str | None]:
    return {image.path.name: image.caption for image in found.images}


def reasons(found: Scan) -> dict[str, str]:
    return {entry.path.name: entry.reason for entry in found.ignored}


@pytest.mark.parametrize(
    "name", ["a.png", "a.JPG", "a.jpeg", "a.WebP", "a.bmp", "ö ü.PNG", "one two.avif", "a.b.png"]
)
def test_formats_in_any_letter_case(tmp_path: Path, save: Save, name: str) -> None:
    save(tmp_path / name, 48, 32)
    (image,) = scan([FolderSpec(tmp_path)]).images
    assert (image.path.name, image.width, image.height) == (name, 48, 32)


def test_captions_txt_before_caption_before_the_folders_name(tmp_path: Path, save: Save) -> None:
    folder = tmp_path / "10_zorp girl"
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name)
    (folder / "a.txt").write_text("from txt")
    (folder / "a.caption").write_text("from caption")
    (folder / "b.CAPTION").write_text("other")
    found = scan(find_folders(tmp_path))
    assert captions(found) == {"a.png": "from txt", "b.png": "other", "c.png": "zorp girl"}
    assert found.images[2].caption_path is None
    assert reasons(found) == {"a.caption": "a.txt is used"}


@pytest.mark.parametrize("extension", [".caption", "caption", ".CAPTION"])
def test_a_chosen_extension(tmp_path: Path, save: Save, extension: str) -> None:
    save(tmp_path / "img" / "a.png", caption="from txt")
    save(tmp_path / "img" / "b.png", caption="from txt")
    (tmp_path / "img" / "b.caption").write_text("chosen")
    found = scan([FolderSpec(tmp_path / "img")], extension=extension)
    assert captions(found) == {"a.png": None, "b.png": "chosen"}
    # The commonest way to train with no captions at all, so it is said loudly.
    assert any("1 picture has captions, but not in" in w.what for w in found.warnings)


def test_an_empty_caption_is_none_and_said(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "zorp" / "a.png", caption=" \n")
    found = scan([FolderSpec(tmp_path / "zorp")])
    assert captions(found) == {"a.png": "zorp"}
    assert "empty" in found.warnings[0].what


def test_decomposed_file_names_find_their_captions(tmp_path: Path, save: Save) -> None:
    save(tmp_path / unicodedata.normalize("NFD", "é.png"))
    (tmp_path / unicodedata.normalize("NFC", "é.txt")).write_text("found")
    (image,) = scan([FolderSpec(tmp_path)]).images
    assert image.caption == "found"


def test_every_file_left_out_has_a_reason(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", caption="x")
    for name in (".DS_Store", "b.gif", "notes.md", "alone.txt", "a.npz"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "inner").mkdir()
    save(tmp_path / CACHE_FOLDER / "c.png")
    found = scan([FolderSpec(tmp_path)])
    assert reasons(found) == {
        ".DS_Store": "a hidden file",
        "b.gif": ".gif is not read; convert it to PNG",
        "notes.md": "not a picture",
        "alone.txt": "a caption, no picture",
        "a.npz": "not a picture",
        "inner": "a folder within a folder of pictures",
    }
    assert len(found.images) == 1


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "b.png", "c.webp"):
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
    assert {(p.width, p.height) for p in scan([FolderSpec(tmp_path)]).images} == {(20, 40)}


def test_alpha_is_seen(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20)).save(tmp_path / "a.png")
    Image.new("P", (20, 20)).save(tmp_path / "b.png", transparency=0)
    Image.new("RGB", (20, 20)).save(tmp_path / "c.png")
    assert [p.has_alpha for p in scan([FolderSpec(tmp_path)]).images] == [True, True, False]


def test_the_order_is_natural(tmp_path: Path, save: Save) -> None:
    for number in (10, 9, 1, 100):
        save(tmp_path / f"p{number}.png")
    names = [image.path.name for image in scan([FolderSpec(tmp_path)]).images]
    assert names == ["p1.png", "p9.png", "p10.png", "p100.png"]


def test_missing_folders_are_reported_together(tmp_path: Path) -> None:
    found = scan([FolderSpec(tmp_path / "no"), FolderSpec(tmp_path / "neither")])
    assert [problem.where for problem in found.problems] == [
        str(tmp_path / "no"), str(tmp_path / "neither"),
    ]  # fmt: skip


def test_only_regularisation_images_are_no_dataset(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1_r" / "a.png")
    found = scan([FolderSpec(tmp_path / "1_r", reg=True)])
    assert "empty" in found.problems[0].what
