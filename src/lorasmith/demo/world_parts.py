"""Drawing functions of the demo world's parts, one small function per part, found through tables.

A creature is drawn in body units: (0, 0) is the middle of the body, 1 is about its half width, y
grows downwards. `Brush` maps body units to pixels of the supersampled canvas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 4
SIZE = 64
CANVAS = SIZE * SUPERSAMPLE

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK: Colour = (25, 20, 30)
WHITE: Colour = (255, 255, 255)
LINE = int(SUPERSAMPLE * 1.5)


def jitter(colour: Colour, rng: Random, amount: float = 10) -> Colour:
    """The colour with every channel moved by up to `amount` (of 255)."""
    r, g, b = (int(max(0, min(255, v + rng.uniform(-amount, amount)))) for v in colour)
    return r, g, b


def darker(colour: Colour, factor: float = 0.45) -> Colour:
    r, g, b = (int(v * factor) for v in colour)
    return r, g, b


def lighter(colour: Colour, factor: float = 0.55) -> Colour:
    r, g, b = (int(v + (255 - v) * factor) for v in colour)
    return r, g, b


@dataclass(frozen=True)
class Brush:
    """Draws in body units on a canvas of `CANVAS` x `CANVAS` pixels."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    x: float  # canvas pixels
    y: float  # canvas pixels
    unit: float  # canvas pixels in one body unit
    body: Colour
    outline: Colour

    def at(self, points: Sequence[Point]) -> list[Point]:
        """Body units -> canvas pixels."""
        return [(self.x + px * self.unit, self.y + py * self.unit) for px, py in points]

    def box(self, x: float, y: float, rx: float, ry: float) -> list[Point]:
        return self.at([(x - rx, y - ry), (x + rx, y + ry)])

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Colour,
        outline: Colour | None = None,
        width: int = LINE,
    ) -> None:
        self.draw.ellipse(self.box(x, y, rx, ry), fill=fill, outline=outline or fill, width=width)

    def polygon(self, points: Sequence[Point], fill: Colour, outline: Colour | None = None) -> None:
        pixels = self.at(points)
        self.draw.polygon(pixels, fill=fill)
        if outline is not None:
            self.stroke(pixels, outline)

    def stroke(self, pixels: Sequence[Point], colour: Colour, width: int = LINE) -> None:
        """A closed line through canvas pixels."""
        closed = [*pixels, pixels[0], pixels[1]]
        self.draw.line(closed, fill=colour, width=width, joint="curve")

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.draw.line(self.at(points), fill=colour, width=int(width), joint="curve")

    def arc(self, x: float, y: float, rx: float, ry: float, angles: Point, width: float) -> None:
        self.draw.arc(self.box(x, y, rx, ry), *angles, fill=INK, width=int(width))


# Bodies: an outline, the height of its top, where the face sits, how far out the arms are.


def _ring(count: int = 72) -> list[float]:
    return [2 * math.pi * k / count for k in range(count)]


def _squared(value: float) -> float:
    return 0.92 * math.copysign(abs(value) ** 0.22, value)


