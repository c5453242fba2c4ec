"""Plans of new images made of old ones: mirror images, and tiles of large ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.images.changes import (
    copy_caption,
    copy_shape,
    intact,
    look_at_each,
    record_of,
    still,
    write_record,
)
from lorasmith.curation.images.geometry import Geometry
from lorasmith.curation.images.split import grid_of, tiles_of_grid, tiles_of_size
from lorasmith.data.buckets import Size
from lorasmith.data.recorded_crops import Box, Region, crop_record_path

FLIPPED = "_flip"
_NAMES = 3

_SIDES = {"left": "right", "right": "left"}
# Whole words, between spaces, underscores or hyphens: not copyright, bright, leftover.
_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)
# Tags of what is wrong once it is mirrored.
_ONE_SIDED = re.compile(
    r"(?:.*[ _])?text|heterochromia|asymmetrical[ _].*|logo|signature|watermark|speech[ _]bubble",
    re.IGNORECASE,
)

Look = tuple[Size, Region | None]


def plan_flips(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    *,
    quality: int | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """A mirror image of each, as ``a_flip.png``, with its mask and recorded crop; its caption says
    left for right. Mirror images themselves, and what has one already, are passed over.

    Raises:
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    names = {image.path.with_suffix("") for image in collection.images}
    new = [
        image
        for image in images
        if not image.path.stem.endswith(FLIPPED)
        and image.path.with_name(f"{image.path.stem}{FLIPPED}") not in names
    ]
    good = set(intact(plan, collection, new, observer, controls))
    results = look_at_each(
        plan, [image for image in new if image in good], _look, observer, controls
    )
    masks = collection.masks
    odd: list[tuple[CollectionImage, list[str]]] = []
    for image, (size, region) in results:
        target = image.path.with_name(f"{image.path.stem}{FLIPPED}{image.path.suffix}")
        what = f"mirror image of {image.path.name}"
        with plan.together(image.path):
            copy_shape(plan, image, Geometry(size, flip=True), masks, target, what, quality)
            copy_caption(plan, image, target, swap_sides)
            if region is not None:
                left, top, right, bottom = region.box
                mirrored = Region((size[0] - right, top, size[0] - left, bottom), size)
                write_record(
                    plan, crop_record_path(target), mirrored, "its recorded crop, mirrored"
                )
            if tags := one_sided(image.tags):
                odd.append((image, tags))
    if odd:
        names_ = shortlist([f"{image.path.name}: {tags[0]}" for image, tags in odd], _NAMES)
        what = f"{quantity(len(odd), 'picture', 'has')} what is wrong in a mirror ({names_})"
        plan.warnings.append(Problem("", what, "leave them out with --where"))


def swap_sides(text: str) -> str:
    """``left`` for ``right`` and the other way round, in their own letters' case."""
    return _SIDE.sub(lambda match: _like(match[0], _SIDES[match[0].lower()]), text)


def one_sided(tags: Iterable[str]) -> list[str]:
    """Those of the tags that are wrong of a mirrored image: writing, unlike eyes."""
    return [tag for tag in tags if _ONE_SIDED.fullmatch(tag)]


def _like(original: str, word: str) -> str:
    if original.isupper():
        return word.upper()
    return word.capitalize() if original[0].isupper() else word


@dataclass(frozen=True, slots=True)
class TileRule:
    """How images are large; by ``size``, by ``grid``, or by ``count``.

    Args:
        size: of a tile, px.
        grid: columns and rows.
        count: tiles, as nearly square as can be.
        overlap: share of a tile that its neighbour shows as well, 0 to below 1.
    """

    size: Size | None = None
    grid: tuple[int, int] | None = None
    count: int | None = None
    overlap: float = 0.0

    def tiles(self, size: Size) -> list[Box]:
        """Of an image of that size, row by row."""
        if self.size is not None:
            return tiles_of_size(size, self.size, self.overlap)
        columns, rows = self.grid or grid_of(size, self.count or 1)
        return tiles_of_grid(size, columns, rows, self.overlap)


def plan_tiles(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    rule: TileRule,
    *,
    keep: bool = False,
    least: int = 0,
    quality: int | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """Part images into ``a_tile1.png``, ``a_tile2.png``, …, row by row, each with its part of the
    mask and with the whole caption. The image itself, and what belongs to it, goes to the trash.
    Of an image with a recorded crop only that part is used.

    Args:
        keep: the images stay beside their tiles.
        least: images with a longer side up to this stay whole, px.

    Raises:
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    results = look_at_each(plan, images, _look, observer, controls)
    large = []
    for image, (size, region) in results:
        area = region.box if region is not None else (0, 0, *size)
        shape = Region(area, size).shape
        boxes = rule.tiles(shape)
        if len(boxes) > 1 and max(shape) > least:
            left, top = area[0], area[1]
            tiles = [(a + left, b + top, c + left, d + top) for a, b, c, d in boxes]
            large.append((image, size, tiles))
    good = set(intact(plan, collection, [image for image, _, _ in large], observer, controls))
    masks = collection.masks
    for image, size, tiles in large:
        if image not in good:
            continue
        digits = len(str(len(tiles)))
        targets = [
            image.path.with_name(f"{image.path.stem}_tile{number:0{digits}}{image.path.suffix}")
            for number in range(1, len(tiles) + 1)
        ]
        if there := next(filter(os.path.lexists, targets), None):
            what = f"one of its tiles would become {there.name}, which is there"
            plan.skipped.append(Problem(str(image.path), what, "rename or remove that one"))
            continue
        with plan.together(image.path):
            for number, (box, target) in enumerate(zip(tiles, targets, strict=True), 1):
                what = f"tile {number} of {len(tiles)} of {image.path.name}"
                copy_shape(plan, image, Geometry(size, box), masks, target, what, quality)
                copy_caption(plan, image, target)
            if not keep:
                _remove(plan, image, masks.get(image.path), collection)


def _remove(plan: Plan, image: CollectionImage, mask: Path | None, collection: Collection) -> None:
    """The image and all that belongs to it alone."""
    shared = {other.caption_path for other in collection.images if other is not image}
    for path in dict.fromkeys([*image.files, *([mask] if mask is not None else [])]):
        if path not in shared:
            plan.remove(path)


def _look(image: CollectionImage) -> Look:
    header = still(image)
    size = (header.width, header.height)
    record = record_of(image, size)
    return size, record[1] if record is not None else None
