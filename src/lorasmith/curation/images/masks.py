"""Loss masks made of images: white is learned, black is not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from lorasmith.curation.images.focus import find_saliency
from lorasmith.curation.images.image_file import read_image_file
from lorasmith.data.images import load_alpha, to_rgb

MaskSource = Literal["grey", "alpha", "subject"]
MASK_NAME = "{stem}-masklabel.png"
# Around the subject, of the longer side: what is learned should not end at its outline.
_ROOM = 0.02


def mask_path(image: Path) -> Path:
    """Where OneTrainer, taggui and the scan look for it."""
    return image.with_name(MASK_NAME.format(stem=image.stem))


def mask_from(path: Path, source: MaskSource, *, invert: bool = False) -> Image.Image:
    """A mask of the upright image, mode "L", of its size.

    Args:
        source: "grey" is the image in greys, "alpha" its transparency, "subject" what stands out
            from its border (white all over where nothing does).

    Raises:
        DatasetError: the image cannot be decoded.
    """
    if source == "alpha":
        mask = load_alpha(path)
    else:
        rgb = to_rgb(read_image_file(path).image, (255, 255, 255))
        mask = rgb.convert("L") if source == "grey" else subject_mask(rgb)
    return mask.point(lambda level: 255 - level) if invert else mask


def subject_mask(image: Image.Image) -> Image.Image:
    """What stands out from the border, with some room around it and soft edges; mode "L".

    Args:
        image: RGB.
    """
    parts = find_saliency(image).mask
    if not parts.any():
        return Image.new("L", image.size, 255)
    small = Image.fromarray(_filled(parts).astype(np.uint8) * 255)
    radius = max(1, round(_ROOM * max(small.size)))
    small = small.filter(ImageFilter.MaxFilter(2 * radius + 1))
    small = small.filter(ImageFilter.GaussianBlur(radius / 2))
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _filled(parts: np.ndarray) -> np.ndarray:
    """With what lies between two places of a row or a column: a plain shirt in its outline."""

    def between(places: np.ndarray, axis: int) -> np.ndarray:
        before = np.logical_or.accumulate(places, axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(places, axis), axis), axis)
        return before & behind

    return between(parts, 0) | between(parts, 1)
