"""Masks are found, checked, and go where their image goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.data.augmentation.masks import Mask, Masks, check_masks, find_masks, render_mask
from lorasmith.data.augmentation.views import render
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache.latents import cache_masks, mask_tensor
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.images import load_alpha
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import Scan, scan

Save = Callable[..., Path]
EVERYTHING = AugmentSettings(
    flip=True, colour=0.4, random_crop=True, zoom=1.5, slices=4, face_crop=(2.0, 4.0)
)


def gradient(path: Path, width: int, height: int, mode: str = "L") -> np.ndarray:
    """An image with a different value at each place, and those values."""
    across = np.linspace(0, 255, width)[None] * 0.5
    down = np.linspace(0, 255, height)[:, None] * 0.5
    values = (across + down).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).convert(mode).save(path)
    return values


@pytest.fixture
def found(tmp_path: Path, save: Save) -> Scan:
    for name in ("a", "b", "c"):
        save(tmp_path / "set" / "2_zorp" / f"{name}.png", 100, 80)
    save(tmp_path / "set" / "reg" / "1_one" / "r.png", 64, 64)
    return scan(find_folders(tmp_path / "set"))


def masks_of(found: Scan, folder: Path) -> Masks:
    return find_masks("folder", folder, found.images, found.folders)


def test_masks_by_name_in_any_format(found: Scan, tmp_path: Path) -> None:
    gradient(tmp_path / "masks" / "a.png", 100, 80)
    gradient(tmp_path / "masks" / "b.BMP", 50, 40, "RGB")
    gradient(tmp_path / "masks" / "2_zorp" / "c.png", 100, 80)
    gradient(tmp_path / "masks" / "d.png", 100, 80)
    masks = masks_of(found, tmp_path / "masks")
    assert {path.name: mask.path.name for path, mask in masks.by_image.items()} == {
        "a.png": "a.png", "b.png": "b.BMP", "c.png": "c.png",
    }  # fmt: skip
    assert masks.problems == ()
    (warning,) = masks.warnings
    assert "masks without a picture: 1 (d.png)" in str(warning)
    assert check_masks(masks, found.images) == []


def test_missing_masks_are_named(found: Scan, tmp_path: Path) -> None:
    gradient(tmp_path / "masks" / "a.png", 100, 80)
    masks = masks_of(found, tmp_path / "masks")
    (warning,) = masks.warnings
    assert "pictures without a mask, learned whole: 2 of 3 (b.png, c.png)" in str(warning)


def test_a_folder_without_a_mask_is_a_mistake(found: Scan, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (problem,) = masks_of(found, tmp_path / "masks").problems
    assert "no mask for any of the 3" in str(problem)
    (problem,) = masks_of(found, tmp_path / "nowhere").problems
    assert "nowhere" in problem.where


def test_one_mask_for_two_images_is_a_mistake(tmp_path: Path, save: Save) -> None:
    for folder in ("1_one", "1_two"):
        save(tmp_path / "set" / folder / "a.png")
    gradient(tmp_path / "masks" / "a.png", 64, 64)
    masks = masks_of(scan(find_folders(tmp_path / "set")), tmp_path / "masks")
    (problem,) = masks.problems
    assert "2 pictures" in str(problem)


def test_bad_mask_files(found: Scan, tmp_path: Path) -> None:
    gradient(tmp_path / "masks" / "a.png", 80, 100)
    Image.new("L", (100, 80)).save(tmp_path / "masks" / "b.png")
    (tmp_path / "masks" / "c.png").write_bytes(b"<html>")
    problems = check_masks(masks_of(found, tmp_path / "masks"), found.images)
    assert [Path(problem.where).stem for problem in problems] == ["a", "b", "c"]
    said = [str(problem) for problem in problems]
    for text, words in zip(said, ("another shape", "all black", "web page"), strict=True):
        assert words in text


def test_alpha_is_the_mask_of_images_that_have_it(tmp_path: Path, save: Save) -> None:
    opaque = save(tmp_path / "set" / "opaque.png", 64, 64)
    clear = tmp_path / "set" / "clear.png"
    layer = Image.open(opaque).convert("RGBA")
    alpha = Image.fromarray(gradient(tmp_path / "alpha.png", 64, 64))
    layer.putalpha(alpha)
    layer.save(clear)
    found = scan(find_folders(tmp_path / "set"))
    masks = find_masks("alpha", None, found.images, found.folders)
    assert masks.by_image == {clear: Mask(clear, alpha=True)}
    assert np.array_equal(np.asarray(load_alpha(clear)), np.asarray(alpha))
    assert np.asarray(load_alpha(opaque)).min() == 255
    dataset = build_dataset(found, plan_buckets(64, 64), masks=masks.by_image)
    assert dataset.masked
    by_name = {item.image.path.stem: item for item in dataset.items}
    plain = next(dataset.views_of(by_name["opaque"]).all())
    assert torch.equal(mask_tensor(by_name["opaque"], plain, 8), torch.ones(1, 8, 8))
    expected = np.asarray(alpha).reshape(8, 8, 8, 8).mean((1, 3)) / 255
    assert np.allclose(mask_tensor(by_name["clear"], plain, 8)[0], expected, atol=1e-6)


def test_a_image_that_is_transparent_all_over_is_a_mistake(tmp_path: Path, save: Save) -> None:
    for name, alpha in (("clear", 0), ("half", 128)):
        image = Image.open(save(tmp_path / "set" / f"{name}.png", 64, 64)).convert("RGBA")
        image.putalpha(alpha)
        image.save(tmp_path / "set" / f"{name}.png")
    found = scan(find_folders(tmp_path / "set"))
    masks = find_masks("alpha", None, found.images, found.folders)
    (problem,) = check_masks(masks, found.images)
    assert "clear.png" in str(problem)
    assert "nothing of it is learned" in str(problem)


def test_nothing_is_masked_by_alpha_that_is_not_there(found: Scan) -> None:
    masks = find_masks("alpha", None, found.images, found.folders)
    assert masks.by_image == {}
    assert "no picture has an alpha channel" in str(masks.warnings[0])
    assert find_masks("off", Path("x"), found.images, found.folders) == Masks({})


def masked_dataset(folder: Path, augmentation: AugmentSettings) -> Dataset:
    """An image that is its own mask, so that both must end alike."""
    name = "a_0300_0200_0080_0090.png"
    gradient(folder / "set" / name, 600, 420, "RGB")
    gradient(folder / "masks" / name, 600, 420)
    found = scan(find_folders(folder / "set"))
    masks = find_masks("folder", folder / "masks", found.images, found.folders)
    return build_dataset(
        found, plan_buckets(128, 128), augmentation=augmentation, masks=masks.by_image
    )


def test_the_mask_goes_through_scaling_crop_and_mirroring(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path, EVERYTHING.model_copy(update={"colour": 0.0}))
    (item,) = dataset.items
    assert item.mask is not None
    views = list(dataset.views_of(item).all())
    assert len(set(views)) == 2 * (1 + 4 + 3)
    for view in views:
        image = render(item.image.path, view)[:, :, 0]
        assert np.array_equal(render_mask(item.mask, view) * 255, image.astype(np.float32))
        height, width = image.shape
        expected = image.reshape(height // 8, 8, width // 8, 8).mean((1, 3)) / 255
        assert np.allclose(render_mask(item.mask, view, 8), expected, atol=1e-6)


def test_cached_masks_are_those_worked_out_on_the_spot(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path, EVERYTHING)
    store = TensorStore(tmp_path / "cache")
    first = cache_masks(dataset, store, 8, rank=0, world_size=2)
    assert len(store) < len(set(first.values()))
    keys = cache_masks(dataset, store, 8, rank=1, world_size=2)
    assert store.missing(keys.values()) == []
    for (index, view), key in keys.items():
        assert torch.equal(store.get(key)["mask"], mask_tensor(dataset.items[index], view, 8))
    gradient(tmp_path / "masks" / "a_0300_0200_0080_0090.png", 300, 210)
    changed = cache_masks(dataset, store, 8)
    assert not set(changed.values()) & set(keys.values()), "another mask, other entries"
