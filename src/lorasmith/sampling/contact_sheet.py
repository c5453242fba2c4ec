"""Labelled grids of images: rows and columns with a caption each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from lorasmith.core.canvas import font_of

PAPER = (255, 255, 255)
INK = (32, 32, 32)
EMPTY = (238, 238, 238)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    *,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    title: str = "",
    scale: float = 1.0,
    gap: int = 4,
    font_size: int = 13,
) -> Image.Image:
    """One RGB image of a table of images.

    Args:
        rows: images by row; ``None`` leaves a grey place. Rows may differ in length.
        column_labels, row_labels: a text above each column and left of each row; may be fewer.
        scale: of all images; see :func:`scaled`.
        gap: pixels between places.
        font_size: in pixels.
    """
    columns = max((len(row) for row in rows), default=0)
    assert columns, "a sheet without a picture"
    rows = [[image and scaled(image, scale) for image in row] for row in rows]
    images = [image for row in rows for image in row if image is not None]
    width = max((image.width for image in images), default=64)
    height = max((image.height for image in images), default=64)
    font = font_of(font_size)
    side = _wrapped(row_labels, 22)
    left = max((_text_size(text, font)[0] for text in side), default=0)
    top_texts = _wrapped(column_labels, max(6, int(width / (0.52 * font_size))))
    head = _text_size(title, font)[1] + 3 * gap if title else gap
    top = head + max((_text_size(text, font)[1] + 2 * gap for text in top_texts), default=0)
    left = left + 3 * gap if side else gap

    right = left + columns * (width + gap)
    right = max(right, _text_size(title, font)[0] + 2 * gap)
    sheet = Image.new("RGB", (right, top + len(rows) * (height + gap)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), title, INK, font)
    for x, text in enumerate(top_texts[:columns]):
        middle = left + x * (width + gap) + width // 2
        draw.text((middle, top - gap), text, INK, font, anchor="md", align="center")
    for y, row in enumerate(rows):
        upper = top + y * (height + gap)
        if y < len(side):
            draw.text(
                (left - 2 * gap, upper + height // 2), side[y], INK, font, "rm", align="right"
            )
        for x in range(columns):
            place = (left + x * (width + gap), upper)
            _put(sheet, row[x] if x < len(row) else None, place, (width, height))
    return sheet


def _put(
    sheet: Image.Image,
    image: Image.Image | None,
    place: tuple[int, int],
    size: tuple[int, int],
) -> None:
    if image is None:
        sheet.paste(EMPTY, (*place, place[0] + size[0], place[1] + size[1]))
        return
    x = place[0] + (size[0] - image.width) // 2
    y = place[1] + (size[1] - image.height) // 2
    sheet.paste(image.convert("RGB"), (x, y))


def scaled(image: Image.Image, scale: float) -> Image.Image:
    """An image so many times as large; growing repeats pixels, so that one sees what there is."""
    if scale == 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize(size, method)


def _wrapped(labels: Sequence[str], width: int) -> list[str]:
    return [
        "\n".join(textwrap.wrap(label, width, max_lines=4, placeholder=" …")) for label in labels
    ]


def _text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Width and height in pixels; lines are separated by line breaks."""
    if not text:
        return 0, 0
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    return int(box[2]) + 1, int(box[3]) + 1
