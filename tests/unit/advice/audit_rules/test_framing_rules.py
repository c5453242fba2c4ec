"""Rules about what training sees of images, each on a set with its fault and on one without."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tests.audits import audit_rule, faultless, inputs_of

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit_rules.framing_rules import FRAMING_RULES
from lorasmith.curation.changes.journal import Journal


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of twelve faultless images."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(12):
        faultless(number, (96, 96)).save(folder / f"{number}.png")
    return folder


def test_nothing_is_found_where_nothing_is_wrong(images: Path) -> None:
    assert audit_dataset(inputs_of(images), rules=FRAMING_RULES).findings == ()


def test_small_images_are_found_with_how_much_they_are_enlarged(images: Path) -> None:
    faultless(50, (40, 40)).save(images / "small.png")
    (finding,) = audit_rule("too-small", images)
    assert finding.images == (images / "small.png",)
    assert finding.value == pytest.approx(64 / 40)


def test_what_is_cut_off_is_found_and_a_fix_records_the_part_that_is_kept(images: Path) -> None:
    faultless(50, (900, 100)).save(images / "long.png")
    (finding,) = audit_rule("much-cropped", images)
    assert finding.images == (images / "long.png",)
    check_fix("much-cropped", images)


def test_a_face_that_the_crop_cuts_is_found(images: Path) -> None:
    inside, outside = "a_0050_0450_0060_0060.png", "b_0050_0100_0060_0060.png"
    for name in (inside, outside):  # middle, width and height; the crop shows 250 to 650 of 900
        faultless(50, (100, 900)).save(images / name)
    (finding,) = audit_rule("face-cut", images)
    assert finding.images == (images / outside,)
    assert finding.value == 1
    check_fix("face-cut", images)


def test_an_image_alone_in_its_bucket_is_found_and_brought_to_others(images: Path) -> None:
    faultless(50, (96, 150)).save(images / "tall.png")
    (finding,) = audit_rule("lonely-bucket", images)
    assert finding.severity == "note"
    assert audit_rule("lonely-bucket", images, "train.batch=4")[0].severity == "warning"
    check_fix("lonely-bucket", images)


def test_buckets_that_are_as_many_as_images_are_found(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for number in range(9):
        faultless(number, (64 + 24 * number, 160)).save(tmp_path / "set" / f"{number}.png")
    (finding,) = audit_rule("bucket-spread", tmp_path / "set")
    assert finding.value is not None
    assert finding.value > 0.5
    assert audit_rule("lonely-bucket", tmp_path / "set") == []


def test_a_photograph_among_drawings_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(14):
        head(number).save(folder / f"{number}.png")
    assert audit_rule("unlike-others", folder) == []
    faultless(1, (128, 128)).save(folder / "photo.png")
    (finding,) = audit_rule("unlike-others", folder)
    assert finding.images == (folder / "photo.png",)


def head(number: int, place: tuple[int, int] = (0, 0), ground: str = "white") -> Image.Image:
    """A drawing on a plain ground, each a little different."""
    image = Image.new("RGB", (128, 128), ground)
    draw = ImageDraw.Draw(image)
    x, y = place
    draw.ellipse((30 + x, 24 + y, 90 + x, 110 + y), fill="bisque", outline="black", width=2)
    draw.ellipse((44 + x, 50 + y, 54 + x, 56 + number % 7 + y), fill="navy")
    draw.ellipse((66 + x, 50 + y, 76 + x, 56 + number % 7 + y), fill="navy")
    draw.line((50 + x, 90 + y, 70 + x, 84 + number % 11 + y), fill="red", width=3)
    return image


def test_subjects_that_never_move_are_found(tmp_path: Path) -> None:
    for name in ("still", "moving"):
        (tmp_path / name).mkdir()
    for number in range(10):
        head(number).save(tmp_path / "still" / f"{number}.png")
        place = (5 * number - 25, 3 * (number % 4) - 5)
        head(number, place).save(tmp_path / "moving" / f"{number}.png")
    (finding,) = audit_rule("same-place", tmp_path / "still")
    assert finding.value == pytest.approx(0, abs=0.02)
    assert audit_rule("same-place", tmp_path / "moving") == []


def test_a_ground_that_is_always_the_same_is_found_unless_it_is_tagged(tmp_path: Path) -> None:
    grounds = ("white", "khaki", "navy", "teal", "plum")
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    for number in range(10):
        head(number).save(tmp_path / "one" / f"{number}.png")
        head(number, ground=grounds[number % 5]).save(tmp_path / "many" / f"{number}.png")
    assert len(audit_rule("same-background", tmp_path / "one")) == 1
    assert audit_rule("same-background", tmp_path / "many") == []
    for number in range(10):
        (tmp_path / "one" / f"{number}.txt").write_text("zorp, white background")
    assert audit_rule("same-background", tmp_path / "one") == []


def check_fix(rule: str, folder: Path) -> None:
    """It mends what is found, leaves the images as they are, and undo takes all of it back."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    inputs = inputs_of(folder)
    (row,) = [row for row in FRAMING_RULES if row.id == rule]
    findings = audit_dataset(inputs, rules=[row]).findings
    assert row.fix is not None
    row.fix(inputs, findings).apply()
    assert audit_rule(rule, folder) == []
    fixed = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: fixed[name] for name in before} == before
    with Journal(folder) as journal:
        journal.undo(1)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before
