"""A whole grid: its images, and what shows them together.

::

    DIR/
      cells/LABELS.DIGEST.png   one an image, with what made it; found again by their digest
      grid.html                 to compare them in a browser, all in one file
      grid.png, grid.webp       all of them on one sheet
      grid.json                 the axes, and which image stands where
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lorasmith.core.errors import Problem, Stopped, UserError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import write_json
from lorasmith.grids.axes import Sources
from lorasmith.grids.html import write_page
from lorasmith.grids.plan import Grid, Identity, SwapCost
from lorasmith.grids.render import GridFolder, Work, draw_cells, plan_work
from lorasmith.grids.sheet import draw_sheet, save_sheet
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.reference import ModelReference

RECORD, PAGE, SHEET, SMALL_SHEET = "grid.json", "grid.html", "grid.png", "grid.webp"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done.

    Args:
        drawn, kept: images that were drawn, and that were there already.
        switches: of the order that they were drawn in; those of row by row are ``in_rows``.
        seconds: for the images.
    """

    drawn: int
    kept: int
    switches: SwapCost
    in_rows: SwapCost
    seconds: float


def check_folder(folder: Path) -> list[Problem]:
    """Whether a grid may be written there: what it replaces must be an earlier grid's."""
    foreign = [name for name in (PAGE, SHEET, SMALL_SHEET) if (folder / name).exists()]
    if not foreign or (folder / RECORD).exists():
        return []
    what = f"its {', '.join(foreign)} would be overwritten, and no grid was made there"
    return [Problem(str(folder), what, "name another --out")]


def make_grid(
    grid: Grid,
    folder: Path,
    identity: Identity,
    *,
    sources: Sources,
    load: Callable[[ModelReference], DiffusionModel],
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Report:
    """Draw what is missing, and show all that there is; also when drawing was cut short.

    Raises:
        Stopped: on a stop request, between two steps.
        UserError: a model or LoRA is damaged or does not fit.
    """
    files = GridFolder(folder)
    work = plan_work(grid, files, identity)
    began = time.monotonic()
    try:
        draw_cells(
            grid, work, files, sources=sources, load=load, observer=observer, controls=controls
        )
    except (Stopped, UserError):
        _show(grid, work, files)
        raise
    seconds = time.monotonic() - began
    _show(grid, work, files)
    return Report(len(work.order), work.kept, work.switches, work.in_rows, seconds)


def _show(grid: Grid, work: Work, files: GridFolder) -> None:
    found = {cell.place: files.find(work.digests[cell.spec]) for cell in grid.cells}
    images = {place: path for place, path in found.items() if path is not None}
    if not images:
        return
    folder = files.path
    write_page(folder / PAGE, grid, images)
    save_sheet(draw_sheet(grid, images), folder / SHEET, folder / SMALL_SHEET)
    axes = [
        {"axis": axis.title, "values": [value.label for value in axis.values]}
        for axis in grid.axes
        if axis.kind
    ]
    cells = [
        {
            "place": cell.place[: len(axes)],
            "labels": cell.labels,
            "prompt": cell.spec.request.prompt,
        }
        | ({"file": path.relative_to(folder).as_posix()} if path else {})
        for cell in grid.cells
        for path in [found[cell.place]]
    ]
    write_json(
        folder / RECORD,
        {"axes": axes, "cells": cells, "drawn": len(work.order), "switches": asdict(work.switches)},
    )
