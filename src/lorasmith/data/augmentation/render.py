"""The pixels of a view, and of its mask: the one way from a file to what training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lorasmith.data.augmentation.colour import recolour
from lorasmith.data.augmentation.masks import Mask, decoded_mask
from lorasmith.data.augmentation.views import View
from lorasmith.data.images import decoded_image, fit


def render(path: Path, view: View, background: str = "white") -> np.ndarray:
    """uint8 (H, W, 3), H and W those of the view's bucket.

    Args:
        path: the image.
        background: colour under transparent parts.

    Raises:
        DatasetError: the image cannot be decoded.
    """
    with decoded_image(path, background) as image:
        pixels = fit(image, view.placement.resized, view.placement.crop)
    if view.colour is not None:
        pixels = recolour(pixels, view.colour)
    return np.ascontiguousarray(pixels[:, ::-1]) if view.flip else pixels


def render_mask(mask: Mask, view: View, factor: int = 1) -> np.ndarray:
    """float32 (H / factor, W / factor) in [0, 1]: how much of each place is learned.

    Args:
        factor: pixels to a side of a latent pixel, which gets their mean.

    Raises:
        DatasetError: the mask cannot be decoded.
    """
    with decoded_mask(mask) as image:
        values = fit(image, view.placement.resized, view.placement.crop)[:, :, 0]
    values = values[:, ::-1] if view.flip else values
    height, width = values.shape
    blocks = values.reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean((1, 3), dtype=np.float32) / 255, np.float32)
