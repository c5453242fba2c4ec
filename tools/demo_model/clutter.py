"""Images for the autoencoder only: the demo world among random shapes in random colours.

The autoencoder must hold what the base world lacks, or a LoRA could not learn it. So half of its
images carry scribbles: shapes, edges, thin lines and small details of any colour, at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from lorasmith.demo.world import Creature, draw, draw_canvas, random_creature
from lorasmith.demo.world_parts import CANVAS, SUPERSAMPLE, Colour, Point, darker


def random_colour(rng: Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _edge(colour: Colour, rng: Random) -> Colour:
    return darker(colour, 0.4) if rng.random() < 0.6 else random_colour(rng)


def _oval(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    colour, ry = random_colour(rng), r * rng.uniform(0.5, 1.3)
    box = (x - r, y - ry, x + r, y + ry)
    draw.ellipse(box, fill=colour, outline=_edge(colour, rng), width=rng.randint(1, 6))


def _split_oval(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    box, turn = (x - r, y - r, x + r, y + r), rng.randrange(360)
    draw.pieslice(box, turn, turn + 180, fill=random_colour(rng))
    draw.pieslice(box, turn + 180, turn + 360, fill=random_colour(rng))


def _polygon(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    def corner() -> Point:
        return x + rng.uniform(-1.4, 1.4) * r, y + rng.uniform(-1.4, 1.4) * r

    colour = random_colour(rng)
    corners = [corner() for _ in range(rng.randint(3, 6))]
    draw.polygon(corners, fill=colour, outline=_edge(colour, rng), width=rng.randint(1, 6))


def _petal(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    colour, turn = random_colour(rng), rng.uniform(0, 2 * math.pi)
    length, width = r * rng.uniform(0.8, 1.8), r * rng.uniform(0.3, 0.9)
    outline = []
    for k in range(16):
        a = 2 * math.pi * k / 16
        u, v = length * math.cos(a), width * math.sin(a) * (1 + 0.5 * math.cos(a))
        px = x + u * math.cos(turn) - v * math.sin(turn)
        outline.append((px, y + u * math.sin(turn) + v * math.cos(turn)))
    draw.polygon(outline, fill=colour)
    draw.line([*outline, *outline[:2]], fill=_edge(colour, rng), width=6, joint="curve")


def _stroke(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    points = [(x + rng.uniform(-2, 2) * r, y + rng.uniform(-2, 2) * r) for _ in range(3)]
    draw.line(points, fill=random_colour(rng), width=rng.randint(3, 12), joint="curve")


def _pin(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    angle, length, ball = rng.uniform(0, 2 * math.pi), r * 1.8, rng.uniform(0.4, 1) * r
    ex, ey = x + length * math.cos(angle), y + length * math.sin(angle)
    draw.line([(x, y), (ex, ey)], fill=random_colour(rng), width=rng.randint(4, 11))
    colour = random_colour(rng)
    box = (ex - ball, ey - ball, ex + ball, ey + ball)
    draw.ellipse(box, fill=colour, outline=_edge(colour, rng), width=rng.randint(1, 6))


def _block(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    colour, ry = random_colour(rng), r * rng.uniform(0.2, 1)
    box = (x - r, y - ry, x + r, y + ry)
    draw.rectangle(box, fill=colour, outline=_edge(colour, rng), width=rng.randint(1, 6))


def _arc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, rng: Random) -> None:
    start, colour = rng.randrange(360), random_colour(rng)
    box = (x - r, y - r, x + r, y + r)
    draw.arc(box, start, start + rng.randrange(60, 340), fill=colour, width=rng.randint(4, 12))


_KINDS: tuple[Callable[[ImageDraw.ImageDraw, float, float, float, Random], None], ...] = (
    _oval,
    _split_oval,
    _polygon,
    _petal,
    _stroke,
    _pin,
    _block,
    _arc,
)


def scribble(image: Image.Image, count: int, rng: Random, largest: float = 0.2) -> None:
    """Draw `count` random shapes over the canvas, radius up to `largest` of its width."""
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = rng.uniform(0, CANVAS), rng.uniform(0, CANVAS)
        rng.choice(_KINDS)(draw, x, y, rng.uniform(0.03, largest) * CANVAS, rng)


def scribbles_only(rng: Random) -> Image.Image:
    """A canvas of scribbles and nothing else, 256x256 pixels."""
    image = Image.new("RGB", (CANVAS, CANVAS), random_colour(rng))
    if rng.random() < 0.5:
        image = Image.linear_gradient("L").rotate(90 * rng.randrange(4)).resize(image.size)
        dark, bright = sorted((random_colour(rng), random_colour(rng)), key=sum)
        ends = zip(dark, bright, strict=True)
        table = [int(a + (b - a) * k / 255) for a, b in ends for k in range(256)]
        image = Image.merge("RGB", (image, image, image)).point(table)
    scribble(image, rng.randint(4, 14), rng, largest=0.35)
    return image


def doodled_image(creature: Creature, rng: Random, odd_colour: bool, most: int = 6) -> np.ndarray:
    """A creature with 2 to `most` scribbles over it, uint8 (64, 64, 3); `odd_colour` gives its
    body any colour."""
    colour = random_colour(rng) if odd_colour else None
    image = draw_canvas(creature, rng, body_colour=colour)
    scribble(image, rng.randint(2, most), rng)
    return np.asarray(image.reduce(SUPERSAMPLE))


def autoencoder_image(rng: Random) -> np.ndarray:
    """A training image for the autoencoder, uint8 (64, 64, 3).

    Half are plain images of the world; 3 in 10 have odd colours and scribbles; the rest are
    scribbles alone.
    """
    kind = rng.random()
    if kind < 0.5:
        return draw(random_creature(rng), rng)
    if kind < 0.8:
        return doodled_image(random_creature(rng), rng, rng.random() < 0.6, most=9)
    return np.asarray(scribbles_only(rng).reduce(SUPERSAMPLE))
