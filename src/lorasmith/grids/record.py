"""A grid as it lies on disk: what its record says, whichever of its images are there. Torch-free.

A record is written before the first image is drawn, so that whoever looks meanwhile finds those
that are there by their digests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import RunError
from lorasmith.core.files import parse_json
from lorasmith.core.text import shortlist
from lorasmith.grids.axis_types import AXIS_TYPES

RECORD, PAGE, SHEET, SMALL_SHEET = "grid.json", "grid.html", "grid.png", "grid.webp"
CELLS = "cells"
THUMBNAILS = "grid-small.jpg"

_DIGEST = re.compile(r".*\.([0-9a-f]{12})\.png", re.ASCII | re.DOTALL)
# Ten thousand cells with long prompts take a third of it.
_MOST_BYTES = 1 << 25
_MOST_SIDES = 3


@dataclass(frozen=True, slots=True)
class DrawnAxis:
    """
    Args:
        name: of its :class:`.AxisType`; "" where the record is of no version that says it, and its
            title is no type's.
        title: as it stands at the axis; no two of a grid have the same.
        files: the LoRA file of each value, ``None`` for those that bring none. They may be gone.
    """

    name: str
    title: str
    values: tuple[str, ...]
    files: tuple[Path | None, ...]


@dataclass(frozen=True, slots=True)
class DrawnCell:
    """
    Args:
        place: along each axis, from 0.
        labels: what stands at the axes there.
        file: the image; ``None`` where it is not drawn yet.
    """

    place: tuple[int, ...]
    labels: tuple[str, ...]
    prompt: str
    file: Path | None


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """All images of a grid, small, in one file, for who shows hundreds of them at once.

    Args:
        width, height: of one, px.
        columns: in a row.
        digests: of the images, in their order.
    """

    width: int
    height: int
    columns: int
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrawnGrid:
    """
    Args:
        thumbnails: ``None`` where they are not written.
        title: the prompt that the axes vary; "" of older records.
        axes: x, y and z, as many as there are.
        cells: row by row, page by page.
    """

    folder: Path
    title: str
    axes: tuple[DrawnAxis, ...]
    cells: tuple[DrawnCell, ...]
    thumbnails: Thumbnails | None = None

    @property
    def drawn(self) -> int:
        return sum(cell.file is not None for cell in self.cells)

    def axis(self, name: str) -> int:
        """The number of the axis that is called so, by its title or its type's name.

        Raises:
            RunError: there is none.
        """
        wanted = name.strip().lower()
        for number, axis in enumerate(self.axes):
            if wanted in (axis.title.lower(), axis.name):
                return number
        has = shortlist([axis.name or axis.title for axis in self.axes])
        raise RunError.of(self.folder, f'the grid has no axis "{name}"', f"it has {has}")


def digest_of(name: str) -> str | None:
    """The digest in the name of an image; ``None`` where there is none."""
    match = _DIGEST.fullmatch(name)
    return match[1] if match is not None else None


def cell_files(folder: Path) -> dict[str, Path]:
    """The images of a grid by their digests, unread. Links are none of them."""
    try:
        with os.scandir(folder / CELLS) as entries:
            names = sorted(each.name for each in entries if each.is_file(follow_symlinks=False))
    except OSError:
        return {}
    return {digest: folder / CELLS / name for name in names if (digest := digest_of(name))}


def read_grid(folder: Path) -> DrawnGrid:
    """The grid in a folder.

    Raises:
        RunError: there is none, or its record is damaged.
    """
    path = folder / RECORD
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        hint = "name a folder that `lorasmith grid` made"
        raise RunError.of(folder, f"is no grid: there is no {RECORD} to read", hint) from error
    hint = "draw the grid again: its pictures are kept"
    if len(data) > _MOST_BYTES:
        raise RunError.of(path, f"is larger than {_MOST_BYTES >> 20} MB", hint)
    try:
        return _grid(folder, parse_json(data))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise RunError.of(path, "is not as `lorasmith grid` writes it", hint) from error


def _grid(folder: Path, record: Mapping[str, Any]) -> DrawnGrid:
    axes = tuple(_axes(folder, record["axes"]))
    if not 1 <= len(axes) <= _MOST_SIDES or len({axis.title for axis in axes}) < len(axes):
        raise ValueError("no such axes")
    files = cell_files(folder)
    by_name = {path.name: path for path in files.values()}
    cells = []
    for entry in record["cells"]:
        place = tuple(int(number) for number in entry["place"])
        if len(place) != len(axes):
            raise ValueError("a place of other axes")
        # What the axes have, so that no label is another's; a negative place is none.
        labels = tuple(
            axis.values[number if number >= 0 else len(axis.values)]
            for axis, number in zip(axes, place, strict=True)
        )
        file = files.get(str(entry.get("digest")))
        if file is None:
            # By its name alone, so that a record cannot lead elsewhere.
            file = by_name.get(os.path.basename(str(entry.get("file", ""))))
        cells.append(DrawnCell(place, labels, str(entry.get("prompt", "")), file))
    small = record.get("thumbnails")
    thumbnails = None
    if small:
        width, height, columns = (int(small[name]) for name in ("width", "height", "columns"))
        if min(width, height, columns) < 1:
            raise ValueError("no such thumbnails")
        thumbnails = Thumbnails(width, height, columns, tuple(map(str, small["digests"])))
    return DrawnGrid(folder, str(record.get("title", "")), axes, tuple(cells), thumbnails)


def _axes(folder: Path, axes: list[Mapping[str, Any]]) -> Iterator[DrawnAxis]:
    for entry in axes:
        title, values = str(entry["axis"]), tuple(str(value) for value in entry["values"])
        if not values:
            raise ValueError("an axis without values")
        files = entry.get("files") or [None] * len(values)
        if len(files) != len(values):
            raise ValueError("files of other values")
        yield DrawnAxis(
            str(entry.get("name") or _name_of(title)),
            title,
            values,
            tuple(folder / str(file) if file else None for file in files),
        )


def _name_of(title: str) -> str:
    """Of the axis type that a title is of, "LoRA strength of hat"."""
    types = [
        kind for kind in AXIS_TYPES if title == kind.title or title.startswith(f"{kind.title} of ")
    ]
    return types[0].name if types else ""
