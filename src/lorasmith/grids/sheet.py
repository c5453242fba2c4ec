"""All images of a grid on one sheet, with labels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from lorasmith.core.files import atomic_path
from lorasmith.data.images import load_image, read_header
from lorasmith.grids.plan import Grid
from lorasmith.sampling.contact_sheet import PAPER, contact_sheet

# A PNG of more is one that Pillow warns of as a possible attack, and few viewers show.
MOST_PIXELS = 80_000_000
# What the format can hold along a side.
WEBP_SIDE = 16_383
# Smaller images are enlarged to about this width, so that labels have room.
LEAST_WIDTH = 128
# What a label needs beside the images, px.
_LABEL_SPACE = 200

Places = Mapping[tuple[int, int, int], Path]


def draw_sheet(grid: Grid, images: Places) -> Image.Image:
    """RGB; a page under the other for each place of z. Missing images are grey.

    Args:
        images: files by their places, at least one.
    """
    columns, rows, pages = (len(axis.values) for axis in grid.axes)
    widths, heights = zip(*(_size(path) for path in set(images.values())), strict=True)
    scale = _scale(max(widths), max(heights), columns, rows, pages)
    sheets = [_page(grid, images, page, scale, round(max(widths) * scale)) for page in range(pages)]
    if len(sheets) == 1:
        return sheets[0]
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    whole = Image.new("RGB", size, PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def _size(path: Path) -> tuple[int, int]:
    header = read_header(path)
    return header.width, header.height


def _scale(width: int, height: int, columns: int, rows: int, pages: int) -> float:
    """By how much to enlarge (a whole number) or reduce the images."""
    enlarged = max(1, round(LEAST_WIDTH / width))
    across, down = columns * width, rows * pages * height
    fitting = min(
        (MOST_PIXELS / (across * down)) ** 0.5,
        (2**16 - 1 - _LABEL_SPACE) / across,
        (2**16 - 1 - _LABEL_SPACE * pages) / down,
    )
    return float(enlarged) if enlarged <= fitting else min(1.0, 0.95 * fitting)


def _page(grid: Grid, images: Places, page: int, scale: float, width: int) -> Image.Image:
    x, y, z = grid.axes
    rows = [
        [_opened(images.get((column, row, page)), scale) for column in range(len(x.values))]
        for row in range(len(y.values))
    ]
    if all(image is None for row in rows for image in row):
        rows[0][0] = Image.new("RGB", (width, width), PAPER)
    about = [f"columns: {x.title}" * bool(x.kind), f"rows: {y.title}" * bool(y.kind)]
    heading = ", ".join(part for part in about if part)
    if z.kind:
        heading = f"{z.title}: {z.values[page].label}   ({heading})"
    prompt = grid.base.request.prompt if page == 0 else ""
    room = max(40, len(x.values) * width // 7)
    lines = textwrap.wrap(prompt, room, max_lines=3, placeholder=" …") + textwrap.wrap(
        heading, room
    )
    return contact_sheet(
        rows,
        column_labels=[value.label for value in x.values] if x.kind else (),
        row_labels=[value.label for value in y.values] if y.kind else (),
        title="\n".join(lines),
    )


def _opened(path: Path | None, scale: float) -> Image.Image | None:
    """At its size on the sheet, so that a grid of large images is never whole in memory."""
    if path is None:
        return None
    image = load_image(path)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize(size, method)


def save_sheet(sheet: Image.Image, png: Path, webp: Path) -> None:
    """As PNG, and as WebP, which is made smaller where the format cannot hold it."""
    with atomic_path(png) as temporary:
        sheet.save(temporary, format="PNG")
    factor = min(1.0, WEBP_SIDE / max(sheet.size))
    if factor < 1:
        sheet = sheet.resize((int(sheet.width * factor), int(sheet.height * factor)))
    with atomic_path(webp) as temporary:
        sheet.save(temporary, format="WEBP", quality=90, method=4)
