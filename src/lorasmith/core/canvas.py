"""What charts are drawn on: smooth lines and text, in the finished image's pixels. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

INK, PALE, GRID = "#1f2933", "#616e7c", "#dfe4ea"

# Drawn so many times larger and scaled down, which smooths the lines.
_SCALE = 3

Point = tuple[float, float]


class Canvas:
    """A white image; places and sizes are in its pixels, y going down."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self._draw.rectangle(_scaled(left, top, right, bottom), fill=colour)

    def line(self, points: Sequence[Point], colour: str, width: float = 1.0) -> None:
        flat = _scaled(*(value for point in points for value in point))
        self._draw.line(flat, fill=colour, width=round(width * _SCALE), joint="curve")

    def dot(self, at: Point, radius: float, colour: str) -> None:
        (x, y), r = at, radius
        self._draw.ellipse(_scaled(x - r, y - r, x + r, y + r), fill=colour)

    def text(
        self, text: str, at: Point, size: int, colour: str = INK, *, anchor: str = "la"
    ) -> None:
        """
        Args:
            anchor: which point of the text is at ``at``, in Pillow's two letters.
        """
        place = at[0] * _SCALE, at[1] * _SCALE
        self._draw.text(place, text, fill=colour, font=font_of(size * _SCALE), anchor=anchor)

    def image(self) -> Image.Image:
        """What was drawn, RGB."""
        return self._image.resize(self._size, Image.Resampling.LANCZOS)


def _scaled(*values: float) -> list[float]:
    return [value * _SCALE for value in values]


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, of so many pixels."""
    return ImageFont.load_default(size)
