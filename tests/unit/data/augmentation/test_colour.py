from __future__ import annotations

import colorsys
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.data.augmentation.colour import (
    FACTOR,
    HUE_DEGREES,
    LUMA,
    Colour,
    draw_colour,
    recolour,
)

COLOURS = st.builds(Colour, st.floats(-20, 20), st.floats(0.67, 1.5), st.floats(0.67, 1.5))


def noise(low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (32, 32, 3), dtype=np.uint8)


def test_no_change_is_none() -> None:
    assert np.array_equal(recolour(noise(), Colour()), noise())


@given(COLOURS)
def test_grey_stays_grey(colour: Colour) -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    result = recolour(greys, colour)
    assert np.ptp(result, axis=2).max() == 0
    expected = 255 * (np.arange(256) / 255) ** colour.gamma
    assert np.abs(result[0, :, 0] - expected).max() <= 0.51
    assert result[0, 0, 0] == 0
    assert result[0, 255, 0] == 255


@given(st.floats(-20, 20), st.floats(0.67, 1.3))
def test_hue_and_saturation_keep_the_luma(hue: float, saturation: float) -> None:
    pixels = noise(90, 166)  # in the middle: nothing is clipped
    result = recolour(pixels, Colour(hue, saturation))
    assert np.abs((result.astype(float) - pixels) @ np.array(LUMA)).max() < 1.1


def test_hues_turn_the_right_way() -> None:
    """Towards where HSV's hue, of the standard library, goes."""
    red = np.full((1, 1, 3), (180, 60, 60), np.uint8)
    for degrees in (-15, 15):
        r, g, b = recolour(red, Colour(hue=degrees))[0, 0] / 255
        turned = (colorsys.rgb_to_hsv(r, g, b)[0] * 360 + 180) % 360 - 180
        assert turned == pytest.approx(degrees, abs=6)


def test_the_matrices_of_the_specification() -> None:
    """Filter Effects Module Level 1: grayscale(1) is saturate(0); hueRotate(90) by its table."""
    pixels = np.full((1, 1, 3), (140, 120, 110), np.uint8)
    grey = 0.2126 * 140 + 0.7152 * 120 + 0.0722 * 110
    assert np.abs(recolour(pixels, Colour(saturation=0)) - grey).max() < 1
    quarter = np.array([[0, 0, 1], [0.356, 0.855, -0.211], [-0.574, 1.43, 0.144]])
    expected = quarter @ np.array([140, 120, 110])
    assert np.abs(recolour(pixels, Colour(hue=90))[0, 0] - expected).max() < 0.6


def test_gamma_is_gentle_where_sd_scripts_is_not() -> None:
    """255 ** 0.95 would be 193; white stays white here."""
    white = np.full((1, 1, 3), 255, np.uint8)
    assert recolour(white, Colour(gamma=0.95)).min() == 255
    middle = np.full((1, 1, 3), 128, np.uint8)
    assert abs(int(recolour(middle, Colour(gamma=0.95))[0, 0, 0]) - 132) <= 1


@given(st.floats(0, 1), st.integers(0, 1000))
def test_strength_bounds_every_change(strength: float, seed: int) -> None:
    colour = draw_colour(strength, Random(seed))
    assert abs(colour.hue) <= HUE_DEGREES * strength
    for factor in (colour.saturation, colour.gamma):
        assert FACTOR**-strength * (1 - 1e-9) <= factor <= FACTOR**strength * (1 + 1e-9)
