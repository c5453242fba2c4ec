from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import DatasetError, SettingsError
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.holdout import (
    hold_out,
    hold_out_of,
    image_number,
    measured,
    measuring_dataset,
    near_duplicates_across,
)
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.scan import DatasetImage, Scan, scan
from lorasmith.demo.character import write_training_set

NAMES = st.lists(st.text("abc123", min_size=1, max_size=6), min_size=1, max_size=40, unique=True)
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**62)


def scan_of(*folders: list[str], reg: tuple[int, ...] = (), caption: str = "a, b, c") -> Scan:
    """Images of these names; folder ``n`` is ``fn``."""
    specs = tuple(FolderSpec(Path(f"f{n}"), 3, n in reg) for n in range(len(folders)))
    images = tuple(
        DatasetImage(Path(f"f{n}/{name}.png"), n, 64, 64, caption, None, False)
        for n, names in enumerate(folders)
        for name in names
    )
    return Scan(specs, images)


@given(NAMES, NAMES, NAMES, SHARES, SEEDS)
def test_divides_each_folder_and_leaves_regularisation_alone(
    one: list[str], two: list[str], reg: list[str], share: float, seed: int
) -> None:
    scan = scan_of(one, two, reg, reg=(2,))
    training, held = hold_out(scan, share, seed)
    assert sorted((*training.images, *held), key=scan.images.index) == list(scan.images)
    assert not set(training.images) & set(held)
    assert training.folders == scan.folders
    for folder, names in enumerate((one, two)):
        count = sum(image.folder == folder for image in held)
        if len(names) == 1:
            assert count == 0
        else:
            assert 1 <= count <= len(names) - 1
            assert abs(count - share * len(names)) <= 1
    assert all(image.folder != 2 for image in held)


@given(NAMES, SHARES, SEEDS)
def test_place_and_folder_do_not_matter(names: list[str], share: float, seed: int) -> None:
    shuffled = sorted(names, key=hash)
    _, held = hold_out(scan_of(names), share, seed)
    _, again = hold_out(scan_of(shuffled), share, seed)
    _, elsewhere = hold_out(scan_of(["only"], names), share, seed)
    chosen = {image.path.name for image in held}
    assert chosen == {image.path.name for image in again}
    assert chosen == {image.path.name for image in elsewhere}


@given(NAMES, SHARES, SEEDS)
def test_one_more_image_changes_little(names: list[str], share: float, seed: int) -> None:
    before = set(hold_out(scan_of(names), share, seed)[1])
    after = set(hold_out(scan_of([*names, "new picture"]), share, seed)[1])
    assert len(before ^ after) <= 2


def test_another_seed_holds_out_others() -> None:
    scan = scan_of([f"{n}" for n in range(40)])
    assert set(hold_out(scan, 0.25, 0)[1]) != set(hold_out(scan, 0.25, 1)[1])


def test_the_training_images_beside_are_of_the_same_folders() -> None:
    scan = scan_of(
        [f"a{n}" for n in range(20)], [f"b{n}" for n in range(8)], ["r1", "r2"], reg=(2,)
    )
    training, held = hold_out(scan, 0.25, 0)
    chosen, beside = measured(training, held, 0)
    assert set(chosen) == set(held)
    assert set(beside) <= set(training.images)
    assert [sum(p.folder == f for p in chosen) for f in range(3)] == [5, 2, 0]
    assert [sum(p.folder == f for p in beside) for f in range(3)] == [5, 2, 0]
    few, beside_few = measured(training, held, 0, limit=3)
    assert few == chosen[:3]
    assert len(beside_few) == 3


def test_few_training_images_are_filled_up_from_other_folders() -> None:
    scan = scan_of(["a", "b"], [f"c{n}" for n in range(5)])
    training, held = hold_out(scan, 0.9, 0)
    assert len(held) == 1 + 4
    chosen, beside = measured(training, held, 0)
    assert len(chosen) == 5
    assert set(beside) == set(training.images)
    own = tuple(DatasetImage(Path(f"v/{n}.png"), 2, 64, 64, None, None, False) for n in range(4))
    assert len(measured(scan, own, 0)[1]) == 4


