"""A sheet of what training sees of its images: crops, mirror images, colours, masks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lorasmith.data.augmentation.masks import render_mask
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.dataset import Dataset, Item, SampleRef
from lorasmith.sampling.contact_sheet import contact_sheet

# What is not learned shows through this much of a pattern that no image has.
MASK_STRENGTH = 0.85
MASK_STRIPES = ((255, 0, 255), (40, 40, 40))
STRIPE_WIDTH = 4

NAME_LENGTH = 40


def preview_sheet(
    dataset: Dataset,
    *,
    seed: int,
    background: str = "white",
    images: int = 8,
    uses: int = 8,
    side: int = 128,
) -> Image.Image:
    """A row for each image, with what a run shows of it in its first uses, in their order.

    Args:
        dataset: at least one of its images is used.
        seed: the run's.
        background: colour under transparent images.
        images: rows, at most; regularisation images come after the others.
        uses: columns.
        side: longer side of each image on the sheet, px.

    Raises:
        DatasetError: an image or mask cannot be decoded.
    """
    items = [item for item in dataset.items if item.repeats][:images]
    rows = [
        [_shown(item, _view(dataset, item, use, seed), background, side) for use in range(uses)]
        for item in items
    ]
    return contact_sheet(
        rows,
        column_labels=[f"use {use + 1}" for use in range(uses)],
        row_labels=[_label(item) for item in items],
    )


def _view(dataset: Dataset, item: Item, use: int, seed: int) -> View:
    epoch, repeat = divmod(use, item.repeats)
    return dataset.view_for(_sample(dataset, item, repeat), seed=seed, epoch=epoch)


def _sample(dataset: Dataset, item: Item, repeat: int) -> SampleRef:
    before = sum(other.repeats for other in dataset.items[: item.index])
    return dataset.samples[before + repeat]


def _shown(item: Item, view: View, background: str, side: int) -> Image.Image:
    pixels: np.ndarray = render(item.image.path, view, background).astype(np.float32)
    if item.mask is not None:
        hidden = MASK_STRENGTH * (1 - render_mask(item.mask, view)[:, :, None])
        pixels = pixels * (1 - hidden) + _stripes(pixels.shape[0], pixels.shape[1]) * hidden
    image = Image.fromarray((pixels + 0.5).astype(np.uint8))
    factor = side / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return image.resize(size, method)


def _stripes(height: int, width: int) -> np.ndarray:
    """float32 (H, W, 3), diagonal."""
    number = (np.arange(height)[:, None] + np.arange(width)[None]) // STRIPE_WIDTH % 2
    return np.asarray(MASK_STRIPES, np.float32)[number]


def _label(item: Item) -> str:
    name = item.image.path.stem
    name = name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
    width, height = item.placement.bucket
    crop = " (recorded crop)" if item.image.region is not None else ""
    return f"{name} {width}x{height}{crop}"
