"""Pairs of images: which folders they are in, who belongs to whom, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.errors import DatasetError
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.pairs import SIDES, scan_pairs


def save(path: Path, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "white").save(path)


def pairs_in(folder: Path, low: str = "low", high: str = "high") -> Path:
    for name in ("b.png", "a.png"):
        save(folder / low / name)
        save(folder / high / name)
    return folder


@pytest.mark.parametrize("sides", SIDES)
def test_pairs_go_by_their_names(sides: tuple[str, str], tmp_path: Path) -> None:
    pairs = scan_pairs(pairs_in(tmp_path, sides[0], sides[1].capitalize()), "a cat").repeated(3)
    for scan, side in ((pairs.low, sides[0]), (pairs.high, sides[1])):
        assert [image.path.name for image in scan.images] == ["a.png", "b.png"]
        assert {image.path.parent.name.casefold() for image in scan.images} == {side}
        assert {image.caption for image in scan.images} == {"a cat"}
        assert scan.folders[0].repeats == 3
        assert not scan.warnings


def test_captions_beside_them_are_not_read_and_it_says_so(tmp_path: Path) -> None:
    pairs_in(tmp_path)
    (tmp_path / "high" / "a.txt").write_text("a tall cat", encoding="utf-8")
    pairs = scan_pairs(tmp_path, "")
    assert {image.caption for image in pairs.high.images} == {""}
    (warning,) = pairs.high.warnings
    assert "1 caption is not read" in warning.what


def test_both_sides_are_seen_alike(tmp_path: Path) -> None:
    """Whatever is drawn at random, and whatever the files' endings."""
    for name in ("one", "two", "three"):
        save(tmp_path / "low" / f"{name}.jpg", (96, 64))
        save(tmp_path / "high" / f"{name}.png", (96, 64))
    pairs = scan_pairs(tmp_path, "")
    augmentation = AugmentSettings(flip=True, colour=0.5, random_crop=True, variants=4)
    high = build_dataset(pairs.high, plan_buckets(64, 64, enabled=False, multiple=8),
                         augmentation=augmentation)  # fmt: skip
    low = pairs.opposites(high)
    for one, other in zip(low.items, high.items, strict=True):
        assert one.image.path.parent.name == "low"
        assert one.image.path.stem == other.image.path.stem
        views = list(high.views_of(other).all())
        assert list(low.views_of(one).all()) == views
        assert len(set(views)) > 2


def test_what_is_not_a_pair_is_named(tmp_path: Path) -> None:
    pairs_in(tmp_path)
    save(tmp_path / "low" / "alone.png")
    save(tmp_path / "high" / "single.png")
    save(tmp_path / "low" / "c.png", (64, 96))
    save(tmp_path / "high" / "c.png", (96, 64))
    save(tmp_path / "low" / "d.png")
    save(tmp_path / "low" / "d.webp")
    save(tmp_path / "high" / "d.png")
    with pytest.raises(DatasetError) as caught:
        scan_pairs(tmp_path, "")
    text = {Path(one.where).relative_to(tmp_path).as_posix(): one.what
            for one in caught.value.problems}  # fmt: skip
    assert text["low/alone.png"].endswith("there is no picture called alone in high/")
    assert text["high/single.png"].endswith("there is no picture called single in low/")
    assert text["high/c.png"] == "is 96 x 64 px, and its partner in low/ 64 x 96 px"
    assert "the name of d.png" in text["low/d.webp"]
    assert len(text) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: save(path / "one" / "a.png"), "has no folders for the two sides of pair"),
        (lambda path: save(path / "low" / "a.png"), r"has low/ and no high/"),
        (lambda path: save(path / "good" / "a.png"), r"has good/ and no bad/"),
        (lambda path: pairs_in(pairs_in(path), "bad", "good"), "several pairs of folders"),
        (lambda path: (save(path / "low" / "a.png"), (path / "high").mkdir()), "is empty"),
    ],
)  # fmt: skip
def test_folders_that_are_not_there(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "set")  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message):
        scan_pairs(tmp_path / "set", "")
