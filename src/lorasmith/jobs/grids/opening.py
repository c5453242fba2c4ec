"""Grids as they lie in a workspace: found, and laid beside what pick says of their run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.formats.run_paths import is_run, runs_at
from lorasmith.grids.record import RECORD, DrawnAxis, DrawnGrid
from lorasmith.grids.snapshots import Snapshot
from lorasmith.jobs.runs.reader import RunReader, folders_in
from lorasmith.jobs.runs.records import LoraOfRun, RunDetail

DEPTH = 5
"""Folders below the one that is searched: a project's runs have theirs in ``runs/NAME/grid``."""
MOST_GRIDS = 500


def find_grids(folder: Path, depth: int = DEPTH) -> list[Path]:
    """The folders of grids in ``folder``, itself included. Links are not followed, and nothing is
    looked for inside a grid."""
    grids: list[Path] = []
    level = [folder]
    for _ in range(depth + 1):
        below: list[Path] = []
        for each in level:
            if (each / RECORD).is_file():
                grids.append(each)
            else:
                below += folders_in(each)
        level = below
        if len(grids) > MOST_GRIDS:
            break
    return sorted(grids[:MOST_GRIDS])


def run_of(grid: DrawnGrid, allowed: Callable[[Path], bool] = lambda path: True) -> Path | None:
    """The folder of the run whose snapshots a grid shows; else of that whose folder it lies in.

    Args:
        allowed: whether a place may be looked at: a record's paths are anybody's.
    """
    for file in _files(grid):
        place = file.resolve()
        if allowed(place) and len(runs := runs_at(place)) == 1 and allowed(runs[0]):
            return runs[0]
    above = grid.folder.parent
    return above if is_run(above) and allowed(above) else None


def _files(grid: DrawnGrid) -> Iterator[Path]:
    for axis in grid.axes:
        yield from (file for file in axis.files if file is not None)


@dataclass(frozen=True, slots=True)
class PickBeside:
    """What `lorasmith pick` says of the snapshots that a grid shows.

    Args:
        summary: its verdict in words.
        axis: the number of the axis whose values are snapshots.
        loras: of its values, by label; those alone that pick has judged.
    """

    run: RunDetail
    summary: str
    axis: int
    loras: Mapping[str, LoraOfRun]


def pick_beside(grid: DrawnGrid, run: Path | None, reader: RunReader) -> PickBeside | None:
    """Pick's verdict on a run, laid beside a grid of it; ``None`` where there is none."""
    if run is None:
        return None
    try:
        detail = reader.run(run)
    except UserError:  # Somebody has put it away.
        return None
    summary = next((one.text for one in detail.says if one.by == "pick"), "")
    for number, axis in enumerate(grid.axes):
        loras = dict(_judged(axis, detail))
        if loras:
            return PickBeside(detail, summary, number, loras)
    return None


def _judged(axis: DrawnAxis, run: RunDetail) -> Iterator[tuple[str, LoraOfRun]]:
    by_name = {lora.name: lora for lora in run.loras}
    for value, file in zip(axis.values, axis.files, strict=True):
        # A run that was renamed has other files, at the same epochs.
        lora = by_name.get(file.name) if file is not None else None
        if lora is None and axis.name == "epoch":
            lora = next((one for one in run.loras if value == _snapshot(one).label), None)
        if lora is not None and lora.judged:
            yield value, lora


def _snapshot(lora: LoraOfRun) -> Snapshot:
    return Snapshot(Path(lora.path), step=lora.step, epoch=lora.epoch, final=lora.final)
