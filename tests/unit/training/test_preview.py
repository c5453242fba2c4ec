from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.data.augmentation.masks import Mask
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.training.preview import MASK_STRIPES, preview_sheet


def test_the_sheet_shows_the_uses_in_their_order(tmp_path: Path) -> None:
    """Left half red, right half blue: a mirrored use has them the other way round."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 255
    (tmp_path / "2_a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "2_a" / "a.png")
    dataset = build_dataset(
        scan(find_folders(tmp_path)), plan_buckets(64, 64), augmentation=AugmentSettings(flip=True)
    )
    sheet = np.asarray(preview_sheet(dataset, seed=3, uses=10, side=64))
    row = sheet[sheet.shape[0] - 40]
    starts = [x for x in range(1, len(row)) if is_pure(row[x]) and not is_pure(row[x - 1])]
    assert len(starts) == 10
    flips = [
        dataset.view_for(dataset.samples[use % 2], seed=3, epoch=use // 2).flip for use in range(10)
    ]
    assert len(set(flips)) == 2
    assert [bool(row[x][2] == 255) for x in starts] == flips


def test_recorded_crops_are_shown(tmp_path: Path) -> None:
    """Blue but for the box, which is red."""
    image = Image.new("RGB", (160, 120), "blue")
    image.paste("red", (40, 30, 104, 94))
    image.save(tmp_path / "a.png")
    (tmp_path / "a.crop.json").write_text('{"box": [40, 30, 104, 94], "size": [160, 120]}')
    dataset = build_dataset(scan(find_folders(tmp_path)), plan_buckets(64, 64))
    sheet = np.asarray(preview_sheet(dataset, seed=0, uses=1, side=64))
    assert (sheet[-68:-4, -68:-4] == (255, 0, 0)).all()


def is_pure(pixel: np.ndarray) -> bool:
    return pixel.tolist() in ([255, 0, 0], [0, 0, 255])


def test_what_is_masked_is_striped(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    mask = Image.new("L", (64, 64), 255)
    mask.paste(0, (0, 0, 64, 32))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "mask.bmp")
    found = scan(find_folders(tmp_path))
    masks = {tmp_path / "a.png": Mask(tmp_path / "masks" / "mask.bmp")}
    dataset = build_dataset(found, plan_buckets(64, 64), masks=masks)
    sheet = preview_sheet(dataset, seed=0, uses=1, side=64)
    image = np.asarray(sheet)[-68:-4, -68:-4].astype(int)
    assert (image[33:60] == 255).all()
    assert len(np.unique(image[:32].reshape(-1, 3), axis=0)) == len(MASK_STRIPES)
