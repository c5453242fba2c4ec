"""Masks, control images and previews beside images are told apart from images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.data.augmentation.masks import find_masks
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.scan import Scan, scan

Save = Callable[..., Path]


def grey(path: Path, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((64, 64)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def names(found: Scan) -> list[str]:
    return [image.path.name for image in found.images]


def masks(found: Scan) -> dict[str, str]:
    return {image.name: mask.name for image, mask in found.masks.items()}


@pytest.mark.parametrize(
    "mask",
    ["a-masklabel.png", "a-MaskLabel.PNG", "a.mask.png", "a_mask.png", "a-mask.jpg", "a mask.webp",
     "a.png.mask.png", "a_loss_mask.png", "a_mask.tif", "masks/a.png", "mask/a.jpg",
     "masks/a_mask.png",
     "../masks/1_zorp/a.png", "../masks/a.png", "../mask/a-masklabel.png",
     "a__mask.png", "a_-mask.png", "a(mask).png", "a [mask].png", "a_alpha.png", "a.matte.png",
     "a_hair_mask.png", "a-blurred-mask.png", "mask_a.png", "Mask-a.png", "a_mask_0.png",
     "Masks/a.png", "loss_masks/a.png", "MASK/a_mask.png", "../Masks/a.png"],
)  # fmt: skip
def test_masks_of_every_habit(tmp_path: Path, save: Save, mask: str) -> None:
    folder = tmp_path / "1_zorp"
    for name in ("a.png", "b.png"):
        save(folder / name, caption="zorp")
    grey(folder / mask)
    found = scan(find_folders(tmp_path))
    assert names(found) == ["a.png", "b.png"]
    assert masks(found) == {"a.png": Path(mask).name}
    assert not any("not used" in warning.what for warning in found.warnings)


@pytest.mark.parametrize(
    ("other", "kind"),
    [("a-condlabel.png", "control image"), ("a_depth.png", "control image"),
     ("a.canny.jpg", "control image"), ("a.preview.png", "preview"),
     ("a.thumb.jpg", "preview"), ("a_thumbnail.webp", "preview")],
)  # fmt: skip
def test_control_images_and_previews_are_left_out_and_said(
    tmp_path: Path, save: Save, other: str, kind: str
) -> None:
    for name in ("a.png", other):
        save(tmp_path / name)
    found = scan([FolderSpec(tmp_path)])
    assert names(found) == ["a.png"]
    assert [entry.reason for entry in found.ignored] == [f"a {kind} of another picture"]
    assert any(f"1 {kind} is left out ({other})" in warning.what for warning in found.warnings)


@pytest.mark.parametrize(
    "name", ["x_mask.png", "gas mask.png", "thumb.png", "mask.png", "a_masked.png", "amask.png"]
)
def test_a_image_without_an_owner_is_a_image(tmp_path: Path, save: Save, name: str) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / name)
    found = scan([FolderSpec(tmp_path)])
    assert sorted(names(found)) == sorted(["a.png", name])
    assert not found.masks


@pytest.mark.parametrize(
    ("image", "mask"),
    [("ComfyUI_00001_.png", "ComfyUI_00001__mask.png"),
     ("zorp_00001_.png", "zorp_mask_00001_.png"), ("image_0001.png", "mask_0001.png"),
     ("ComfyUI_00001_.png", "mask_00001_.png"), ("a_b.png", "a_b_mask.png")],
)  # fmt: skip
def test_masks_that_are_numbered_like_their_images(
    tmp_path: Path, save: Save, image: str, mask: str
) -> None:
    for name in (image, "a.png"):
        save(tmp_path / name)
    grey(tmp_path / mask)
    found = scan([FolderSpec(tmp_path)])
    assert sorted(names(found)) == sorted([image, "a.png"])
    assert masks(found) == {image: mask}


@pytest.mark.parametrize("name", ["cat_gas_mask.png", "mask_cat.png", "catmask.png"])
def test_names_that_say_little_are_believed_of_grey_images_alone(
    tmp_path: Path, save: Save, name: str
) -> None:
    save(tmp_path / "cat.png")
    save(tmp_path / name)
    assert sorted(names(scan([FolderSpec(tmp_path)]))) == sorted(["cat.png", name])


@pytest.mark.parametrize("name", ["gone_mask.png", "mask_gone.png", "gone.mask.png"])
def test_black_and_white_named_mask_is_no_image_without_one_either(
    tmp_path: Path, save: Save, name: str
) -> None:
    save(tmp_path / "a.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 16, 48, 48))
    mask.save(tmp_path / name)
    found = scan([FolderSpec(tmp_path)])
    assert names(found) == ["a.png"]
    assert any(f"1 mask is left out ({name})" in warning.what for warning in found.warnings)
    grey(tmp_path / name)  # Black to white through all greys: a photograph may be that.
    assert len(names(scan([FolderSpec(tmp_path)]))) == 2


@pytest.mark.parametrize("own", ["red_mask.png.txt", "metadata.jsonl"])
def test_captions_of_every_kind_tell_a_image_from_a_mask(
    tmp_path: Path, save: Save, own: str
) -> None:
    save(tmp_path / "red.png", caption="red")
    save(tmp_path / "red_mask.png")
    row = '{"file_name": "red_mask.png", "text": "a red mask"}'
    (tmp_path / own).write_text(row if own.endswith("l") else "a red mask")
    assert names(scan([FolderSpec(tmp_path)])) == ["red.png", "red_mask.png"]


def test_a_mask_whose_image_is_gone_is_no_image(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    grey(tmp_path / "gone-masklabel.png")
    found = scan([FolderSpec(tmp_path)])
    assert names(found) == ["a.png"]
    assert any("1 mask is left out" in warning.what for warning in found.warnings)


def test_a_caption_of_its_own_tells_a_coloured_image_from_a_mask(
    tmp_path: Path, save: Save
) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name, caption="zorp")
    save(tmp_path / "a_mask.png", caption="zorp with a mask")
    grey(tmp_path / "b_mask.png", caption="a tagger ran over all files")
    found = scan([FolderSpec(tmp_path)])
    assert names(found) == ["a.png", "a_mask.png", "b.png"]
    assert masks(found) == {"b.png": "b_mask.png"}


def test_masks_beside_are_used_when_masks_are_on(tmp_path: Path, save: Save) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    grey(tmp_path / "a-masklabel.png")
    grey(tmp_path / "masks" / "b.png")
    found = scan([FolderSpec(tmp_path)])
    arguments = (None, found.images, found.folders, found.masks)
    used = find_masks("beside", *arguments)
    assert {path.name: mask.path.name for path, mask in used.by_image.items()} == {
        "a.png": "a-masklabel.png", "b.png": "b.png",
    }  # fmt: skip
    assert not used.problems
    assert "learned whole: 1 of 3 (c.png)" in used.warnings[0].what
    assert find_masks("off", *arguments).by_image == {}
    dataset = build_dataset(found, plan_buckets(64, 64), masks=used.by_image)
    assert [item.mask is not None for item in dataset.items] == [True, True, False]


def test_no_mask_beside_any_image_is_a_mistake(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    found = scan([FolderSpec(tmp_path)])
    (problem,) = find_masks("beside", None, found.images, found.folders, found.masks).problems
    assert problem.where == "loss.masked"


def test_a_mask_folder_may_hold_marked_names_and_the_images(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    grey(tmp_path / "a-masklabel.png")
    found = scan([FolderSpec(tmp_path)])
    used = find_masks("folder", tmp_path, found.images, found.folders)
    assert [mask.path.name for mask in used.by_image.values()] == ["a-masklabel.png"]


def test_images_in_folders_within_are_said_with_their_number(tmp_path: Path, save: Save) -> None:
    folder = tmp_path / "10_zorp"
    for name in ("a.png", "more/b.png", "more/c.jpg", "more/deep/d.png", "old/e.png", ".x/f.png"):
        save(folder / name)
    (folder / "empty").mkdir()
    found = scan(find_folders(tmp_path))
    assert names(found) == ["a.png"]
    (warning,) = [one for one in found.warnings if "not used" in one.what]
    assert warning.where == str(folder)
    assert warning.what == "4 pictures are not used, in 2 folders within it (more: 3, old: 1)"
    assert {entry.path.name for entry in found.ignored} == {"more", "old", "empty"}


def test_a_folder_that_is_used_is_not_said_to_be_lost(tmp_path: Path, save: Save) -> None:
    for name in ("a.png", "reg/1_one/r.png"):
        save(tmp_path / name)
    found = scan(find_folders(tmp_path))
    assert len(found.images) == 2
    assert not any("not used" in warning.what for warning in found.warnings)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zorp_10", "10_zorp"),
        ("zorp-5", "5_zorp"),
        ("zorp x10", "10_zorp"),
        ("zorp (7)", "7_zorp"),
        ("10 zorp", "10_zorp"),
        ("10-zorp girl", "10_zorp girl"),
        ("10x_zorp", "10_zorp"),
        ("more", "10_more"),
        ("1girl", "10_1girl"),
        ("zorp2", "10_zorp2"),
        ("2023 trip", "10_2023 trip"),
    ],
)
def test_folders_beside_are_said_with_their_number(
    tmp_path: Path, save: Save, name: str, hint: str
) -> None:
    for path in ("1_a/a.png", f"{name}/b.png", f"{name}/in/c.png"):
        save(tmp_path / path)
    (warning,) = scan(find_folders(tmp_path)).warnings
    assert "2 pictures are not used" in warning.what
    assert warning.hint == f"rename it, as in {hint}"
