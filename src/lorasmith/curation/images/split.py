"""Tiles of large images: how many, and where they lie."""

from __future__ import annotations

import math

from lorasmith.data.buckets import Size
from lorasmith.data.recorded_crops import Box


def tiles_of_size(size: Size, tile: Size, overlap: float = 0.0) -> list[Box]:
    """As few tiles of that size as cover the image, row by row, spread evenly.

    Args:
        size: width and height of the image, px.
        tile: of each tile, px; less where the image has less.
        overlap: least share of a tile that its neighbour shows as well, 0 to below 1.
    """
    across, down = (
        _spread(length, min(length, side), overlap) for length, side in zip(size, tile, strict=True)
    )
    return [
        (left, top, left + min(size[0], tile[0]), top + min(size[1], tile[1]))
        for top in down
        for left in across
    ]


def tiles_of_grid(size: Size, columns: int, rows: int, overlap: float = 0.0) -> list[Box]:
    """Columns and rows of equal tiles (but for rounding), row by row.

    Args:
        overlap: share of a tile that its neighbour shows as well, 0 to below 1.
    """
    across, down = (
        _parts(length, count, overlap) for length, count in zip(size, (columns, rows), strict=True)
    )
    return [(left, top, right, bottom) for top, bottom in down for left, right in across]


def grid_of(size: Size, count: int) -> tuple[int, int]:
    """Columns and rows of so many tiles, which are as nearly square as can be."""
    pairs = [(count // rows, rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(size[0] / pair[0] / (size[1] / pair[1]))))


def _spread(length: int, tile: int, overlap: float) -> list[int]:
    step = tile * (1 - overlap)
    count = 1 + math.ceil((length - tile) / step - 1e-9) if length > tile else 1
    room = length - tile
    return [round(room * number / (count - 1)) for number in range(count)] if count > 1 else [0]


def _parts(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    count = min(count, length)
    tile = length / (count - (count - 1) * overlap)
    step = tile * (1 - overlap)
    return [
        (round(number * step), min(length, round(number * step + tile))) for number in range(count)
    ]
