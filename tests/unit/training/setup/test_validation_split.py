"""What is held out, from settings and folders of real images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import DatasetError, SettingsError
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.captions import CaptionRules
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import Scan, scan
from lorasmith.demo.character import write_training_set
from lorasmith.training.setup.validation_split import hold_out_of, near_duplicates_across


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
    assert held.measured(ValidationSettings(), plan_buckets(64, 64), CaptionRules()) is None


def test_a_share_of_the_training_images(folder: Path) -> None:
    settings = ValidationSettings(split=0.3)
    held = hold_out_of(settings, found_in(folder))
    assert len(held.images) == 2
    assert len(held.training.images) == 4 + 3
    measured = held.measured(settings, plan_buckets(64, 64), CaptionRules(shuffle=True))
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
    measured = held.measured(settings, plan_buckets(64, 64), CaptionRules())
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
