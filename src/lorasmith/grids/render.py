"""Drawing a grid: the images that are not there yet, with as few switches as can be."""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.grids.axes import CellSpec, Sources
from lorasmith.grids.plan import (
    Cell,
    Grid,
    Identity,
    SwapCost,
    count_switches,
    work_order,
)
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import exchange_vae
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.generate import GeneratedImage, generate
from lorasmith.sampling.image_writer import ImageWriter
from lorasmith.sampling.infotext import Provenance

CELLS = "cells"

_DIGEST = re.compile(r".*\.([0-9a-f]{12})\.png", re.ASCII)
_LONGEST_NAME = 60


@dataclass(slots=True)
class GridFolder:
    """Where a grid's images are, by the digests of what they are made from."""

    path: Path
    _files: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted((self.path / CELLS).glob("*.png")):
            match = _DIGEST.fullmatch(path.name)
            if match is not None and _is_whole(path):
                self._files[match[1]] = path

    def find(self, digest: str) -> Path | None:
        return self._files.get(digest)

    def new(self, cell: Cell, kinds: tuple[str, ...], digest: str) -> Path:
        """The path of an image that is not there yet."""
        named = zip(kinds, cell.labels, strict=True)
        words = [label if label.startswith(kind) else f"{kind} {label}" for kind, label in named]
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
    missing = [spec for spec in distinct if folder.find(digests[spec]) is None]
    order = work_order(missing)
    switches, in_rows = count_switches(order), count_switches(missing)
    return Work(tuple(order), switches, in_rows, digests, len(distinct) - len(missing))


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
    if path.exists():  # Found damaged.
        path.unlink()
    image.save(path)
