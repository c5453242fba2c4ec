"""A whole grid: its images, and what shows them together.

::

    DIR/
      cells/LABELS.DIGEST.png   one an image, with what made it; found again by their digest
      grid.html                 to compare them in a browser, all in one file
      grid.png, grid.webp       all of them on one sheet
      grid.json                 the axes, and which image stands where
"""

from __future__ import annotations

import gc
import itertools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lorasmith.core.disk import remove_file
from lorasmith.core.errors import Problem, Stopped, UserError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.grids.axes import CellSpec
from lorasmith.grids.gallery import write_gallery, write_record
from lorasmith.grids.plan import Cell, Grid, Identity, SwapCost, count_switches, work_order
from lorasmith.grids.record import CELLS, PAGE, RECORD, SHEET, SMALL_SHEET, cell_files
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import exchange_vae
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.generate import generate
from lorasmith.sampling.images import GeneratedImage, ImageWriter
from lorasmith.sampling.infotext import Provenance
from lorasmith.sampling.sources import Sources

_LONGEST_NAME = 60


@dataclass(slots=True)
class GridFolder:
    """Where a grid's images are, by the digests of what they are made from."""

    path: Path
    _files: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files = cell_files(self.path).items()
        self._files = {digest: path for digest, path in files if _is_whole(path)}

    def find(self, digest: str) -> Path | None:
        return self._files.get(digest)

    def new(self, cell: Cell, kinds: tuple[str, ...], digest: str) -> Path:
        """The path of an image that is not there yet."""
        pairs = zip(kinds, cell.labels, strict=True)
        words = [label if label.startswith(kind) else f"{kind} {label}" for kind, label in pairs]
        name = "_".join(re.sub(r"[^\w.+]+", "-", word).strip("-.") for word in words)
        return self.path / CELLS / f"{name[:_LONGEST_NAME] or 'cell'}.{digest}.png"

    def add(self, digest: str, path: Path) -> None:
        self._files[digest] = path


def _is_whole(path: Path) -> bool:
    try:
        with open_image(path) as image:
            image.verify()
    except DECODER_ERRORS:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do for a grid.

    Args:
        order: the images to be drawn, in the order of the work.
        switches: of this order; those of going row by row are ``in_rows``.
        digests: of all cells' setups.
        kept: how many images were there already.
    """

    order: tuple[CellSpec, ...]
    switches: SwapCost
    in_rows: SwapCost
    digests: dict[CellSpec, str]
    kept: int


def plan_work(grid: Grid, folder: GridFolder, identity: Identity) -> Work:
    """Which images are missing, each once, and in what order they are best drawn."""
    digests = {cell.spec: identity.digest(cell.spec) for cell in grid.cells}
    once = {digest: spec for spec, digest in reversed(digests.items())}
    distinct = [spec for spec, digest in digests.items() if once[digest] is spec]
    to_draw = [spec for spec in distinct if folder.find(digests[spec]) is None]
    order = work_order(to_draw)
    switches, in_rows = count_switches(order), count_switches(to_draw)
    return Work(tuple(order), switches, in_rows, digests, len(distinct) - len(to_draw))


def draw_cells(
    grid: Grid,
    work: Work,
    folder: GridFolder,
    *,
    sources: Sources,
    load: Callable[[ModelReference], DiffusionModel],
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """Draw what is missing; each image is on disk as soon as it is done.

    Args:
        load: brings a base model into memory.

    Raises:
        Stopped: on a stop request, between two steps.
        UserError: a model or LoRA is damaged or does not fit; images before it are kept.
    """
    cells = {cell.spec: cell for cell in reversed(grid.cells)}
    kinds = tuple(axis.kind.name for axis in grid.axes if axis.kind)
    model: DiffusionModel | None = None
    provenance = Provenance(ModelReference(""))
    for reference, same in itertools.groupby(work.order, lambda spec: spec.model):
        specs = list(same)
        if model is not None and reference.path == provenance.model.path:
            exchange_vae(model, reference)
            provenance = replace(provenance, model=reference)
        else:
            model = None  # Before the next one comes: two may not fit.
            gc.collect()
            model, provenance = load(reference), Provenance(reference)
        images = generate(
            model,
            [spec.request for spec in specs],
            loras=sources.library,
            embeddings=sources.embeddings,
            wildcards=sources.wildcards,
            describe=provenance.describer(sources.library),
            observer=observer,
            controls=controls,
        )
        with ImageWriter(model.device) as writer:
            for image in images:
                spec = specs[image.index]
                digest = work.digests[spec]
                path = folder.new(cells[spec], kinds, digest)
                writer.add(partial(_save, path, image), partial(folder.add, digest, path))


def _save(path: Path, image: GeneratedImage) -> None:
    remove_file(path)  # Found damaged.
    image.save(path)


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
    _write_record(grid, work, files)  # For those who look while it is drawn.
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


def _images(grid: Grid, work: Work, files: GridFolder) -> dict[tuple[int, int, int], Path]:
    by_place = {cell.place: files.find(work.digests[cell.spec]) for cell in grid.cells}
    return {place: path for place, path in by_place.items() if path is not None}


def _write_record(grid: Grid, work: Work, files: GridFolder) -> None:
    images = _images(grid, work, files)
    write_record(
        files.path, grid, images, work.digests, drawn=len(work.order), switches=work.switches
    )


def _show(grid: Grid, work: Work, files: GridFolder) -> None:
    images = _images(grid, work, files)
    write_gallery(
        files.path, grid, images, work.digests, drawn=len(work.order), switches=work.switches
    )
