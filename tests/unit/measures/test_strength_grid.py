"""Where the loss is lowest, and how sure that is."""

from __future__ import annotations

import math

import pytest

from lorasmith.measures.strength_grid import StrengthGrid, lowest_between, mean_and_error


def bowl(unet: float, text_encoder: float) -> list[list[float]]:
    return [
        [(u - unet) ** 2 + (t - text_encoder) ** 2 - 1 for t in (0.5, 1.0, 2.0)]
        for u in (0.25, 0.5, 1.0, 2.0)
    ]


def grid(*planes: list[list[float]]) -> StrengthGrid:
    return StrengthGrid([0.25, 0.5, 1.0, 2.0], [0.5, 1.0, 2.0], list(planes))


def test_an_optimum_between_strengths_is_found() -> None:
    best = grid(bowl(0.6, 1.3), bowl(0.7, 1.3)).optimum()
    assert best.unet == pytest.approx(0.65)
    assert best.unet_error == pytest.approx(0.05)
    assert best.text_encoder == pytest.approx(1.3)
    assert best.text_encoder_error == pytest.approx(0, abs=1e-9)
    assert best.gain == pytest.approx((0.5 - 0.65) ** 2 - (1 - 0.65) ** 2)


def test_full_strength_stays_where_others_are_as_good() -> None:
    flat = [[-1.0] * 3 for _ in range(4)]
    flat[0][0] = -1.005
    best = grid(flat, flat).optimum()
    assert (best.unet, best.text_encoder) == (1.0, 1.0)


def test_an_optimum_at_an_end_is_that_end() -> None:
    assert grid(bowl(0.1, 3.0)).optimum().unet == 0.25
    assert grid(bowl(0.1, 3.0)).optimum().text_encoder == 2.0


def test_parabolas() -> None:
    assert lowest_between([0, 1, 2], [1, 0, 1], 1) == 1
    assert lowest_between([0, 1, 3], [1, 0, 4], 1) == 1
    assert lowest_between([0, 1, 2], [0, 1, 0], 1) == 1  # No valley.
    assert lowest_between([0, 1], [0, 1], 0) == 0


def test_a_single_value_has_no_error() -> None:
    assert mean_and_error([2.0]) == (2.0, math.inf)
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)
