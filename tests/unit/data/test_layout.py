from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Event
from lorasmith.curation.collection import open_collection
from lorasmith.data.layout import FolderSpec, Unused, find_folders, folder_caption, natural_key
from lorasmith.data.scan import scan

Save = Callable[..., Path]


def facts(folders: list[FolderSpec]) -> list[tuple[str, int, bool]]:
    return [(spec.path.name, spec.repeats, spec.reg) for spec in folders]


def message(path: Path, reg: Path | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        find_folders(path, reg)
    return str(caught.value)


def test_kohya_layout_in_natural_order_with_reg(tmp_path: Path, save: Save) -> None:
    for folder in ("10_zorp girl", "2_bob", "reg/1_girl"):
        save(tmp_path / folder / "a.png")
    folders = find_folders(tmp_path)
    assert facts(folders) == [("2_bob", 2, False), ("10_zorp girl", 10, False), ("1_girl", 1, True)]
    assert [folder_caption(spec) for spec in folders] == ["bob", "zorp girl", "girl"]


def test_project_folder_with_img_and_reg(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "img" / "5_a b" / "a.png")
    save(tmp_path / "reg" / "1_b" / "a.png")
    (tmp_path / "model").mkdir()
    assert facts(find_folders(tmp_path)) == [("5_a b", 5, False), ("1_b", 1, True)]


def test_plain_folder(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "zorp" / "a.png")
    assert facts(find_folders(tmp_path / "zorp")) == [("zorp", 1, False)]


def test_inner_folder_is_taken_with_its_repeats_and_said(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "10_zorp" / "a.png")
    (spec,) = find_folders(tmp_path / "10_zorp")
    assert (spec.repeats, folder_caption(spec)) == (10, "zorp")
    assert "10 repeats" in str(spec.warnings[0])
    assert str(tmp_path) in spec.warnings[0].hint


def test_reg_given_by_itself(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a" / "1_x" / "a.png")
    save(tmp_path / "a" / "reg" / "1_other" / "a.png")
    save(tmp_path / "r" / "a.png")
    assert facts(find_folders(tmp_path / "a", tmp_path / "r")) == [
        ("1_x", 1, False),
        ("r", 1, True),
    ]


@pytest.mark.parametrize("name", ["img", "reg", "Pictures", "dataset"])
def test_general_names_are_no_captions(tmp_path: Path, name: str) -> None:
    assert folder_caption(FolderSpec(tmp_path / name)) is None
    assert folder_caption(FolderSpec(tmp_path / name, caption="zorp")) == "zorp"
    assert folder_caption(FolderSpec(tmp_path / f"3_{name}")) == name


def test_what_lies_beside_is_listed_with_reasons(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1_a" / "a.png")
    save(tmp_path / "more" / "b.png")
    save(tmp_path / "0_off" / "c.png")
    save(tmp_path / "loose.png")
    (tmp_path / "notes.md").write_text("x")
    found = scan(find_folders(tmp_path))
    reasons = {entry.path.name: entry.reason for entry in found.ignored}
    assert set(reasons) == {"more", "0_off", "loose.png", "notes.md"}
    assert "0 repeats" in reasons["0_off"]
    assert any("more" in warning.where for warning in found.warnings)
    assert any("1 picture is not used: it lies" in warning.what for warning in found.warnings)


def test_link_to_a_folder_above_is_not_followed(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1_a" / "a.png")
    (tmp_path / "5_loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "1_a" / "again").symlink_to(tmp_path / "1_a", target_is_directory=True)
    (tmp_path / "3_self").symlink_to(tmp_path / "3_self")
    folders = find_folders(tmp_path)
    assert facts(folders) == [("1_a", 1, False)]
    found = scan(folders)
    assert len(found.images) == 1
    assert "symbolic link" in {e.path.name: e.reason for e in found.ignored}["5_loop"]


def test_errors_say_what_is_there_instead(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "project" / "train" / "10_a" / "a.png")
    assert str(tmp_path / "project" / "train") in message(tmp_path / "project")
    save(tmp_path / "unnumbered" / "cats" / "a.png")
    assert "10_cats" in message(tmp_path / "unnumbered")
    assert "there is project" in message(tmp_path / "projectt")
    assert "is a file" in message(tmp_path / "project" / "train" / "10_a" / "a.png")
    (tmp_path / "void").mkdir()
    assert "empty" in message(tmp_path / "void")
    (tmp_path / "void" / "a.gif").write_bytes(b"x")
    assert ".gif" in message(tmp_path / "void")
    save(tmp_path / "fine" / "a.png")
    (tmp_path / "emptyreg" / "1_b").mkdir(parents=True)
    assert "no picture" in message(tmp_path / "fine", tmp_path / "emptyreg")


def test_what_no_one_can_mean(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "many" / "99999999999999999999999_zorp" / "a.png")
    assert "repeats; the most is 10000" in message(tmp_path / "many")
    assert "rename it, as in 10_zorp" in message(tmp_path / "many")
    save(tmp_path / "none" / "0_zorp" / "a.png")
    assert "ask for 0 repeats (0_zorp)" in message(tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_are_no_text(tmp_path: Path, save: Save) -> None:
    odd = tmp_path / os.fsdecode(b"latin\xe9")
    save(odd / "a.png")
    assert r"latin\xe9: a name that is not UTF-8" in message(odd)
    assert "rename it" in message(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_one_name_that_is_no_text_hides_no_other(tmp_path: Path, save: Save) -> None:
    odd = os.fsdecode(b"bad\xff")
    image = save(tmp_path / "10_zorp" / "a.png")
    (tmp_path / f"5_{odd}").mkdir()
    for name in (f"10_zorp/{odd}.png", f"5_{odd}/b.png"):
        (tmp_path / name).write_bytes(image.read_bytes())
    found = scan(find_folders(tmp_path))
    assert [image.path.name for image in found.images] == ["a.png"]
    assert not found.problems
    told = [one.where for one in found.warnings if isinstance(one, Unused)]
    assert sorted(told) == [
        str(tmp_path / "10_zorp" / r"bad\xff.png"),
        str(tmp_path / r"5_bad\xff"),
    ]
    notices: list[Event] = []
    images = open_collection(tmp_path, observer=notices.append).images
    assert [image.path.name for image in images] == ["a.png"]
    assert len(notices) == 2


def test_natural_order() -> None:
    ordered = ["1_b", "2.png", "9.png", "10.png", "a1b2", "A1b10", "a9", "a10"]
    assert sorted(sorted(ordered), key=natural_key) == ordered
