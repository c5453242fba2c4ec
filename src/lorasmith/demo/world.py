"""The demo world: little creatures, 64x64 pixels, each described by tags.

Everything is a pure function of a `random.Random`: the same seed gives the same creatures, tags
and pixels. The base model sees only what `random_creature` gives. `Extras` are parts that it never
sees; a new character to train a LoRA on is made from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from lorasmith.demo import world_parts as parts
from lorasmith.demo.world_parts import (
    CANVAS,
    LINE,
    SUPERSAMPLE,
    Brush,
    Colour,
    Point,
    darker,
    jitter,
)

COLOURS: dict[str, Colour] = {
    "red": (222, 52, 52),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 60),
    "green": (70, 180, 80),
    "blue": (60, 110, 225),
    "purple": (145, 75, 200),
    "pink": (250, 150, 195),
    "brown": (140, 90, 55),
    "white": (245, 245, 245),
    "gray": (140, 145, 155),
}

# Attribute -> its values. A value is also its tag, but for `colour`, whose tag is "<value> body".
VALUES: dict[str, tuple[str, ...]] = {
    "shape": tuple(parts.BODIES),
    "colour": tuple(COLOURS),
    "eyes": tuple(parts.EYES),
    "mouth": tuple(parts.MOUTHS),
    "hat": tuple(parts.HATS),
    "ears": tuple(parts.EARS),
    "held": tuple(parts.HELD),
    "belly": tuple(parts.BELLIES),
    "background": tuple(parts.BACKGROUNDS),
}

# Never written as a tag: nothing is said of empty hands and plain bellies.
UNSAID = frozenset({"empty hands", "plain belly"})
# Written as a tag only now and then when tags are varied.
SELDOM_SAID = frozenset({"no hat", "no ears", "no mouth"})

# How often an attribute takes its first value, beside the even share of all the values.
_FIRST_AGAIN = {"hat": 1, "ears": 1, "held": 2, "belly": 1}


@dataclass(frozen=True)
class Creature:
    """What an image shows; each field holds one of `VALUES[field]`."""

    shape: str
    colour: str
    eyes: str
    mouth: str
    hat: str
    ears: str
    held: str
    belly: str
    background: str


@dataclass(frozen=True)
class Extras:
    """Parts outside the base world, each None or its colour."""

    lower: Colour | None = None
    antennae: Colour | None = None
    wings: Colour | None = None
    scarf: Colour | None = None
    arms: bool = True


NO_EXTRAS = Extras()


def random_creature(rng: Random) -> Creature:
    """A creature of the base world."""

    def pick(attribute: str) -> str:
        values = VALUES[attribute]
        return rng.choice(values + values[:1] * _FIRST_AGAIN.get(attribute, 0))

    return Creature(**{attribute: pick(attribute) for attribute in VALUES})


def all_tags(creature: Creature) -> list[str]:
    """Every tag of the creature, in a fixed order."""
    values = [f"{creature.colour} body", creature.shape, creature.eyes, creature.mouth]
    values += [creature.hat, creature.ears, creature.held, creature.belly, creature.background]
    return [value for value in values if value not in UNSAID]


def tags(creature: Creature, rng: Random | None = None, drop: float = 0.12) -> list[str]:
    """Tags of the creature: all in a fixed order, or with `rng` shuffled and some left out.

    Args:
        creature: what the image shows.
        rng: varies the tags; None gives them all.
        drop: the chance of leaving out each tag.
    """
    every = all_tags(creature)
    if rng is None:
        return every
    caption_tags = [tag for tag in every if tag not in SELDOM_SAID or rng.random() < 0.5]
    caption_tags = [tag for tag in caption_tags if rng.random() >= drop]
    rng.shuffle(caption_tags)
    return caption_tags


def draw(
    creature: Creature,
    rng: Random,
    extras: Extras = NO_EXTRAS,
    body_colour: Colour | None = None,
) -> np.ndarray:
    """An image of the creature, uint8 (64, 64, 3), values 0 to 255.

    Args:
        creature: what to show.
        rng: place, size and shades vary with it.
        extras: parts outside the base world.
        body_colour: overrides the creature's own colour.
    """
    image = draw_canvas(creature, rng, extras, body_colour)
    return np.asarray(image.reduce(SUPERSAMPLE))


def draw_canvas(
    creature: Creature,
    rng: Random,
    extras: Extras = NO_EXTRAS,
    body_colour: Colour | None = None,
) -> Image.Image:
    """As `draw`, before it is reduced from 256x256 to 64x64 pixels."""
    image = Image.new("RGB", (CANVAS, CANVAS))
    parts.BACKGROUNDS[creature.background](image, rng)
    brush = _place(image, creature, rng, extras, body_colour or COLOURS[creature.colour])
    _draw_creature(brush, creature, extras)
    return image


def _place(
    image: Image.Image, creature: Creature, rng: Random, extras: Extras, colour: Colour
) -> Brush:
    tall = creature.hat != "no hat" or creature.ears == "bunny ears" or extras.antennae is not None
    sway = 0.03 if extras.wings is not None else 0.07
    unit = CANVAS * rng.uniform(0.28, 0.325) * (0.86 if tall else 1)
    x = CANVAS * (0.5 + rng.uniform(-sway, sway))
    y = CANVAS * ((0.56 if tall else 0.53) + rng.uniform(-0.04, 0.04))
    if extras.antennae is not None:
        # Two balls above the head must stay inside the image.
        unit, y = min(unit, CANVAS * 0.265), max(y, CANVAS * 0.58)
    body = jitter(colour, rng)
    draw = ImageDraw.Draw(image)
    return Brush(image, draw, x, y, unit, body, darker(body, 0.38))


def _draw_creature(brush: Brush, creature: Creature, extras: Extras) -> None:
    body = parts.BODIES[creature.shape]
    if extras.wings is not None:
        _wings(brush, extras.wings)
    parts.EARS[creature.ears](brush, body.ears)
    if extras.antennae is not None:
        _antennae(brush, body.top, extras.antennae)
    for side in (-1, 1):
        brush.ellipse(side * 0.42, 0.98, 0.27, 0.17, darker(brush.body, 0.75), brush.outline)
        if extras.arms:
            brush.ellipse(side * body.arms, 0.3, 0.2, 0.17, brush.body, brush.outline)
    brush.polygon(body.outline, brush.body, brush.outline)
    if extras.lower is not None:
        _two_tone(brush, body.outline, extras.lower)
    parts.BELLIES[creature.belly](brush)
    parts.EYES[creature.eyes](brush, body.face)
    parts.MOUTHS[creature.mouth](brush, body.face)
    if extras.scarf is not None:
        _scarf(brush, body.face + 0.6, extras.scarf)
    parts.HATS[creature.hat](brush, body.top + 0.12)
    parts.HELD[creature.held](brush, body.arms + 0.13)


def _wings(brush: Brush, colour: Colour) -> None:
    """Two large wings behind the body, one at each side."""
    lobe = [math.pi * k / 12 for k in range(13)]
    for k in (-1, 1):
        tip = [(k * (1.22 + 0.42 * math.sin(a)), -0.42 - 0.52 * math.cos(a)) for a in lobe]
        points = [(k * 0.3, 0.1), *tip, (k * 1.3, 0.5), (k * 0.85, 0.62)]
        brush.polygon(points, colour, darker(colour, 0.4))


def _antennae(brush: Brush, top: float, colour: Colour) -> None:
    """Two long antennae with big balls, from the top of the head."""
    for k in (-1, 1):
        stem = [(k * 0.15, top + 0.15), (k * 0.3, top - 0.25), (k * 0.5, top - 0.5)]
        brush.line(stem, brush.outline, LINE + 3)
        brush.ellipse(k * 0.55, top - 0.55, 0.38, 0.38, colour, darker(colour, 0.4))


def _two_tone(brush: Brush, outline: Sequence[Point], colour: Colour, level: float = 0.1) -> None:
    """The body below `level` in another colour."""
    pixels = brush.at(outline)
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon(pixels, fill=255)
    draw.rectangle((0, 0, CANVAS, brush.y + level * brush.unit), fill=0)
    brush.image.paste(colour, (0, 0), mask)
    brush.stroke(pixels, brush.outline)


def _scarf(brush: Brush, y: float, colour: Colour) -> None:
    """A scarf below the mouth with one end hanging; `y` is its upper edge."""
    edge = darker(colour, 0.5)
    brush.polygon([(-0.9, y), (0.9, y), (0.86, y + 0.28), (-0.86, y + 0.28)], colour, edge)
    end = [(0.4, y + 0.12), (0.7, y + 0.12), (0.78, y + 0.64), (0.46, y + 0.64)]
    brush.polygon(end, colour, edge)
