"""Rules about copies: what is a copy, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tests.audits import MakeDataset, audit_rule, faultless

from lorasmith.advice.audit.audit import findings_of
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.mending import plan_fixes
from lorasmith.advice.audit.rules import RULES
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.sorting import versions


def head(smile: bool) -> Image.Image:
    """A drawing of one person with one of two expressions."""
    image = Image.new("RGB", (240, 240), "teal")
    draw = ImageDraw.Draw(image)
    draw.ellipse((50, 40, 200, 220), "wheat", "black", 4)
    draw.ellipse((90, 100, 110, 130 if smile else 104), "black")
    draw.ellipse((140, 100, 160, 130 if smile else 104), "black")
    draw.rectangle((90, 165, 160, 195 if smile else 170), "white" if smile else "black", "black", 6)
    return image


def test_two_expressions_are_no_copies(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    head(True).save(tmp_path / "set" / "a.png")
    head(False).save(tmp_path / "set" / "b.png")
    head(True).resize((200, 200)).save(tmp_path / "set" / "c.jpg")
    (finding,) = audit_rule("near-duplicates", tmp_path / "set")
    assert {path.name for path in finding.images} == {"a.png", "c.jpg"}


def test_a_crop_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    whole = faultless(1, (320, 320))
    whole.save(tmp_path / "set" / "a.png")
    whole.crop((10, 14, 306, 310)).save(tmp_path / "set" / "b.png")
    faultless(2, (320, 320)).save(tmp_path / "set" / "c.png")
    (finding,) = audit_rule("cropped-copies", tmp_path / "set")
    assert [path.name for path in finding.images] == ["a.png", "b.png"]
    monkeypatch.setattr(versions, "decoded_image", None)
    assert audit_rule("cropped-copies", tmp_path / "set") == [finding]


def test_training_pictures_in_regularisation(dataset: MakeDataset) -> None:
    names = ["train/10_zorp/a.png", "train/10_zorp/b.png", "reg/1_person/c.png"]
    folder = dataset(dict.fromkeys(names, "zorp"))
    reg = folder / "reg"
    copy = reg / "1_person" / "d.png"
    copy.write_bytes((folder / "train/10_zorp/b.png").read_bytes())
    (row,) = [row for row in RULES if row.id == "in-regularisation"]
    inputs = AuditInputs([folder / "train"], reg)
    (finding,) = findings_of(row, inputs)
    assert [path.name for path in finding.images] == ["b.png", "d.png"]
    plan_fixes(inputs, ["in-regularisation"], [], RULES).plan.apply()
    assert not copy.exists()
    with Journal(folder) as journal:
        journal.undo(1)
    assert copy.exists()


def test_copies_in_regularisation_come_in_the_order_of_training(dataset: MakeDataset) -> None:
    names = [f"train/10_zorp/{number}.png" for number in range(6)]
    folder = dataset(dict.fromkeys([*names, "reg/1_person/c.png"], "zorp"))
    for name in names:
        copy = folder / "reg" / "1_person" / Path(name).name
        copy.write_bytes((folder / name).read_bytes())
    (row,) = [row for row in RULES if row.id == "in-regularisation"]
    findings = findings_of(row, AuditInputs([folder / "train"], folder / "reg"))
    assert [finding.images[0] for finding in findings] == [folder / name for name in names]


def test_the_trigger_goes_from_regularisation_beside_the_dataset(dataset: MakeDataset) -> None:
    captions = {"train/10_zorp/a.png": "zorp, hat", "reg/1_person/c.png": "zorp, person"}
    folder = dataset(captions)
    reg = folder / "reg"
    inputs = AuditInputs([folder / "train"], reg)
    plan = plan_fixes(inputs, ["regularisation-trigger"], [], RULES).plan
    plan.check()
    plan.apply()
    assert (reg / "1_person" / "c.txt").read_text().strip() == "person"
