"""Other names, with everything that belongs to an image, whatever the old ones were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lorasmith.core.errors import DatasetError, SettingsError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.edit.rename import _new_name
from lorasmith.jobs.dataset.files import RenameRequest
from lorasmith.jobs.request import run


def image(path: Path, grey: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), grey).convert(mode).save(path)


def rename(*folders: Path, **options: Any) -> Plan:
    return run(RenameRequest(folders=list(folders), **options)).plan


def names(folder: Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.startswith(".lorasmith"))


def test_everything_of_an_image_goes_with_it(tmp_path: Path) -> None:
    for name in ("b.png", "a10.jpg", "a9.png"):
        image(tmp_path / name)
    for name in ("b.txt", "a9.png.txt", "a10.json", "a9.npz"):
        (tmp_path / name).write_text(name)
    for name in ("b-masklabel.png", "mask_a9.png", "masks/a10.png"):
        image(tmp_path / name, mode="L")
    (tmp_path / "notes.md").write_text("mine")
    rename(tmp_path, prefix="yumoto_hakone")
    assert names(tmp_path) == [
        "mask_yumoto_hakone_001.png",
        "masks/yumoto_hakone_002.png",
        "notes.md",
        "yumoto_hakone_001.npz",
        "yumoto_hakone_001.png",
        "yumoto_hakone_001.png.txt",
        "yumoto_hakone_002.jpg",
        "yumoto_hakone_002.json",
        "yumoto_hakone_003-masklabel.png",
        "yumoto_hakone_003.png",
        "yumoto_hakone_003.txt",
    ]
    assert (tmp_path / "yumoto_hakone_003.txt").read_text() == "b.txt"
    assert not rename(tmp_path, prefix="yumoto_hakone").changes


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    numbers=st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=7),
    start=st.integers(1, 9),
)
def test_old_and_new_names_may_overlap(
    numbers: list[int], start: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("names")
    for number in numbers:
        image(folder / f"z_{number:03}.png", number)
        (folder / f"z_{number:03}.txt").write_text(str(number))
    rename(folder, prefix="z", start=start)
    for place, number in enumerate(sorted(numbers), start):
        with Image.open(folder / f"z_{place:03}.png") as picture:
            assert picture.getpixel((0, 0)) == (number, number, number)
        assert (folder / f"z_{place:03}.txt").read_text() == str(number)
    assert len(names(folder)) == 2 * len(numbers)
    with Journal(folder) as journal:
        journal.undo(1)
    assert names(folder) == sorted(
        f"z_{number:03}.{ending}" for number in numbers for ending in ("png", "txt")
    )


def test_numbers_go_on_from_folder_to_folder(tmp_path: Path) -> None:
    for name in ("img/2_b/x.png", "img/10_a/x.png", "img/10_a/y.png"):
        image(tmp_path / name)
    rename(tmp_path, prefix="z", digits=2)
    assert names(tmp_path) == ["img/10_a/z_02.png", "img/10_a/z_03.png", "img/2_b/z_01.png"]


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("a.png", "z_001.png"),
        ("a.png.txt", "z_001.png.txt"),
        ("a-masklabel.png", "z_001-masklabel.png"),
        ("mask_a.png", "mask_z_001.png"),
        ("data_a_mask.png", "data_z_001_mask.png"),
        ("other.npz", "z_001-other.npz"),
    ],
)
def test_names_of_side_files(name: str, new: str) -> None:
    assert _new_name(name, Path("a.png"), "z_001") == new


def test_as_many_digits_as_there_must_be(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    rename(tmp_path, prefix="z", start=999)
    assert names(tmp_path) == ["z_0999.png", "z_1000.png"]


def test_two_images_of_one_name_get_a_caption_each(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        image(tmp_path / name)
    (tmp_path / "a.txt").write_text("hat")
    rename(tmp_path, prefix="z")
    assert names(tmp_path) == ["z_001.jpg", "z_001.txt", "z_002.png", "z_002.txt"]
    assert (tmp_path / "z_002.txt").read_text() == "hat"


def test_a_name_that_somebody_else_has_is_left_alone(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "z_001.png")
    plan = rename(tmp_path, prefix="z", where="name:a.png")
    assert "would become z_001.png, which is there already" in str(plan.skipped[0])
    assert names(tmp_path) == ["a.png", "z_001.png"]


def test_tables_that_name_images_are_said(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "hat"}\n')
    (warning,) = rename(tmp_path, prefix="z").warnings
    assert "metadata.jsonl" in warning.where


def test_regularisation_pictures_of_the_same_names_are_said(tmp_path: Path) -> None:
    image(tmp_path / "img" / "5_zorp" / "a.png")
    image(tmp_path / "reg" / "1_girl" / "a.png")
    (warning,) = rename(tmp_path, prefix="z").warnings
    assert warning.where.endswith("reg")
    assert names(tmp_path) == ["img/5_zorp/z_001.png", "reg/1_girl/a.png"]


def test_odd_names_become_plain(tmp_path: Path) -> None:
    for name in ("-a\nb.png", "x" * 251 + ".png"):
        image(tmp_path / name)
    rename(tmp_path, prefix="z")
    assert names(tmp_path) == ["z_001.png", "z_002.png"]
    with pytest.raises(DatasetError, match="255"):
        rename(tmp_path, prefix="y" * 250)


@pytest.mark.parametrize("prefix", ["", " z", "a/b", "..", "-z", "nul", "a:b", "a\nb", "x" * 201])
def test_prefixes_that_are_no_names(tmp_path: Path, prefix: str) -> None:
    image(tmp_path / "a.png")
    with pytest.raises(DatasetError):
        rename(tmp_path, prefix=prefix)


def test_trim_digits(tmp_path: Path) -> None:
    image(tmp_path / "name.png")
    image(tmp_path / "other.png")
    image(tmp_path / "00003-0-crop.png")
    for name in ("00012-0-name", "00003-0-crop", "00004-0-gone"):
        (tmp_path / f"{name}.txt").write_text(name)
    plan = rename(tmp_path, trim_digits=True)
    assert (tmp_path / "name.txt").read_text() == "00012-0-name"
    assert names(tmp_path) == [
        *("00003-0-crop.png", "00003-0-crop.txt", "00004-0-gone.txt"),
        *("name.png", "name.txt", "other.png"),
    ]
    assert len(plan.warnings) == 2
    assert not rename(tmp_path, trim_digits=True).changes


def test_trim_digits_overwrites_nothing(tmp_path: Path) -> None:
    image(tmp_path / "name.png")
    for name in ("00012-0-name", "name"):
        (tmp_path / f"{name}.txt").write_text(name)
    plan = rename(tmp_path, trim_digits=True)
    assert "would become name.txt, which is there already" in str(plan.skipped[0])
    assert (tmp_path / "name.txt").read_text() == "name"


def test_one_thing_at_a_time(tmp_path: Path) -> None:
    for options in ({}, {"prefix": "z", "trim_digits": True}):
        with pytest.raises(SettingsError, match="either"):
            rename(tmp_path, **options)
