"""A page to compare the images of a grid in a browser: one file, which can be sent to anyone.

The page is ``assets/grid.html``; images and texts are put into it as JSON. Small ones are in it
as they are; of a large grid it holds reduced ones, and shows the whole files where they still lie
beside it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from lorasmith.core.files import ASSETS, write_text
from lorasmith.data.images import load_image, open_image
from lorasmith.grids.axes import Axis
from lorasmith.grids.plan import Grid
from lorasmith.sampling.infotext import CHUNK

TEMPLATE = ASSETS / "grid.html"
# What mail still takes, before base64 makes a third more of it.
MOST_BYTES = 15_000_000
# Up to this many pixels an image is kept bit for bit; it costs little.
SMALL = 128 * 128
QUALITY = 88
_TRIED = 8


def write_page(path: Path, grid: Grid, images: Mapping[tuple[int, int, int], Path]) -> None:
    """Write the page.

    Args:
        images: files by their places, below the folder of ``path``; missing ones are shown so.
    """
    files = list(dict.fromkeys(images.values()))
    scale = _scale(files)
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
    found = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        found = found.replace(character, f"\\u{ord(character):04x}")
    parts = {"title": html.escape(title[:80]), "data": found}
    text = re.sub(r"\{\{(title|data)\}\}", lambda match: parts[match[1]], text)
    write_text(path, text)


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.title, "values": [value.label for value in axis.values]}


def _scale(files: list[Path]) -> float:
    """By how much the images in the page are reduced; judged by some of them."""
    tried = files[:: max(1, len(files) // _TRIED)]
    each = sum(len(_encoded(file, 1.0)) for file in tried) / len(tried)
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
    shown = load_image(file)
    if scale < 1:
        size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
        shown = shown.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small = scale == 1.0 and shown.width * shown.height <= SMALL
    shown.save(buffer, format="WEBP", lossless=small, quality=QUALITY)
    return buffer.getvalue()
