"""Rules about images, each on images that have its fault and on images that have not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from tests.audits import MakeDataset, audit_rule, captioned, faultless, inputs_of

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.finding import Finding
from lorasmith.advice.audit_rules.copy_rules import COPY_RULES
from lorasmith.advice.audit_rules.image_rules import IMAGE_RULES, trim
from lorasmith.curation.changes.journal import Journal

SIZE = (256, 256)
AT = "data.resolution=256"
RULES = [rule for rule in (*COPY_RULES, *IMAGE_RULES) if rule.id != "in-regularisation"]
TWO = ("same-file", "near-duplicates", "mirrored-copies", "cropped-copies")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of ten faultless images."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(10):
        faultless(number, SIZE).save(folder / f"{number}.png")
    return folder


def mixed(image: Image.Image, with_: int, share: float) -> Image.Image:
    values = np.asarray(image, np.float64) * (1 - share) + with_ * share
    return Image.fromarray(values.astype(np.uint8))


def bars(image: Image.Image) -> Image.Image:
    wide = Image.new("RGB", (256, 320))
    wide.paste(image, (0, 32))
    return wide


def turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)


def animation(image: Image.Image, path: Path) -> None:
    image.save(path, save_all=True, append_images=[faultless(99, SIZE)])


Plant = Callable[[Image.Image, Path], object]
PLANTS: dict[str, tuple[str, Plant]] = {
    "same-file": ("c.png", lambda image, path: shutil.copy(path.with_name("3.png"), path)),
    "near-duplicates": (
        "c.jpg",
        lambda image, path: Image.open(path.with_name("3.png")).resize((200, 200)).save(path),
    ),
    "mirrored-copies": (
        "c.png",
        lambda image, path: ImageOps.mirror(Image.open(path.with_name("3.png"))).save(path),
    ),
    "cropped-copies": (
        "c.png",
        lambda image, path: (
            Image.open(path.with_name("3.png")).crop((8, 14, 240, 246)).resize(SIZE).save(path)
        ),
    ),
    "unreadable": ("c.png", lambda image, path: path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")),
    "blurred": ("c.png", lambda image, path: image.filter(ImageFilter.GaussianBlur(3)).save(path)),
    "heavy-jpeg": ("c.jpg", lambda image, path: image.save(path, quality=20)),
    "dark": ("c.png", lambda image, path: ImageEnhance.Brightness(image).enhance(0.15).save(path)),
    "light": ("c.png", lambda image, path: mixed(image, 255, 0.8).save(path)),
    "blank": ("c.png", lambda image, path: Image.new("RGB", SIZE, "teal").save(path)),
    "grey": ("c.png", lambda image, path: image.convert("L").save(path)),
    "borders": ("c.png", lambda image, path: bars(image).save(path)),
    "transparent": (
        "c.png",
        lambda image, path: (image.putalpha(Image.linear_gradient("L")), image.save(path)),
    ),
    "file-oddities": ("c.jpg", turned),
    "animation": ("c.webp", animation),
}


def test_nothing_is_found_where_nothing_is_wrong(images: Path) -> None:
    assert audit_dataset(inputs_of(images, AT), rules=RULES).findings == ()


def test_each_rule_is_tried() -> None:
    assert PLANTS.keys() == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", PLANTS)
def test_the_image_with_the_fault_is_found_alone(images: Path, rule: str) -> None:
    name, plant = PLANTS[rule]
    plant(faultless(50, SIZE), images / name)
    (finding,) = audit_rule(rule, images, AT)
    assert images / name in finding.images
    assert len(finding.images) == (2 if rule in TWO else 1)


@pytest.mark.parametrize("rule", [rule.id for rule in RULES if rule.fix is not None])
def test_the_fix_mends_it_and_undo_restores_every_byte(images: Path, rule: str) -> None:
    name, plant = PLANTS[rule]
    plant(faultless(50, SIZE), images / name)
    (images / "c.txt").write_text("zorp")
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    inputs = inputs_of(images, AT)
    (row,) = [row for row in RULES if row.id == rule]
    findings = audit_dataset(inputs, rules=[row]).findings
    assert row.fix is not None
    row.fix(inputs, findings).apply()
    assert audit_rule(rule, images, AT) == []
    with Journal(images) as journal:
        journal.undo(1)
    after = {path.name: path.read_bytes() for path in images.iterdir() if path.is_file()}
    assert after == before


def test_a_copy_that_goes_leaves_the_caption_that_both_share(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": "zorp"})
    Image.open(folder / "a.png").save(folder / "a.webp", lossless=True)
    inputs = inputs_of(folder)
    (row,) = [row for row in RULES if row.id == "near-duplicates"]
    (finding,) = audit_dataset(inputs, rules=[row]).findings
    assert row.fix is not None
    row.fix(inputs, [finding]).apply()
    assert (folder / "a.txt").read_text() == "zorp"


def test_a_style_that_is_soft_all_over_is_no_fault(images: Path) -> None:
    for path in images.iterdir():
        Image.open(path).filter(ImageFilter.GaussianBlur(0.7)).save(path)
    assert audit_rule("blurred", images) == []


def test_jpegs_that_are_shrunk_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    faultless(1, (256, 256)).save(tmp_path / "set" / "a.jpg", quality=20)
    assert audit_rule("heavy-jpeg", tmp_path / "set") == []
    assert len(audit_rule("heavy-jpeg", tmp_path / "set", AT)) == 1


def test_the_worst_jpegs_show_at_half_their_size(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    faultless(1, (128, 128)).save(tmp_path / "set" / "a.jpg", quality=20)
    faultless(2, (128, 128)).save(tmp_path / "set" / "b.jpg", quality=40)
    (finding,) = audit_rule("heavy-jpeg", tmp_path / "set")
    assert [path.name for path in finding.images] == ["a.jpg"]


def test_something_sharp_below_a_soft_sky_is_not_blurred(images: Path) -> None:
    sky = Image.linear_gradient("L").convert("RGB")
    sky.paste(faultless(50, (24, 24)), (100, 108))
    sky.save(images / "c.png")
    assert audit_rule("blurred", images, AT) == []


def test_what_is_dark_or_light_is_not_called_empty(images: Path) -> None:
    for name, low, high in [("dark", 0, 25), ("light", 230, 255)]:
        values = np.asarray(Image.radial_gradient("L"), np.float64) / 255 * (high - low) + low
        Image.fromarray(values.astype(np.uint8)).convert("RGB").save(images / f"{name}.png")
        (finding,) = audit_rule(name, images, AT)
        assert [path.stem for path in finding.images] == [name]
    assert audit_rule("blank", images, AT) == []


def test_many_greys_are_a_style(images: Path) -> None:
    for number in range(3):
        faultless(60 + number, SIZE).convert("L").save(images / f"grey{number}.png")
    assert audit_rule("grey", images) == []


def test_a_recorded_crop_leaves_bars_out(images: Path) -> None:
    bars(faultless(50, SIZE)).save(images / "c.png")
    assert len(audit_rule("borders", images)) == 1
    (images / "c.crop.json").write_text('{"box": [0, 32, 256, 288], "size": [256, 320]}')
    assert audit_rule("borders", images) == []


def test_bars_with_an_edge_that_only_a_small_picture_shows_are_mended(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat")
    (path,) = folder.rglob("00.png")
    pixels = 96 + np.asarray(faultless(7, (768, 800))) // 2
    pixels[700:] = 0
    pixels[684:700, 240:] = 6  # of the picture, and nearly as dark as the bar
    Image.fromarray(pixels).save(path)
    trim(inputs_of(folder), [Finding("bars", (path,), rule="borders")]).apply()
    left, top, right, bottom = json.loads(path.with_suffix(".crop.json").read_text())["box"]
    assert (left, top, right) == (0, 0, 768)
    assert 670 <= bottom <= 684


def test_a_picture_of_a_few_pixels_cannot_be_used(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog")
    Image.new("RGB", (1, 1)).save(next(folder.rglob("01.png")))
    (finding,) = audit_rule("unreadable", folder)
    assert "nothing to learn from" in finding.what
