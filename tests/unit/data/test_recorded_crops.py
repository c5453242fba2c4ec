"""Recorded crops: read, refused, and used by training as if the file had been cropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.errors import DatasetError
from lorasmith.data.augmentation.masks import Mask, check_masks, find_masks, render_mask
from lorasmith.data.augmentation.views import render
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache.latents import latent_keys, mask_keys
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.recorded_crops import (
    Region,
    crop_record_path,
    parse_region,
    read_crop_record,
)
from lorasmith.data.scan import Scan, scan

Save = Callable[..., Path]
BOX = (10, 20, 90, 84)


def record(image: Path, box: Sequence[int] = BOX, size: Sequence[int] = (128, 96)) -> Path:
    path = crop_record_path(image)
    path.write_text(json.dumps({"box": list(box), "size": list(size)}))
    return path


def dataset_of(folder: Path, **augmentation: object) -> tuple[Scan, Dataset]:
    images = scan([FolderSpec(folder)])
    images.require_usable()
    masks = find_masks("beside", None, images.images, images.folders, images.masks)
    settings = AugmentSettings.model_validate(augmentation)
    buckets = plan_buckets(64, 64)
    dataset = build_dataset(images, buckets, augmentation=settings, masks=masks.by_image)
    return images, dataset


def test_a_recorded_crop_trains_like_the_cropped_file(tmp_path: Path, save: Save) -> None:
    whole = save(tmp_path / "whole" / "a.png", 128, 96)
    cropped = tmp_path / "cropped" / "a.png"
    cropped.parent.mkdir()
    with Image.open(whole) as image:
        image.crop(BOX).save(cropped)
    record(whole)
    views = AugmentSettings(flip=True, random_crop=True, zoom=1.5, variants=3, colour=0.5)
    pixels = []
    for folder in (whole.parent, cropped.parent):
        _, dataset = dataset_of(folder, **views.model_dump())
        (item,) = dataset.items
        pixels.append([render(item.image.path, v) for v in dataset.views_of(item).all()])
    assert len(pixels[0]) == 6
    for ours, theirs in zip(*pixels, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_its_size_is_that_of_the_box(tmp_path: Path, save: Save) -> None:
    record(save(tmp_path / "a.png", 128, 96, caption="x"))
    images, dataset = dataset_of(tmp_path)
    (image,) = images.images
    assert (image.width, image.height, image.whole_size) == (80, 64, (128, 96))
    assert dataset.items[0].placement.original == (80, 64)
    assert not images.ignored


def test_masks_are_cropped_alike_at_their_own_scale(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "a.png", 128, 96)
    mask = np.zeros((48, 64), np.uint8)  # at half the size
    mask[10:42, 5:45] = 255  # the box itself
    Image.fromarray(mask).save(tmp_path / "a-masklabel.png")
    record(path)
    images, dataset = dataset_of(tmp_path)
    (item,) = dataset.items
    assert item.mask == Mask(tmp_path / "a-masklabel.png")
    (view,) = dataset.views_of(item).all()
    assert render_mask(item.mask, view).min() == 1
    masks = find_masks("beside", None, images.images, images.folders, images.masks)
    assert check_masks(masks, images.images) == []


def test_keys_of_latents_and_masks_change_with_the_record_and_no_others(
    tmp_path: Path, save: Save
) -> None:
    for name in ("a", "b"):
        Image.new("L", (128, 96), 255).save(tmp_path / f"{name}-masklabel.png")
        save(tmp_path / f"{name}.png", 128, 96)

    def keys() -> list[list[str]]:
        _, dataset = dataset_of(tmp_path)
        latents = latent_keys(dataset, vae_key="vae")
        return [list(latents.values()), list(mask_keys(dataset, 8).values())]

    before = keys()
    path = record(tmp_path / "a.png")
    first = keys()
    record(tmp_path / "a.png", (11, 20, 91, 84))
    second = keys()
    path.unlink()
    for kind in (0, 1):
        assert len({before[kind][0], first[kind][0], second[kind][0]}) == 3
        assert before[kind][1] == first[kind][1] == second[kind][1]
    assert keys() == before


def test_latent_keys_without_records_are_those_of_earlier_versions(
    tmp_path: Path,
) -> None:
    """A cache of gigabytes stays valid."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.bmp")
    _, dataset = dataset_of(tmp_path)
    (key,) = latent_keys(dataset, vae_key="vae").values()
    assert key == "a6406a159c3137c73f7f00e370fe7e00"


def test_a_face_in_the_name_moves_with_the_crop(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "a_0050_0052_0020_0020.png", 128, 96)
    record(path)
    _, dataset = dataset_of(tmp_path, face_crop=[1.5, 2.0])
    face = dataset.items[0].face
    assert face is not None
    assert (face.x, face.y, face.width) == (40, 32, 20)


def test_of_two_images_of_one_name_each_has_its_own(tmp_path: Path, save: Save) -> None:
    for name in ("a.png", "a.bmp"):
        save(tmp_path / name, 128, 96)
    (tmp_path / "a.bmp.crop.json").write_text('{"box": [0, 0, 64, 64], "size": [128, 96]}')
    images = {image.path.name: image.width for image in scan([FolderSpec(tmp_path)]).images}
    assert images == {"a.bmp": 64, "a.png": 128}
    assert crop_record_path(tmp_path / "a.bmp", shared=True).name == "a.bmp.crop.json"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"box": [10, 20, 90, 84], "size": [64, 96]}', "does not say"),
        ('{"box": [10, 20, 60, 84], "size": [64, 96]}', "was 64x96, and it is 128x96 now"),
        ('{"box": [10, 20, 10, 84], "size": [128, 96]}', "does not say"),
        ('{"box": [10.5, 20, 90, 84], "size": [128, 96]}', "does not say"),
        ('{"box": [-1, 20, 90, 84], "size": [128, 96]}', "does not say"),
        ('{"box": [10, 20, 90], "size": [128, 96]}', "does not say"),
        ('{"size": [128, 96]}', "does not say"),
        ("[]", "does not say"),
        ("nonsense", "does not say"),
        ('{"box": [0, 0, 15, 96], "size": [128, 96]}', "nothing to learn from"),
    ],
)
def test_records_that_cannot_be_used_forbid_training(
    tmp_path: Path, save: Save, text: str, what: str
) -> None:
    save(tmp_path / "a.png", 128, 96)
    (tmp_path / "a.crop.json").write_text(text)
    (problem,) = [p for p in scan([FolderSpec(tmp_path)]).problems if "a.crop.json" in p.where]
    assert what in problem.what
    assert problem.hint


def test_a_record_without_its_picture_is_said(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    record(tmp_path / "b.png")
    (ignored,) = scan([FolderSpec(tmp_path)]).ignored
    assert (ignored.path.name, ignored.reason) == ("b.crop.json", "a recorded crop, no picture")


def test_a_huge_record_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.crop.json"
    path.write_bytes(b" " * 100_000)
    with pytest.raises(DatasetError, match="does not say"):
        read_crop_record(path, (1, 1))


@given(st.data())
def test_regions_survive_json_and_lie_within_any_other_size(data: st.DataObject) -> None:
    width, height = data.draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    region = Region((left, top, right, bottom), (width, height))
    assert parse_region(json.dumps(region.to_json()).encode()) == region
    other = data.draw(st.tuples(st.integers(1, 500), st.integers(1, 500)))
    box = region.within(other)
    assert 0 <= box[0] < box[2] <= other[0]
    assert 0 <= box[1] < box[3] <= other[1]
    assert region.within((width, height)) == region.box
