"""The report says what augmentation makes of the images, and what it cannot do with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.curation.check.augmentation import count_augmentation
from lorasmith.curation.check.check import check_dataset
from lorasmith.curation.check.report import report_text
from lorasmith.data.augmentation.masks import Mask
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import Scan, scan

SIZES = {
    "large.png": (260, 200),
    "small.png": (70, 60),
    "square.png": (64, 64),
    "face_0100_0080_0030_0040.png": (200, 180),
}


@pytest.fixture
def found(tmp_path: Path) -> Scan:
    for name, size in SIZES.items():
        (tmp_path / "img" / "2_zorp").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "img" / "2_zorp" / name)
    return scan(find_folders(tmp_path))


def built(found: Scan, **augmentation: object) -> Dataset:
    masks = {found.images[0].path: Mask(found.images[0].path)}
    return build_dataset(
        found,
        plan_buckets(64, 64),
        augmentation=AugmentSettings(**augmentation),  # type: ignore[arg-type]
        masks=masks,
    )


def test_counts_are_those_of_the_views(found: Scan) -> None:
    dataset = built(found, flip=True, random_crop=True, slices=4, face_crop=(2.0, 3.0), variants=3)
    count = count_augmentation(dataset)
    views = [set(dataset.views_of(item).all()) for item in dataset.items]
    assert count.views == sum(map(len, views))
    assert count.faces == 1
    assert count.masked == 1
    assert count.sliced == 2
    assert count.slices == 2 * 8
    text = str(count)
    assert f"{count.views} views of 4 pictures, cached" in text
    assert "16 slices of 2 large pictures" in text
    assert "face in 1 of 4" in text
    assert "masks for 1 of 4" in text
    report = check_dataset(found, dataset, decode=False)
    assert text.split(";")[0] in report_text(report)
    assert report.to_json()["augmentation"]["because"] == text


def test_nothing_to_say_is_not_said(found: Scan) -> None:
    dataset = build_dataset(found, plan_buckets(64, 64))
    assert str(count_augmentation(dataset)) == ""
    assert "Augmentation" not in report_text(check_dataset(found, dataset, decode=False))


ODD: list[tuple[dict[str, object], str, str]] = [
    ({"face_crop": (2.0, 4.0)}, "augment.face_crop", "names that tell of no face: 3 of 4"),
    ({"slices": 2}, "augment.slices", "no picture is large enough"),
    ({"random_crop": True, "zoom": 2.0}, "augment.zoom", "up to 2.1 times"),
]


@pytest.mark.parametrize(("augmentation", "where", "what"), ODD)
def test_odd(found: Scan, augmentation: dict[str, object], where: str, what: str) -> None:
    report = check_dataset(found, built(found, **augmentation), decode=False)
    (problem,) = [each for each in report.warnings if each.where == where]
    assert what in str(problem)
    assert problem.hint


def test_a_crop_without_room_is_odd(tmp_path: Path, save: Callable[..., Path]) -> None:
    save(tmp_path / "a.png", 64, 64)
    found = scan(find_folders(tmp_path))
    dataset = build_dataset(
        found, plan_buckets(64, 64), augmentation=AugmentSettings(random_crop=True)
    )
    report = check_dataset(found, dataset, decode=False)
    assert "nothing of the pictures stands over" in " ".join(map(str, report.warnings))


def test_a_face_outside_its_image_stops_the_run(found: Scan) -> None:
    path = found.images[0].path.with_name("far_0900_0080_0030_0040.png")
    found.images[0].path.rename(path)
    again = scan(find_folders(path.parent.parent.parent))
    report = check_dataset(again, built(again, face_crop=(2.0, 4.0)), decode=False)
    (problem,) = report.errors
    assert problem.where == str(path)
    assert "30x40 around 900, 80" in str(problem)
    assert check_dataset(again, built(again), decode=False).errors == (), (
        "where no crop goes around it"
    )
