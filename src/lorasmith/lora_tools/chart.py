"""A LoRA's norms by block as a picture. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

# Sizes in pixels of the finished picture, which is drawn larger and scaled down.
ROW, LABEL, FIELD, VALUE, EDGE, HEAD = 22, 64, 460, 90, 16, 44
SCALE = 3
INK, PALE, GRID = "#1f2933", "#616e7c", "#dfe4ea"
COLOURS = {"BASE": "#8a63d2", "IN": "#1f6feb", "M": "#d29922", "OUT": "#2da44e"}


def draw_blocks(blocks: Mapping[str, float], title: str) -> Image.Image:
    """One bar for each block, as long as its norm; RGB."""
    width, height = EDGE + LABEL + FIELD + VALUE, HEAD + ROW * len(blocks) + EDGE
    picture = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    _write(draw, title, (EDGE, EDGE), "la", 15, INK)
    largest = max(blocks.values(), default=0.0) or 1.0
    left = EDGE + LABEL
    for row, (block, norm) in enumerate(blocks.items()):
        top = HEAD + row * ROW
        middle = top + ROW / 2
        length = FIELD * norm / largest
        _write(draw, block, (EDGE, middle), "lm", 12, INK)
        _box(draw, left, top + 3, left + FIELD, top + ROW - 3, GRID)
        if length >= 1:
            _box(draw, left, top + 3, left + length, top + ROW - 3, colour_of(block))
        _write(draw, f"{norm:.3g}", (left + FIELD + 8, middle), "lm", 12, PALE)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def colour_of(block: str) -> str:
    return next(colour for beginning, colour in COLOURS.items() if block.startswith(beginning))


def _box(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, colour: str
) -> None:
    draw.rectangle([value * SCALE for value in (left, top, right, bottom)], fill=colour)


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    at: tuple[float, float],
    anchor: str,
    size: int,
    colour: str,
) -> None:
    font = ImageFont.load_default(size * SCALE)
    draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=colour, font=font, anchor=anchor)
