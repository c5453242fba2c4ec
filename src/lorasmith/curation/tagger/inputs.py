"""How a tagger takes an image: side, order of axes and of colours, range, padding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lorasmith.data.images import decoded_image
from lorasmith.data.recorded_crops import crop_record_beside, read_crop_record

Axes = Literal["NHWC", "NCHW"]
Padding = Literal["white", "edge"]


@dataclass(frozen=True, slots=True)
class InputFormat:
    """
    Args:
        side: of the square, in pixels.
        axes: the order of batch, rows, columns and colours.
        bgr: blue comes first.
        scale: what 0..255 is multiplied by.
        mean, std: after that, by colour in the order red, green, blue: ``(x - mean) / std``.
        padding: what an image that is no square is filled up with: white, as WD14 is trained, or
            its own edge.
    """

    side: int
    axes: Axes = "NHWC"
    bgr: bool = True
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: Padding = "white"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image's array."""
        side = self.side
        return (side, side, 3) if self.axes == "NHWC" else (3, side, side)

    @property
    def is_plain(self) -> bool:
        """Whether 0..255 is taken as it is."""
        return (self.scale, self.mean, self.std) == (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def __str__(self) -> str:
        order = "BGR" if self.bgr else "RGB"
        low, high = ((limit * self.scale - self.mean[0]) / self.std[0] for limit in (0, 255))
        return f"{self.side} px, {self.axes}, {order}, {low:.3g} to {high:.3g}"


def load_input(path: Path, form: InputFormat) -> np.ndarray:
    """An image file as the model takes it: transparent parts on white, upright; of one with a
    recorded crop the part that is used.

    Raises:
        DatasetError: the file is damaged or no image, or its record is.
    """
    with decoded_image(path) as image:
        record = crop_record_beside(path)
        if record is not None:
            image = image.crop(read_crop_record(record, image.size).box)
        return to_input(image, form)


def to_input(image: Image.Image, form: InputFormat) -> np.ndarray:
    """An RGB image as float32 of the form's shape.

    Padded first and then resized (bicubic, averaging where it shrinks), as SmilingWolf's own
    program does it.
    """
    square = pad_square(image, form.padding)
    if square.width != form.side:
        square = square.resize((form.side, form.side), Image.Resampling.BICUBIC)
    values = np.asarray(square, dtype=np.float32)
    if not form.is_plain:
        mean, std = np.asarray(form.mean, np.float32), np.asarray(form.std, np.float32)
        values = (values * np.float32(form.scale) - mean) / std
    if form.bgr:
        values = values[:, :, ::-1]
    if form.axes == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype=np.float32)


def pad_square(image: Image.Image, padding: Padding) -> Image.Image:
    """The image in the middle of a square; of an odd number of lines the larger part follows it."""
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    left, top = (side - width) // 2, (side - height) // 2
    if padding == "edge":
        margins = (top, side - height - top), (left, side - width - left), (0, 0)
        return Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(image, (left, top))
    return square
