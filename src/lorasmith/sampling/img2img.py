"""An image to begin with: fitting it, masking it, and putting it back together.

Shapes: H and W in pixels, h and w in latent elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from lorasmith.core.errors import PromptError
from lorasmith.data.images import load_image, read_header
from lorasmith.sampling.request import ImageRequest, Inpaint

Box = tuple[int, int, int, int]  # left, upper, right, lower; px


@dataclass(frozen=True, slots=True)
class Canvas:
    """An image that is ready to be drawn over.

    Args:
        pixels: (3, H, W) in [-1, 1].
        mask: (1, h, w) 1 where something is drawn; ``None`` everywhere.
        under: what the result is put onto, of the finished image's size.
        seam: "L", of that size: how much of the result shows.
        box: where on ``under`` the result belongs.
    """

    pixels: Tensor
    mask: Tensor | None = None
    under: Image.Image | None = None
    seam: Image.Image | None = None
    box: Box = (0, 0, 0, 0)

    def finish(self, drawn: Image.Image) -> Image.Image:
        """The result in its place."""
        if self.under is None or self.seam is None:
            return drawn
        left, upper, right, lower = self.box
        pasted = self.under.copy()
        pasted.paste(
            drawn.resize((right - left, lower - upper), Image.Resampling.LANCZOS), self.box
        )
        return Image.composite(pasted, self.under, self.seam)


def init_size(request: ImageRequest) -> tuple[int, int] | None:
    """The size that the image to begin with asks for; ``None`` without one, or where only a
    part of it is drawn.

    Raises:
        DatasetError: it is no image.
    """
    if request.init is None or (request.inpaint and request.inpaint.padding is not None):
        return None
    header = read_header(request.init)
    return header.width, header.height


def open_canvas(request: ImageRequest, width: int, height: int, factor: int) -> Canvas:
    """The request's image at the size that is drawn.

    It is enlarged or shrunk to cover that size; what is too much at two sides is cut off.

    Args:
        width, height: px, multiples of ``factor``.
        factor: pixels per latent element.

    Raises:
        DatasetError: the image or the mask cannot be read.
        PromptError: the mask is black all over.
    """
    assert request.init is not None, "no picture to begin with"
    image = load_image(request.init)
    if request.inpaint is None:
        return Canvas(_pixels(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)))
    return _masked(image, request.inpaint, width, height, factor)


def _masked(image: Image.Image, inpaint: Inpaint, width: int, height: int, factor: int) -> Canvas:
    mask = _mask(inpaint.mask, image.size)
    if inpaint.padding is None:
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        mask = ImageOps.fit(mask, (width, height), Image.Resampling.BOX)
        box = (0, 0, width, height)
    else:
        bounds = mask.getbbox()
        assert bounds is not None, "an empty mask"
        box = region(bounds, inpaint.padding, width / height, image.size)
    part = image.crop(box).resize((width, height), Image.Resampling.LANCZOS)
    cells = mask.crop(box).resize((width // factor, height // factor), Image.Resampling.BOX)
    # A cell that the mask so much as touches is drawn: the seam hides what is too much.
    drawn_cells = torch.from_numpy(np.asarray(cells, np.float32) > 0).float()[None]
    seam = mask.filter(ImageFilter.GaussianBlur(inpaint.blur)) if inpaint.blur else mask
    return Canvas(_pixels(part), drawn_cells, image, _within(seam, box), box)


def _within(seam: Image.Image, box: Box) -> Image.Image:
    """Nothing shows outside of ``box``, where nothing was drawn."""
    inside = Image.new("L", seam.size, 0)
    inside.paste(255, box)
    return ImageChops.multiply(seam, inside)


def _mask(path: Path, size: tuple[int, int]) -> Image.Image:
    mask = load_image(path, "black").convert("L")
    mask = mask.point([0] * 128 + [255] * 128)
    if mask.size != size:
        mask = ImageOps.fit(mask, size, Image.Resampling.NEAREST)
    if mask.getbbox() is None:
        hint = "paint white what is to be drawn"
        raise PromptError.of(path, "the mask is black all over", hint)
    return mask


def region(bounds: Box, padding: int, aspect: float, size: tuple[int, int]) -> Box:
    """``bounds`` with ``padding`` px around it, widened or heightened to ``aspect`` as far as
    the image's ``size`` goes."""
    left, upper, right, lower = bounds
    width, height = right - left + 2 * padding, lower - upper + 2 * padding
    if width < height * aspect:
        width = round(height * aspect)
    else:
        height = round(width / aspect)
    width, height = min(width, size[0]), min(height, size[1])
    left = min(max((left + right - width) // 2, 0), size[0] - width)
    upper = min(max((upper + lower - height) // 2, 0), size[1] - height)
    return left, upper, left + width, upper + height


def check_images(request: ImageRequest) -> None:
    """Look at the image to begin with and at its mask.

    Raises:
        DatasetError: one of them is no image.
        PromptError: the mask is black all over.
    """
    if request.init is None:
        return
    header = read_header(request.init)
    if request.inpaint is not None:
        _mask(request.inpaint.mask, (header.width, header.height))


def _pixels(image: Image.Image) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    values = torch.from_numpy(np.array(image.convert("RGB"), np.float32))
    return values.permute(2, 0, 1) / 127.5 - 1.0


def pixels_of(images: list[Image.Image]) -> Tensor:
    """(B, 3, H, W) in [-1, 1] of images of one size."""
    return torch.stack([_pixels(image) for image in images])
