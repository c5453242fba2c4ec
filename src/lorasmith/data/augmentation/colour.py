"""Gentle changes of colour: hue, saturation and gamma.

Worked out on values 0..1: sd-scripts takes gamma of 0..255, which darkens an image by a quarter
or clips it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np

# What strength 1 can do at most, either way.
HUE_DEGREES = 20.0
FACTOR = 1.5

# Rec. 709 luma, to the digits that the CSS filter effects specification gives.
LUMA = (0.213, 0.715, 0.072)


@dataclass(frozen=True, slots=True)
class Colour:
    """One change of colour; the default is none.

    Args:
        hue: rotation, degrees.
        saturation: factor; 0 is grey.
        gamma: exponent of values 0..1; above 1 darkens.
    """

    hue: float = 0.0
    saturation: float = 1.0
    gamma: float = 1.0


def draw_colour(strength: float, rng: Random) -> Colour:
    """A change at random.

    Args:
        strength: 0..1. At 1 the hue turns by up to 20 degrees, and saturation and gamma are between
            1/1.5 and 1.5 (drawn evenly on a logarithmic scale); at less, that share of it.
    """
    return Colour(
        HUE_DEGREES * strength * rng.uniform(-1, 1),
        FACTOR ** (strength * rng.uniform(-1, 1)),
        FACTOR ** (strength * rng.uniform(-1, 1)),
    )


def recolour(pixels: np.ndarray, colour: Colour) -> np.ndarray:
    """uint8 (H, W, 3) in other colours, uint8; greys stay grey.

    Hue and saturation are the matrices of ``hue-rotate`` and ``saturate`` in the W3C's Filter
    Effects Module Level 1, which keep the luma.
    """
    matrix = _saturate(colour.saturation) @ _rotate(colour.hue)
    values = pixels.astype(np.float32) / 255 @ matrix.T.astype(np.float32)
    values = values.clip(0, 1) ** np.float32(colour.gamma)
    return (values * 255 + 0.5).astype(np.uint8)


def _rotate(degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    grey = np.tile(LUMA, (3, 1))
    red, green, blue = LUMA
    sine = np.array([
        (-red, -green, 1 - blue),
        (0.143, 0.140, -0.283),
        (-(1 - red), green, blue),
    ])  # fmt: skip
    return np.asarray(grey + math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * sine)


def _saturate(factor: float) -> np.ndarray:
    grey = np.tile(LUMA, (3, 1))
    return np.asarray(grey + factor * (np.eye(3) - grey))
