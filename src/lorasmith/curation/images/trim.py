"""Borders: bars above and below a film's picture, frames, white margins of scans."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lorasmith.data.recorded_crops import Box

REDUCED_SIDE = 384
"""px: :func:`reduced` images have this on the longer side, or up to twice it."""

# A line is of one colour if so much of it is near its median.
_UNIFORM = 0.985
# The first line of the picture differs from the border in so much of its length. A drawing on a
# plain ground begins with the tip of something instead, and its ground is no border.
_EDGE = 0.4
_BLEND = 0.25  # and lines of a soft edge, a little, in so much
# Of a side: more than this is no border.
_MOST = 0.45
# A soft edge, or one that JPEG smears, is so many px wide at most.
_SOFT = 10
_FRAMES = 4  # one within another
_REPEATED = 0.02
_LEAST_LINES = 8


def find_border(image: Image.Image, tolerance: int = 12) -> Box:
    """What remains of an image without its borders; all of it, if it has none.

    A border is a straight band of one colour along a side, which ends in a straight edge: black,
    white or grey, or of any colour where the opposite side has the same. A sky or a plain ground
    is none, as it ends in no such edge or is in colours.

    Args:
        image: RGB.
        tolerance: of 255, by which colours of a border may differ: JPEG's noise.
    """
    pixels = np.asarray(image, np.int16)
    box: Box = (0, 0, image.width, image.height)
    for _ in range(_FRAMES):
        inner = _without_bands(pixels, box, tolerance)
        if inner == box:
            break
        box = inner
    return box


def reduced(image: Image.Image) -> Image.Image:
    """As small as borders are still found by; soft edges, too, that are wide in a large image."""
    return image.reduce(_factor(image))


def find_reduced_border(image: Image.Image, tolerance: int = 12) -> Box:
    """As :func:`find_border`; where it finds none, what it finds of the reduced image, whose edges
    are put a pixel of that further in."""
    whole: Box = (0, 0, image.width, image.height)
    if (box := find_border(image, tolerance)) != whole:
        return box
    small, factor = reduced(image), _factor(image)
    left, top, right, bottom = find_border(small, tolerance)
    return (
        (left + 1) * factor if left else 0,
        (top + 1) * factor if top else 0,
        (right - 1) * factor if right < small.width else image.width,
        (bottom - 1) * factor if bottom < small.height else image.height,
    )


def _factor(image: Image.Image) -> int:
    return max(1, max(image.size) // REDUCED_SIDE)


def _without_bands(pixels: np.ndarray, box: Box, tolerance: int) -> Box:
    left, top, right, bottom = box
    part = pixels[top:bottom, left:right]
    above, below = _bands(part, tolerance)
    part = part[above : part.shape[0] - below]
    before, behind = _bands(part.transpose(1, 0, 2), tolerance)
    return left + before, top + above, right - behind, bottom - below


def _bands(lines: np.ndarray, tolerance: int) -> tuple[int, int]:
    """How many of (n, length, 3) lines are border, at the beginning and at the end."""
    if len(lines) < _LEAST_LINES:
        return 0, 0
    first, last = np.median(lines[0], axis=0), np.median(lines[-1], axis=0)
    alike = bool(np.abs(first - last).max() <= tolerance)
    sizes = [
        _band(side, colour, tolerance) if alike or np.ptp(colour) <= 2 * tolerance else 0
        for side, colour in ((lines, first), (lines[::-1], last))
    ]
    if np.ptp(first) > 2 * tolerance and 0 in sizes:  # in colours, and not on both sides
        return 0, 0 if np.ptp(last) > 2 * tolerance else sizes[1]
    return sizes[0], sizes[1]


def _band(lines: np.ndarray, colour: np.ndarray, tolerance: int) -> int:
    """How many lines at the beginning are border."""
    limit = int(len(lines) * _MOST)
    size = 0
    while size < limit and _is_uniform(lines[size], colour, tolerance):
        size += 1
    if size in (0, limit) or _is_repeated(lines[size:], colour, tolerance):
        return 0
    own = np.median(lines[size - 1], axis=0)  # where a gradient has got to
    soft = min(_SOFT, len(lines) // 40)  # of a small drawing ten lines are a good part
    for depth in range(soft + 1):  # where the edge is soft, the picture begins after it
        line = np.abs(lines[min(size + depth, len(lines) - 1)] - own).max(axis=1)
        if (line > 2 * tolerance).mean() >= _EDGE:
            return size + depth
        if (line > max(3, tolerance // 3)).mean() < _BLEND:
            return 0  # not an edge that is soft all along, but the tip of something
    return 0


def _is_repeated(lines: np.ndarray, colour: np.ndarray, tolerance: int) -> bool:
    """Whether further lines between others are of the border's colour, as those of stripes are."""
    alike = [_is_uniform(line, colour, tolerance) for line in lines]
    others = np.flatnonzero(~np.array(alike))
    inner = alike[others[0] : others[-1]] if len(others) else alike
    return sum(inner) > _REPEATED * len(lines)


def _is_uniform(line: np.ndarray, colour: np.ndarray, tolerance: int) -> bool:
    near = np.abs(line - colour).max(axis=1) <= tolerance
    return bool(near.mean() >= _UNIFORM)