@given(st.integers(0, 100))
def test_captions_stand_still(seed: int) -> None:
    scan = scan_of(["a", "b", "c"], caption="{red|blue} x, y, z\nanother")
    rules = CaptionSettings(
        shuffle=True, dropout=0.9, dropout_every_n_epochs=1, tag_dropout=0.9, prefix="pre,",
        wildcards=True, tag_warmup_steps=10,
    )  # fmt: skip
    buckets = plan_buckets(64, 64)
    dataset = measuring_dataset(scan, [scan.images[:2], scan.images[2:]], buckets, rules, seed)
    assert not dataset.captions_vary
    assert [item.image.path for item in dataset.items] == [p.path for p in scan.images]
    assert [item.repeats for item in dataset.items] == [1, 1, 1]
    for item in dataset.items:
        assert item.caption in ("pre, red x, y, z", "pre, blue x, y, z", "pre, another")
    alone = measuring_dataset(scan, [scan.images[1:2]], buckets, rules, seed)
    assert alone.items[0].caption == dataset.items[1].caption


def test_a_image_keeps_its_number_wherever_it_lies() -> None:
    one, other = scan_of(["a"], ["a", "b"]).images[:2]
    assert image_number(one) == image_number(other)
    assert 0 <= image_number(one) < 2**63


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "data", images=6, regularisation=3, repeats=5)
    return tmp_path / "data"


def found_in(folder: Path) -> Scan:
    return scan(find_folders(folder))


def test_nothing_is_held_out_unless_asked(folder: Path) -> None:
    held = hold_out_of(ValidationSettings(), found_in(folder))
    assert not held.images
    assert held.training == found_in(folder)
    assert held.measured(ValidationSettings(), plan_buckets(64, 64), CaptionSettings()) is None


def test_a_share_of_the_training_images(folder: Path) -> None:
    settings = ValidationSettings(split=0.3)
    held = hold_out_of(settings, found_in(folder))
    assert len(held.images) == 2
    assert len(held.training.images) == 4 + 3
    measured = held.measured(settings, plan_buckets(64, 64), CaptionSettings(shuffle=True))
    assert measured is not None
    assert measured.held_out == 2
    paths = [item.image.path for item in measured.dataset.items]
    assert set(paths[:2]) == {image.path for image in held.images}
    assert len(paths) == 4
    assert not any(item.reg for item in measured.dataset.items)


def test_a_folder_of_its_own_without_its_regularisation_images(
    folder: Path, tmp_path: Path
) -> None:
    write_training_set(tmp_path / "other", images=2, regularisation=4, repeats=9, seed=3)
    settings = ValidationSettings(folder=tmp_path / "other")
    held = hold_out_of(settings, found_in(folder))
    assert held.training == found_in(folder)
    assert [image.path.parent.name for image in held.images] == ["9_zorp"] * 2
    measured = held.measured(settings, plan_buckets(64, 64), CaptionSettings())
    assert measured is not None
    assert [item.repeats for item in measured.dataset.items] == [1] * 4
    assert [item.caption for item in measured.dataset.items][:2] != ["", ""]


def test_a_image_cannot_be_on_both_sides(folder: Path) -> None:
    with pytest.raises(DatasetError, match="trained on too"):
        hold_out_of(ValidationSettings(folder=folder), found_in(folder))


def test_a_folder_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        hold_out_of(ValidationSettings(folder=tmp_path / "gone"), found_in(folder))


def test_a_single_image_is_trained_on(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=1, regularisation=3, repeats=1)
    with pytest.raises(SettingsError, match="nothing can be held out"):
        hold_out_of(ValidationSettings(split=0.1), found_in(tmp_path / "data"))


def test_copies_of_held_out_images_are_told(folder: Path) -> None:
    settings = ValidationSettings(split=0.3)
    held = hold_out_of(settings, found_in(folder))
    out, trained = held.images[0].path, held.training.images[0].path
    (problem,) = near_duplicates_across(held, [(out, trained)])
    assert out.name in str(problem)
    assert not near_duplicates_across(held, [tuple(image.path for image in held.images)])
    assert not near_duplicates_across(held, [(trained, held.training.images[1].path)])
    shutil.rmtree(folder)  # Nothing of this looks at the files.
    assert near_duplicates_across(held, [(out, trained)])