def _star_outline(spikes: int = 5, outer: float = 1.12, inner: float = 0.66) -> list[Point]:
    radii = [outer if k % 2 == 0 else inner for k in range(2 * spikes)]
    angles = [k * math.pi / spikes for k in range(2 * spikes)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _ghost_outline() -> list[Point]:
    dome = [math.pi + math.pi * k / 29 for k in range(30)]
    hem = [(0.86, 0.9), (0.57, 0.62), (0.29, 0.95), (0, 0.66)]
    hem += [(-0.29, 0.95), (-0.57, 0.62), (-0.86, 0.9)]
    return [(0.86 * math.cos(a), -0.25 + 0.8 * math.sin(a)) for a in dome] + hem


@dataclass(frozen=True)
class Body:
    outline: tuple[Point, ...]
    top: float
    ears: float
    face: float
    arms: float = 1.0


_TRIANGLE = [(0, -1.12), (0.16, -1.05), (1.08, 0.78), (1.0, 0.93)]
_TRIANGLE += [(-1.0, 0.93), (-1.08, 0.78), (-0.16, -1.05)]

BODIES: dict[str, Body] = {
    "round body": Body(
        tuple((math.cos(a), math.sin(a)) for a in _ring()), top=-1.0, ears=-0.82, face=-0.12
    ),
    "square body": Body(
        tuple((_squared(math.cos(a)), _squared(math.sin(a))) for a in _ring()),
        top=-0.9,
        ears=-0.72,
        face=-0.12,
    ),
    "triangle body": Body(tuple(_TRIANGLE), top=-0.98, ears=-0.53, face=0.14),
    "star body": Body(tuple(_star_outline()), top=-1.0, ears=-0.55, face=-0.02),
    "ghost body": Body(tuple(_ghost_outline()), top=-1.02, ears=-0.84, face=-0.26),
    "egg body": Body(
        tuple((0.76 * math.cos(a) * (1 + 0.18 * math.sin(a)), 1.08 * math.sin(a)) for a in _ring()),
        top=-1.05,
        ears=-0.87,
        face=-0.08,
        arms=0.8,
    ),
}


# Backgrounds fill the canvas.


def _plain(colour: Colour, amount: float) -> Callable[[Image.Image, Random], None]:
    def paint(image: Image.Image, rng: Random) -> None:
        image.paste(jitter(colour, rng, amount), (0, 0, CANVAS, CANVAS))

    return paint


def _striped(image: Image.Image, rng: Random) -> None:
    draw = ImageDraw.Draw(image)
    image.paste(jitter((250, 240, 210), rng, 5), (0, 0, CANVAS, CANVAS))
    width = SUPERSAMPLE * 5
    offset, colour = rng.randrange(0, 2 * width), jitter((238, 190, 135), rng, 8)
    for x in range(offset - 2 * width, CANVAS + 2 * width, 2 * width):
        draw.rectangle((x, 0, x + width, CANVAS), fill=colour)


def _gradient(image: Image.Image, rng: Random) -> None:
    above = np.array(jitter((255, 225, 150), rng, 8))
    below = np.array(jitter((150, 150, 235), rng, 10))
    t = np.linspace(0, 1, CANVAS)[:, None, None]
    pixels = (above * (1 - t) + below * t) * np.ones((CANVAS, CANVAS, 1))
    image.paste(Image.fromarray(pixels.astype(np.uint8)))


def _starry(image: Image.Image, rng: Random) -> None:
    draw = ImageDraw.Draw(image)
    image.paste(jitter((32, 36, 80), rng, 8), (0, 0, CANVAS, CANVAS))
    for _ in range(rng.randint(9, 14)):
        x, y = rng.uniform(0, CANVAS), rng.uniform(0, CANVAS)
        r = rng.uniform(1.3, 2.0) * SUPERSAMPLE
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 245, 200))


def _grass(image: Image.Image, rng: Random) -> None:
    image.paste(jitter((170, 215, 250), rng, 6), (0, 0, CANVAS, CANVAS))
    horizon = int(CANVAS * rng.uniform(0.66, 0.74))
    image.paste(jitter((110, 190, 90), rng, 8), (0, horizon, CANVAS, CANVAS))


BACKGROUNDS: dict[str, Callable[[Image.Image, Random], None]] = {
    "white background": _plain((250, 250, 250), 4),
    "blue background": _plain((165, 210, 245), 8),
    "green background": _plain((175, 230, 170), 8),
    "pink background": _plain((250, 205, 220), 6),
    "striped background": _striped,
    "gradient background": _gradient,
    "starry background": _starry,
    "grass field": _grass,
}


# Ears, drawn behind the body; `y` is the height at which they sit.


def _cat_ears(brush: Brush, y: float) -> None:
    inner = lighter((250, 150, 170), 0.2)
    for k in (-1, 1):
        outer = [(k * 0.75, y + 0.35), (k * 0.84, y - 0.42), (k * 0.2, y)]
        brush.polygon(outer, brush.body, brush.outline)
        brush.polygon([(k * 0.66, y + 0.1), (k * 0.73, y - 0.22), (k * 0.4, y)], inner)


