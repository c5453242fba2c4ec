"""The set of a bootstrap: what comes into it, what leaves it, and how that is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.unit.advice.bootstrap.made_up import drawing, new_round, started

from lorasmith.advice.bootstrap.image_set import apply_choice, begin_set, read_given
from lorasmith.advice.bootstrap.state import Bootstrap, Options, images_of
from lorasmith.core.errors import UserError
from lorasmith.curation.changes.journal import Journal
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in images_of(folder)]


def test_captions_lie_beside_images_or_are_said(tmp_path: Path) -> None:
    one, other, bare = (picture(tmp_path / f"{n}.png") for n in "abc")
    one.with_suffix(".txt").write_text("smile, zorp\nsecond line\n")
    other.with_suffix(".caption").write_text("on a chair")
    given = read_given([one, other, bare, one], "zorp", None)
    assert [(image.path, image.caption, image.bare) for image in given] == [
        (one, "smile, zorp", False),
        (other, "zorp, on a chair", False),
        (bare, "zorp", True),
    ]
    assert read_given([bare], "zorp", "standing")[0].caption == "zorp, standing"
    assert len(read_given([tmp_path], "zorp", None)) == 3, "a folder is its images"


def test_every_image_that_will_not_do_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (tmp_path / "empty").mkdir()
    odd = picture(tmp_path / "odd.png")
    odd.with_suffix(".txt").write_bytes(b"\xff\xfe\xff")
    paths = [tmp_path / name for name in ("torn.png", "gone.png", "empty", "odd.png")]
    with pytest.raises(UserError) as caught:
        read_given(paths, "zorp", None)
    assert [Path(problem.where).name for problem in caught.value.problems] == [
        "gone.png", "empty", "torn.png", "odd.txt",
    ]  # fmt: skip
    with pytest.raises(UserError, match="there is no picture"):
        read_given([], "zorp", None)


def test_images_of_one_name_are_both_taken(tmp_path: Path) -> None:
    paths = [picture(tmp_path / folder / "a.png") for folder in "xy"]
    boot = Bootstrap(tmp_path / "boot", Options("my zorp", weight=0.5))
    begin_set(boot, read_given(paths, "my zorp", None))
    assert boot.given_folder == boot.dataset / "2_my-zorp"
    assert names(boot.given_folder) == ["a-2.png", "a.png"]
    assert (boot.given_folder / "a.txt").read_text() == "my zorp\n"


def test_what_is_kept_joins_with_its_lineage_at_a_lower_weight(tmp_path: Path) -> None:
    boot = started(tmp_path, [drawing(1), drawing(2), drawing(3)])
    boot.now.kept = [1, 3]
    apply_choice(boot)
    assert names(boot.drawn_folder) == ["r01-01.png", "r01-03.png"]
    assert (boot.drawn_folder / "r01-03.txt").read_text() == "zorp, word3\n"
    lineage = json.loads(boot.lineage.read_text(encoding="utf-8"))
    assert set(lineage) == {"r01-01.png", "r01-03.png"}
    assert lineage["r01-03.png"] == {
        "round": 1,
        "drawing": 3,
        "lora": "zorp.safetensors",
        "model": "demo",
        "prompt": "zorp, word3 <lora:zorp-01:1>",
        "seed": 1003,
        "began_with": "",
        "likeness": 0.7,
        "copying": 1.0,
    }
    found = scan(find_folders(boot.dataset))
    assert not found.problems
    repeats = {spec.path.name: spec.repeats for spec in found.folders}
    assert repeats == {"4_zorp": 4, "1_zorp-drawn": 1}
    apply_choice(boot)
    assert names(boot.drawn_folder) == ["r01-01.png", "r01-03.png"], "twice does no harm"


def test_what_is_replaced_or_repeated_goes_into_the_trash_and_can_be_had_back(
    tmp_path: Path,
) -> None:
    boot = started(tmp_path, [drawing(n) for n in (1, 2, 3)])
    boot.now.kept = [1, 2, 3]
    apply_choice(boot)
    boot.rounds.append(new_round(boot, 2, [drawing(1), drawing(2, source="r01-02.png")]))
    now = boot.now
    now.repeated, now.kept = {"r01-03.png": 5, "zorp.png": 4}, [2]
    apply_choice(boot)
    assert now.replaced == ["r01-02.png"]
    assert now.purged == ["r01-03.png"], "what was given stays"
    assert names(boot.drawn_folder) == ["r01-01.png", "r02-02.png"]
    assert names(boot.given_folder) == ["zorp.png"]
    assert set(json.loads(boot.lineage.read_text())) == {"r01-01.png", "r02-02.png"}
    with Journal(boot.dataset) as journal:
        journal.undo()
    assert names(boot.drawn_folder) == ["r01-01.png", "r01-02.png", "r01-03.png"]


def test_keeping_nothing_changes_nothing(tmp_path: Path) -> None:
    boot = started(tmp_path, [drawing(1)])
    boot.now.kept = []
    apply_choice(boot)
    assert names(boot.drawn_folder) == []


def test_a_lineage_that_is_damaged_is_told(tmp_path: Path) -> None:
    boot = started(tmp_path, [drawing(1)])
    boot.now.kept = [1]
    boot.drawn_folder.mkdir()
    boot.lineage.write_text("{")
    with pytest.raises(UserError, match=r"lineage\.json.*cannot be read"):
        apply_choice(boot)
