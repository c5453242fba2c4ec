"""Measures of a small picture of an image: light, colour, detail, borders, its subject's place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.curation.facts import Pixels
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


def measure_pixels(paths: Sequence[Path], thumbnails: Sequence[Image.Image]) -> list[Pixels]:
    """Of several images at once, as beginning to work out takes longer than the few pixels do.

    Args:
        paths: of the images; one is decoded again where its thumbnail seems to have a border.
        thumbnails: RGB, upright, the shorter side 64 to 128 px, or less of a smaller image.
    """
    if not thumbnails:
        return []
    small = [one.resize((_SIDE, _SIDE), Image.Resampling.BOX) for one in thumbnails]
    pixels = joined_bytes(small).reshape(-1, _SIDE, _SIDE, 3)
    # (images, 3, 48, 48): channels first, as the maximum over them is then quick.
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.int16)
    brightness = joined_bytes([one.convert("L") for one in small]).reshape(len(small), -1)
    here = planes[..., :-1, :-1]
    steps = np.maximum(np.abs(planes[..., :-1, 1:] - here), np.abs(planes[..., 1:, :-1] - here))
    steps = steps.max(1).reshape(len(small), -1)
    rim = planes[..., _RIM_PIXELS]
    middle = rim.shape[-1] // 2
    ground = np.partition(rim, middle)[..., middle]
    from_ground = np.abs(planes - ground[..., None, None]).max(1)
    darkest, lightest = _quantiles(brightness, (_DARK, _LIGHT))
    spread = (planes.max(1) - planes.min(1)).reshape(len(small), -1)
    (chroma,) = _quantiles(spread, (_COLOURFUL,))
    columns = (
        (darkest / 255).tolist(),
        (lightest / 255).tolist(),
        (chroma / 255).tolist(),
        np.mean(steps > _DETAIL, axis=1).tolist(),
        np.mean(steps <= _FLAT, axis=1).tolist(),
        np.mean(from_ground[:, _RIM_PIXELS] <= _GROUND, axis=1).tolist(),
        _subjects(from_ground > _SUBJECT),
        [
            _border(path, thumbnail) if plain else 0.0
            for path, thumbnail, plain in zip(paths, thumbnails, _plain_edges(planes), strict=True)
        ],
    )
    return [Pixels(*values) for values in zip(*columns, strict=True)]


def joined_bytes(images: Iterable[Image.Image]) -> np.ndarray:
    """The pixels of 8-bit images one behind the other, flat."""
    return np.frombuffer(b"".join([image.tobytes() for image in images]), np.uint8)


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """(images, values) -> (shares, images): the least that so large a share does not exceed."""
    places = [math.ceil(share * values.shape[1]) - 1 for share in shares]
    return np.partition(values, places)[:, places].T


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


def _plain_edges(planes: np.ndarray) -> list[bool]:
    """Whether one of the outermost lines is of one colour, more or less: there may be a border.

    Args:
        planes: (images, 3, 48, 48).
    """
    edges = np.stack(
        [planes[..., 0, :], planes[..., -1, :], planes[..., 0], planes[..., -1]], axis=1
    )
    edges.sort(axis=-1)
    spread = edges[..., -1 - _EDGE_TAIL] - edges[..., _EDGE_TAIL]
    return (spread.max(2) <= _ONE_COLOUR).any(1).tolist()


def _subjects(masks: np.ndarray) -> list[bytes]:
    """(images, 48, 48), true where the subject is; see :attr:`Pixels.subject`."""
    counts = np.count_nonzero(masks, axis=(1, 2))
    edges = []
    for axis in (1, 2):  # left and right, then top and bottom
        sums = masks.sum(axis).cumsum(1)
        low, high = (
            np.count_nonzero(sums < (share * counts)[:, None], axis=1)
            for share in (_TAIL, 1 - _TAIL)
        )
        edges.append((low * 255 // _SIDE, (high + 1) * 255 // _SIDE))
    boxes = np.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], axis=1)
    least = _LEAST_SUBJECT * masks[0].size
    return [
        bytes(box) if count >= least else b""
        for box, count in zip(boxes.tolist(), counts.tolist(), strict=True)
    ]


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The quality, 1 to 100, at which libjpeg's quantisation would be as strong; 0 without tables.

    Args:
        tables: of the file, the first of them is luminance's.
    """
    if 0 not in tables:
        return 0
    return int(_QUALITIES[np.abs(_SUMS - sum(tables[0])).argmin()])