def _bunny_ears(brush: Brush, y: float) -> None:
    for k in (-1, 1):
        brush.ellipse(k * 0.42, y - 0.4, 0.21, 0.58, brush.body, brush.outline)
        brush.ellipse(k * 0.42, y - 0.4, 0.1, 0.4, (250, 170, 190))


def _round_ears(brush: Brush, y: float) -> None:
    for k in (-1, 1):
        brush.ellipse(k * 0.76, y + 0.03, 0.36, 0.36, brush.body, brush.outline)
        brush.ellipse(k * 0.76, y + 0.03, 0.19, 0.19, lighter(brush.body))


EARS: dict[str, Callable[[Brush, float], None]] = {
    "no ears": lambda brush, y: None,
    "cat ears": _cat_ears,
    "bunny ears": _bunny_ears,
    "round ears": _round_ears,
}


# Faces; `y` is the height of the face.


def _one_eye(brush: Brush, y: float) -> None:
    brush.ellipse(0, y - 0.1, 0.34, 0.34, WHITE, INK, SUPERSAMPLE)
    brush.ellipse(0.02, y - 0.07, 0.17, 0.18, INK)
    brush.ellipse(0.08, y - 0.15, 0.06, 0.06, WHITE)


def _closed_eyes(brush: Brush, y: float) -> None:
    for x in (-0.33, 0.33):
        brush.arc(x, y - 0.05, 0.2, 0.18, (20, 160), SUPERSAMPLE * 1.7)


def _open_eyes(brush: Brush, y: float) -> None:
    for x in (-0.33, 0.33):
        brush.ellipse(x, y - 0.1, 0.2, 0.24, WHITE, INK, SUPERSAMPLE)
        brush.ellipse(x, y - 0.06, 0.11, 0.15, INK)
        brush.ellipse(x + 0.04, y - 0.14, 0.05, 0.05, WHITE)


def _angry_eyes(brush: Brush, y: float) -> None:
    _open_eyes(brush, y)
    for k in (-1, 1):
        x = k * 0.33
        brow = [(x - k * 0.24, y - 0.14), (x + k * 0.26, y - 0.36)]
        brow += [(x + k * 0.26, y - 0.52), (x - k * 0.26, y - 0.3)]
        brush.polygon(brow, INK)


EYES: dict[str, Callable[[Brush, float], None]] = {
    "open eyes": _open_eyes,
    "closed eyes": _closed_eyes,
    "angry eyes": _angry_eyes,
    "one eye": _one_eye,
}


def _smile(brush: Brush, y: float) -> None:
    brush.arc(0, y + 0.25, 0.34, 0.24, (10, 170), SUPERSAMPLE * 2)


def _open_mouth(brush: Brush, y: float) -> None:
    brush.ellipse(0, y + 0.42, 0.22, 0.2, (190, 30, 50), INK, SUPERSAMPLE)


def _frown(brush: Brush, y: float) -> None:
    brush.arc(0, y + 0.57, 0.32, 0.24, (190, 350), SUPERSAMPLE * 2)


MOUTHS: dict[str, Callable[[Brush, float], None]] = {
    "smile": _smile,
    "open mouth": _open_mouth,
    "frown": _frown,
    "no mouth": lambda brush, y: None,
}


# Bellies, drawn on the body and under the face.


def _spots(brush: Brush) -> None:
    spots = ((-0.5, 0.42, 0.13), (-0.2, 0.72, 0.13), (0.26, 0.7, 0.12), (0.52, 0.38, 0.12))
    for x, y, r in spots:
        brush.ellipse(x, y, r, r, darker(brush.body, 0.58))


def _light_belly(brush: Brush) -> None:
    brush.ellipse(0, 0.56, 0.5, 0.34, lighter(brush.body, 0.68))


BELLIES: dict[str, Callable[[Brush], None]] = {
    "plain belly": lambda brush: None,
    "spots": _spots,
    "light belly": _light_belly,
}


# Hats; `y` is the height of the brim.


