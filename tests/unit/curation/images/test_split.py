from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.curation.images.split import grid_of, tiles_of_grid, tiles_of_size
from lorasmith.data.recorded_crops import Box


def coverage(size: tuple[int, int], boxes: list[Box]) -> np.ndarray:
    counts = np.zeros((size[1], size[0]), int)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        counts[top:bottom, left:right] += 1
    return counts


SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(SIZES, SIZES, st.floats(0, 0.9))
def test_tiles_of_a_size_cover_everything(
    size: tuple[int, int], tile: tuple[int, int], overlap: float
) -> None:
    boxes = tiles_of_size(size, tile, overlap)
    assert coverage(size, boxes).min() >= 1
    assert {(b[2] - b[0], b[3] - b[1]) for b in boxes} == {
        (min(size[0], tile[0]), min(size[1], tile[1]))
    }


@given(SIZES, st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.9))
def test_grids_cover_everything(
    size: tuple[int, int], columns: int, rows: int, overlap: float
) -> None:
    boxes = tiles_of_grid(size, columns, rows, overlap)
    assert coverage(size, boxes).min() >= 1
    assert len(boxes) == min(columns, size[0]) * min(rows, size[1])


def test_as_few_as_can_be() -> None:
    assert tiles_of_size((1000, 500), (512, 512)) == [(0, 0, 512, 500), (488, 0, 1000, 500)]
    assert len(tiles_of_size((1024, 512), (512, 512))) == 2
    assert len(tiles_of_size((1024, 512), (512, 512), 0.1)) == 3
    assert tiles_of_size((300, 200), (512, 512)) == [(0, 0, 300, 200)]


def test_without_overlap_a_grid_has_each_pixel_once() -> None:
    assert (coverage((97, 64), tiles_of_grid((97, 64), 3, 2)) == 1).all()
    assert tiles_of_grid((100, 50), 2, 1, 0.5) == [(0, 0, 67, 50), (33, 0, 100, 50)]


@pytest.mark.parametrize(
    ("size", "count", "grid"),
    [
        ((800, 800), 4, (2, 2)),
        ((1600, 400), 4, (4, 1)),
        ((400, 900), 2, (1, 2)),
        ((9, 9), 1, (1, 1)),
    ],
)
def test_grids_of_a_count(size: tuple[int, int], count: int, grid: tuple[int, int]) -> None:
    assert grid_of(size, count) == grid
