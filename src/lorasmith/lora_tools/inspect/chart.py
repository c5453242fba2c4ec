"""A LoRA's norms by block as an image. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image

from lorasmith.core.canvas import GRID, PALE, Canvas

# Sizes in pixels.
ROW, LABEL, FIELD, VALUE, EDGE, HEAD = 22, 64, 460, 90, 16, 44
COLOURS = {"BASE": "#8a63d2", "IN": "#1f6feb", "M": "#d29922", "OUT": "#2da44e"}


def draw_blocks(blocks: Mapping[str, float], title: str) -> Image.Image:
    """One bar for each block, as long as its norm; RGB."""
    canvas = Canvas(EDGE + LABEL + FIELD + VALUE, HEAD + ROW * len(blocks) + EDGE)
    canvas.text(title, (EDGE, EDGE), 15)
    largest = max(blocks.values(), default=0.0) or 1.0
    left = EDGE + LABEL
    for row, (block, norm) in enumerate(blocks.items()):
        top = HEAD + row * ROW
        middle = top + ROW / 2
        length = FIELD * norm / largest
        canvas.text(block, (EDGE, middle), 12, anchor="lm")
        canvas.box(left, top + 3, left + FIELD, top + ROW - 3, GRID)
        if length >= 1:
            canvas.box(left, top + 3, left + length, top + ROW - 3, colour_of(block))
        canvas.text(f"{norm:.3g}", (left + FIELD + 8, middle), 12, PALE, anchor="lm")
    return canvas.image()


def colour_of(block: str) -> str:
    return next(colour for beginning, colour in COLOURS.items() if block.startswith(beginning))