def _top_hat(brush: Brush, y: float) -> None:
    outline = [(-0.6, y), (0.6, y), (0.6, y - 0.14), (0.38, y - 0.14), (0.38, y - 0.68)]
    outline += [(-0.38, y - 0.68), (-0.38, y - 0.14), (-0.6, y - 0.14)]
    brush.polygon(outline, (40, 38, 48), (15, 15, 20))
    band = [(-0.36, y - 0.16), (0.36, y - 0.16), (0.36, y - 0.32), (-0.36, y - 0.32)]
    brush.polygon(band, (200, 40, 50))


def _crown(brush: Brush, y: float) -> None:
    outline = [(-0.5, y), (0.5, y), (0.58, y - 0.55), (0.26, y - 0.26), (0, y - 0.62)]
    outline += [(-0.26, y - 0.26), (-0.58, y - 0.55)]
    brush.polygon(outline, (250, 205, 50), (150, 105, 10))
    brush.ellipse(0, y - 0.14, 0.08, 0.08, (220, 40, 60))


def _party_hat(brush: Brush, y: float) -> None:
    cone = [(-0.42, y + 0.02), (0.42, y + 0.02), (0, y - 0.85)]
    brush.polygon(cone, (90, 205, 215), (20, 100, 120))
    brush.line([(-0.3, y - 0.2), (0.26, y - 0.3)], WHITE, SUPERSAMPLE * 2)
    brush.ellipse(0, y - 0.85, 0.15, 0.15, (245, 90, 140), (180, 40, 90))


def _beanie(brush: Brush, y: float) -> None:
    angles = [math.pi + math.pi * k / 23 for k in range(24)]
    dome = [(0.56 * math.cos(a), y + 0.02 + 0.5 * math.sin(a)) for a in angles]
    brush.polygon(dome, (60, 150, 110), (20, 70, 50))
    wool, edge = (235, 235, 225), (120, 120, 110)
    brim = [(-0.6, y + 0.06), (0.6, y + 0.06), (0.6, y - 0.12), (-0.6, y - 0.12)]
    brush.polygon(brim, wool, edge)
    brush.ellipse(0, y - 0.5, 0.13, 0.13, wool, edge)


HATS: dict[str, Callable[[Brush, float], None]] = {
    "no hat": lambda brush, y: None,
    "top hat": _top_hat,
    "crown": _crown,
    "party hat": _party_hat,
    "beanie": _beanie,
}


# Held things; `x` is where the hand is.


def _flower(brush: Brush, x: float) -> None:
    brush.line([(x, 0.6), (x + 0.02, -0.05)], (50, 140, 60), SUPERSAMPLE * 1.7)
    for k in range(5):
        a = k * 2 * math.pi / 5
        px, py = x + 0.02 + 0.16 * math.cos(a), -0.15 + 0.16 * math.sin(a)
        brush.ellipse(px, py, 0.13, 0.13, (250, 130, 180), (190, 60, 120), 2)
    brush.ellipse(x + 0.02, -0.15, 0.1, 0.1, (250, 220, 70))


def _sword(brush: Brush, x: float) -> None:
    blade = [(x - 0.08, 0.1), (x + 0.08, 0.1), (x + 0.08, -0.62), (x, -0.8), (x - 0.08, -0.62)]
    brush.polygon(blade, (215, 225, 235), (80, 90, 110))
    leather, edge = (150, 100, 40), (80, 50, 20)
    guard = [(x - 0.22, 0.1), (x + 0.22, 0.1), (x + 0.22, 0.22), (x - 0.22, 0.22)]
    brush.polygon(guard, leather, edge)
    grip = [(x - 0.06, 0.2), (x + 0.06, 0.2), (x + 0.06, 0.45), (x - 0.06, 0.45)]
    brush.polygon(grip, leather, edge)


def _balloon(brush: Brush, x: float) -> None:
    brush.line([(x, 0.4), (x + 0.05, -0.45)], (90, 90, 90), SUPERSAMPLE)
    brush.ellipse(x + 0.06, -0.72, 0.26, 0.32, (235, 60, 70), (150, 20, 30))


HELD: dict[str, Callable[[Brush, float], None]] = {
    "empty hands": lambda brush, x: None,
    "holding flower": _flower,
    "holding sword": _sword,
    "holding balloon": _balloon,
}
