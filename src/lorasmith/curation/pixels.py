"""Measures of a small picture of an image: light, colour, detail, borders, its subject's place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.curation.images.trim import find_border, reduced
from lorasmith.data.images import decoded_image

# All but borders is measured so small, px of each side: shares of the image, whatever its shape.
_SIDE = 48
_RIM_PIXELS = np.ones((_SIDE, _SIDE), bool)
_RIM_PIXELS[2:-2, 2:-2] = False
_DARK, _LIGHT = 0.02, 0.98  # of the pixels, by brightness
_COLOURFUL = 0.99
_FLAT, _DETAIL = 2, 8  # of 255: neighbours differ by no more, or by more
_GROUND, _SUBJECT = 20, 36  # of 255: as the rim's colour, or surely not
_LEAST_SUBJECT = 0.01  # of the area
_EDGE_TAIL = 5  # px at both ends, by brightness, that may be of other colours
_ONE_COLOUR = 24  # of 255; a border's line differs by less
_TAIL = 0.02  # of the subject that may stick out of its box

# The luminance table of the JPEG standard (annex K); libjpeg scales it by the quality.
_STANDARD = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
_QUALITIES = np.arange(1, 101)
_SCALES = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)
_SUMS = np.clip((_STANDARD * _SCALES[:, None] + 50) // 100, 1, 255).sum(1)


@dataclass(frozen=True, slots=True)
class Pixels:
    """
    Args:
        darkest, lightest: brightness, 0 to 1, that 2 % of the pixels are below, and above.
        chroma: difference of the channels that 1 % of the pixels exceed, 0 to 1; a grey has none.
        detail: share of the pixels that clearly differ from their neighbours.
        flat: share of the pixels that are as their neighbours.
        plain: share of the rim that is of its middle colour.
        subject: left, top, right, bottom of what is not of that colour, in shares of 255; empty
            where nothing is.
        border: share of the area that is bars or a frame, 0 to 1.
    """

    darkest: float
    lightest: float
    chroma: float
    detail: float
    flat: float
    plain: float
    subject: bytes
    border: float


def measure_pixels(path: Path, thumbnail: Image.Image) -> Pixels:
    """
    Args:
        path: of the image; it is decoded again where the thumbnail seems to have a border.
        thumbnail: RGB, upright, its shorter side 64 to 128 px, or less of a smaller image.
    """
    small = thumbnail.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    brightness = np.asarray(small.convert("L")).ravel()
    # Channels first: the maximum over them is then quick.
    planes = np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1), np.int16)
    here = planes[:, :-1, :-1]
    steps = np.maximum(np.abs(planes[:, :-1, 1:] - here), np.abs(planes[:, 1:, :-1] - here)).max(0)
    rim = planes[:, _RIM_PIXELS]
    ground = np.partition(rim, rim.shape[1] // 2)[:, rim.shape[1] // 2]
    from_ground = np.abs(planes - ground[:, None, None]).max(0)
    darkest, lightest = _quantiles(brightness, (_DARK, _LIGHT))
    (chroma,) = _quantiles((planes.max(0) - planes.min(0)).ravel(), (_COLOURFUL,))
    return Pixels(
        darkest / 255,
        lightest / 255,
        chroma / 255,
        int(np.count_nonzero(steps > _DETAIL)) / steps.size,
        int(np.count_nonzero(steps <= _FLAT)) / steps.size,
        int(np.count_nonzero(from_ground[_RIM_PIXELS] <= _GROUND)) / rim.shape[1],
        _subject(from_ground > _SUBJECT),
        _border(path, thumbnail) if _has_plain_edge(planes) else 0.0,
    )


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> list[int]:
    """The least value that so large a share of them does not exceed."""
    places = [math.ceil(share * values.size) - 1 for share in shares]
    return [int(value) for value in np.partition(values, places)[places]]


def _border(path: Path, thumbnail: Image.Image) -> float:
    """Of the thumbnail one that is found may be none in truth."""
    if not _border_share(thumbnail):
        return 0.0
    with decoded_image(path) as image:
        return _border_share(reduced(image))


def _border_share(image: Image.Image) -> float:
    """Share of the area that is bars or a frame, see :func:`.find_border`.

    Args:
        image: RGB.
    """
    left, top, right, bottom = find_border(image)
    return 1 - (right - left) * (bottom - top) / (image.width * image.height)


def _has_plain_edge(planes: np.ndarray) -> bool:
    """One of the outermost lines is of one colour, more or less: there may be a border."""
    edges = np.stack([planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]])
    edges.sort(axis=-1)
    return bool(
        ((edges[..., -1 - _EDGE_TAIL] - edges[..., _EDGE_TAIL]).max(1) <= _ONE_COLOUR).any()
    )


def _subject(mask: np.ndarray) -> bytes:
    count = int(np.count_nonzero(mask))
    if count < _LEAST_SUBJECT * mask.size:
        return b""
    edges = []
    for axis in (0, 1):  # left and right, then top and bottom
        low, high = mask.sum(axis).cumsum().searchsorted((_TAIL * count, (1 - _TAIL) * count))
        edges.append((int(low * 255 / _SIDE), int((high + 1) * 255 / _SIDE)))
    return bytes([edges[0][0], edges[1][0], edges[0][1], edges[1][1]])


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The quality, 1 to 100, at which libjpeg's quantisation would be as strong; 0 without tables.

    Args:
        tables: of the file, the first of them is luminance's.
    """
    if 0 not in tables:
        return 0
    return int(_QUALITIES[np.abs(_SUMS - sum(tables[0])).argmin()])
