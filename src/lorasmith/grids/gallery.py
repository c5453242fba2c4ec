"""What shows a grid: a page to compare its images in a browser, one sheet of all, and a record.

The page is one file, which can be sent to anyone: ``assets/grid.html`` with images and texts put
into it as JSON. Small ones are in it as they are; of a large grid it holds reduced ones, and shows
the whole files where they still lie beside it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from lorasmith.core.files import ASSETS, atomic_path, write_json, write_text
from lorasmith.data.image_texts import CHUNK
from lorasmith.data.images import load_image, open_image, read_header
from lorasmith.grids.axes import Axis, CellSpec
from lorasmith.grids.plan import Grid, SwapCost
from lorasmith.grids.record import (
    PAGE,
    RECORD,
    SHEET,
    SMALL_SHEET,
    THUMBNAILS,
    Thumbnails,
    digest_of,
)
from lorasmith.sampling.contact_sheet import PAPER, contact_sheet, scaled

Places = Mapping[tuple[int, int, int], Path]

TEMPLATE = ASSETS / "grid.html"
# What mail still takes, before base64 makes a third more of it.
MOST_BYTES = 15_000_000
# Up to this many pixels an image is kept bit for bit; it costs little.
SMALL = 128 * 128
QUALITY = 88
_TRIED = 8

# A PNG of more is one that Pillow warns of as a possible attack, and few viewers show.
MOST_PIXELS = 80_000_000
# What the format can hold along a side.
WEBP_SIDE = 16_383
# Smaller images are enlarged to about this width, so that labels have room.
LEAST_WIDTH = 128
# Of a thumbnail's longer side, px; and how many pixels all of them may have together.
THUMBNAIL = 96
MOST_OF_THUMBNAILS = 20_000_000
# What a label needs beside the images, px.
_LABEL_SPACE = 200


def write_gallery(
    folder: Path,
    grid: Grid,
    images: Places,
    digests: Mapping[CellSpec, str],
    *,
    drawn: int,
    switches: SwapCost,
) -> None:
    """Write all of it, unless there is no image.

    Args:
        images: files by their places, below ``folder``; missing ones are shown so.
        digests: of what the images are made from, which their files' names have.
        drawn, switches: what the record says of the work.
    """
    if not images:
        return
    write_page(folder / PAGE, grid, images)
    save_sheet(draw_sheet(grid, images), folder / SHEET, folder / SMALL_SHEET)
    small = write_thumbnails(folder / THUMBNAILS, list(dict.fromkeys(images.values())))
    write_record(folder, grid, images, digests, drawn=drawn, switches=switches, thumbnails=small)


def write_thumbnails(path: Path, files: list[Path]) -> Thumbnails | None:
    """Write all images small on one sheet; ``None``, and nothing, of more than pages show at once.

    Args:
        files: at least one, whose names have their digests.
    """
    widths, heights = zip(*map(_size, files), strict=True)
    scale = min(1.0, THUMBNAIL / max(*widths, *heights))
    width, height = (max(1, round(side * scale)) for side in (max(widths), max(heights)))
    if width * height * len(files) > MOST_OF_THUMBNAILS:
        return None
    columns = math.ceil(math.sqrt(len(files) * height / width))
    rows = math.ceil(len(files) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
    for number, file in enumerate(files):
        image = load_image(file).convert("RGB")
        image.thumbnail((width, height), Image.Resampling.BOX, reducing_gap=2.0)
        left = number % columns * width + (width - image.width) // 2
        sheet.paste(image, (left, number // columns * height + (height - image.height) // 2))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
    digests = tuple(digest_of(file.name) or "" for file in files)
    return Thumbnails(width, height, columns, digests)


def write_record(
    folder: Path,
    grid: Grid,
    images: Places,
    digests: Mapping[CellSpec, str],
    *,
    drawn: int,
    switches: SwapCost,
    thumbnails: Thumbnails | None = None,
) -> None:
    """Write what :func:`.read_grid` reads; the arguments are those of :func:`write_gallery`."""
    axes = [
        {
            "axis": axis.title,
            "name": axis.kind.name,
            "values": [value.label for value in axis.values],
        }
        | ({"files": files} if any(files := [_from(folder, v.file) for v in axis.values]) else {})
        for axis in grid.axes
        if axis.kind
    ]
    cells = [
        {
            "place": cell.place[: len(axes)],
            "labels": cell.labels,
            "prompt": cell.spec.request.prompt,
            "digest": digests[cell.spec],
        }
        | ({"file": path.relative_to(folder).as_posix()} if path else {})
        for cell in grid.cells
        for path in [images.get(cell.place)]
    ]
    title = grid.base.request.prompt
    record: dict[str, Any] = {"title": title, "axes": axes, "cells": cells, "drawn": drawn}
    record |= {"switches": asdict(switches)}
    if thumbnails is not None:
        record["thumbnails"] = asdict(thumbnails)
    write_json(folder / RECORD, record)


def _from(folder: Path, file: Path | None) -> str | None:
    """A file as seen from a folder, so that both may be moved together."""
    if file is None:
        return None
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # On another drive.
        return file.absolute().as_posix()


def write_page(path: Path, grid: Grid, images: Places) -> None:
    """Write the page.

    Args:
        images: files by their places, below the folder of ``path``; missing ones are shown so.
    """
    files = list(dict.fromkeys(images.values()))
    scale = _page_scale(files)
    title = grid.base.request.prompt or "grid"
    data: dict[str, Any] = {
        "title": title,
        "axes": [_axis(axis) for axis in grid.axes],
        "pictures": [_image(file, path.parent, scale) for file in files],
        "cells": {",".join(map(str, place)): files.index(file) for place, file in images.items()},
        "total": len(grid.cells),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    # "<" could end the script, the two others end a line in some.
    embedded = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        embedded = embedded.replace(character, f"\\u{ord(character):04x}")
    parts = {"title": html.escape(title[:80]), "data": embedded}
    text = re.sub(r"\{\{(title|data)\}\}", lambda match: parts[match[1]], text)
    write_text(path, text)


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.title, "values": [value.label for value in axis.values]}


def _page_scale(files: list[Path]) -> float:
    """By how much the images in the page are reduced; judged by some of them."""
    sample = files[:: max(1, len(files) // _TRIED)]
    each = sum(len(_encoded(file, 1.0)) for file in sample) / len(sample)
    return min(1.0, (MOST_BYTES / (each * len(files))) ** 0.5)


def _image(file: Path, folder: Path, scale: float) -> dict[str, Any]:
    with open_image(file) as image:
        (width, height), about = image.size, str(image.info.get(CHUNK, ""))
    encoded = base64.b64encode(_encoded(file, scale)).decode("ascii")
    return {
        "src": f"data:image/webp;base64,{encoded}",
        "file": file.relative_to(folder).as_posix(),
        "whole": scale == 1.0,
        "w": width,
        "h": height,
        "info": about,
    }


def _encoded(file: Path, scale: float) -> bytes:
    image = scaled(load_image(file), scale)
    buffer = io.BytesIO()
    small = scale == 1.0 and image.width * image.height <= SMALL
    image.save(buffer, format="WEBP", lossless=small, quality=QUALITY)
    return buffer.getvalue()


def draw_sheet(grid: Grid, images: Places) -> Image.Image:
    """RGB; a page under the other for each place of z. Missing images are grey.

    Args:
        images: files by their places, at least one.
    """
    columns, rows, pages = (len(axis.values) for axis in grid.axes)
    widths, heights = zip(*(_size(path) for path in set(images.values())), strict=True)
    scale = _sheet_scale(max(widths), max(heights), columns, rows, pages)
    sheets = [
        _sheet_page(grid, images, page, scale, round(max(widths) * scale)) for page in range(pages)
    ]
    if len(sheets) == 1:
        return sheets[0]
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    canvas = Image.new("RGB", size, PAPER)
    top = 0
    for sheet in sheets:
        canvas.paste(sheet, (0, top))
        top += sheet.height
    return canvas


def _size(path: Path) -> tuple[int, int]:
    header = read_header(path)
    return header.width, header.height


def _sheet_scale(width: int, height: int, columns: int, rows: int, pages: int) -> float:
    """By how much to enlarge (a whole number) or reduce the images."""
    enlarged = max(1, round(LEAST_WIDTH / width))
    across, down = columns * width, rows * pages * height
    fitting = min(
        (MOST_PIXELS / (across * down)) ** 0.5,
        (2**16 - 1 - _LABEL_SPACE) / across,
        (2**16 - 1 - _LABEL_SPACE * pages) / down,
    )
    return float(enlarged) if enlarged <= fitting else min(1.0, 0.95 * fitting)


def _sheet_page(grid: Grid, images: Places, page: int, scale: float, width: int) -> Image.Image:
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
    return scaled(load_image(path), scale)


def save_sheet(sheet: Image.Image, png: Path, webp: Path) -> None:
    """As PNG, and as WebP, which is made smaller where the format cannot hold it."""
    with atomic_path(png) as temporary:
        sheet.save(temporary, format="PNG")
    factor = min(1.0, WEBP_SIDE / max(sheet.size))
    if factor < 1:
        sheet = sheet.resize((int(sheet.width * factor), int(sheet.height * factor)))
    with atomic_path(webp) as temporary:
        sheet.save(temporary, format="WEBP", quality=90, method=4)
