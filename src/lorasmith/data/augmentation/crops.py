"""Other crops of an image than the middle one, each as large as the image's bucket.

All of them are placements: the whole image is scaled, and the crop lies within it, so a crop
never shows anything beyond the image's edge. Sides are in pixels.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from lorasmith.data.buckets import Placement, Size

# An image is cut into slices if its own size is this many times what covers its bucket: below it
# the slices would all show nearly the same.
WORTH_SLICING = 1.5

_FACE_NAME = re.compile(r"(.*)_(\d{4,})_(\d{4,})_(\d{4,})_(\d{4,})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face in the upright image, in its pixels: the middle, and the sides of the box."""

    x: int
    y: int
    width: int
    height: int

    def is_inside(self, image: Size) -> bool:
        """The box has an area, and no part of it lies beyond the image (but for rounding)."""
        if self.width < 1 or self.height < 1:
            return False
        left, top = self.x - self.width / 2, self.y - self.height / 2
        right, bottom = left + self.width, top + self.height
        return left >= -1 and top >= -1 and right <= image[0] + 1 and bottom <= image[1] + 1


def face_box(path: Path) -> FaceBox | None:
    """The face that an image's name tells of: ``name_XXXX_YYYY_WWWW_HHHH.png``.

    As sd-scripts' ``tools/detect_face_rotate.py`` writes it: middle, then width and height, of at
    least four digits each. (sd-scripts reads numbers of any length, and so takes dates for faces.)
    """
    match = _FACE_NAME.fullmatch(path.stem)
    return FaceBox(*map(int, match.groups()[1:])) if match else None


def without_face(stem: str) -> str:
    """A file's stem without the face in it."""
    match = _FACE_NAME.fullmatch(stem)
    return match.group(1) if match else stem


def random_crop(placement: Placement, rng: Random, zoom: float = 1.0) -> Placement:
    """A crop anywhere in the image, scaled to cover the bucket or up to ``zoom`` times that.

    The factor is drawn evenly on a logarithmic scale; every position is equally likely.

    Args:
        placement: the image's own.
        zoom: >= 1.
    """
    factor = zoom ** rng.random()
    resized = _scaled(placement, factor)
    left = rng.randint(0, resized[0] - placement.bucket[0])
    top = rng.randint(0, resized[1] - placement.bucket[1])
    return _at(placement, resized, left, top)


def has_room(placement: Placement) -> bool:
    """Whether something stands over the bucket, so that crops at its scale can differ."""
    return placement.resized != placement.bucket


def face_crop(
    placement: Placement, face: FaceBox, ratios: tuple[float, float], rng: Random
) -> Placement:
    """A crop around a face, which lies wholly in it and not always in the middle.

    Args:
        placement: the image's own.
        face: inside the image.
        ratios: least and greatest ratio of the crop's shorter side to the face's longer one; drawn
            between them evenly on a logarithmic scale. As in sd-scripts, the image is not
            enlarged for it, nor shrunk below its bucket, so small and large faces get less.
    """
    low, high = ratios
    ratio = low * (high / low) ** rng.random()
    side, bucket = max(face.width, face.height), placement.bucket
    face_scale = min(bucket) / (side * ratio)
    covering = placement.scale
    scale = max(covering, min(face_scale, 1.0))
    resized = _scaled(placement, scale / covering)
    room = max(0.0, min(0.25 * side * scale, (min(bucket) - side * scale) / 2))
    corner = []
    for axis, middle in enumerate((face.x, face.y)):
        shown = middle * resized[axis] / placement.original[axis] + rng.uniform(-room, room)
        limit = resized[axis] - bucket[axis]
        corner.append(max(0, min(limit, round(shown - bucket[axis] / 2))))
    return _at(placement, resized, corner[0], corner[1])


@cache
def slices(placement: Placement, limit: int) -> tuple[Placement, ...]:
    """Crops that together cover the whole of a large image, row by row.

    The image keeps its own size, or as much of it as ``limit`` crops can cover; neighbours
    overlap evenly where they do not fit exactly. Nothing for an image that is not large, see
    :data:`WORTH_SLICING`.

    Args:
        placement: the image's own.
        limit: most crops, >= 0.
    """
    width, height = placement.resized
    best: tuple[float, int, Size, Size] | None = None
    for columns in range(1, limit + 1):
        for rows in range(1, limit // columns + 1):
            across = columns * placement.bucket[0] / width
            down = rows * placement.bucket[1] / height
            factor = min(across, down, 1 / placement.scale)
            resized = _scaled(placement, factor)
            grid = (
                math.ceil(resized[0] / placement.bucket[0]),
                math.ceil(resized[1] / placement.bucket[1]),
            )
            if factor >= WORTH_SLICING and grid[0] * grid[1] <= limit:
                candidate = (factor, -grid[0] * grid[1], grid, resized)
                best = max(best, candidate) if best is not None else candidate
    if best is None:
        return ()
    grid, resized = best[2], best[3]
    return tuple(
        _at(placement, resized, left, top)
        for top in _spread(resized[1] - placement.bucket[1], grid[1])
        for left in _spread(resized[0] - placement.bucket[0], grid[0])
    )


def _spread(room: int, count: int) -> list[int]:
    """``count`` positions from 0 to ``room``, evenly."""
    return [round(room * index / (count - 1)) for index in range(count)] if count > 1 else [0]


def _scaled(placement: Placement, factor: float) -> Size:
    """The image's size at ``factor`` times its covering one; never less than the bucket."""
    return (
        max(placement.bucket[0], round(placement.resized[0] * factor)),
        max(placement.bucket[1], round(placement.resized[1] * factor)),
    )


def _at(placement: Placement, resized: Size, left: int, top: int) -> Placement:
    crop = (left, top, left + placement.bucket[0], top + placement.bucket[1])
    return replace(placement, resized=resized, crop=crop)
