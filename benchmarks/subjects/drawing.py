"""Draws creatures of the demo world with traits that the world lacks, or in another style.

As in `lorasmith.demo.world_parts`, lengths are in body units: (0, 0) is the middle of the body, 1
about its half width, y grows downwards. Images are 64x64 pixels, drawn four times as large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from PIL import Image, ImageDraw

from lorasmith.demo import world_parts as parts
from lorasmith.demo.world import COLOURS, Creature
from lorasmith.demo.world_parts import CANVAS, SUPERSAMPLE, Body, Brush, Colour, darker, jitter

# Half width of a creature in parts of the canvas; the world's own are 0.24 to 0.325.
SIZES = (0.24, 0.32)
SWAY = 0.09  # how far a creature stands from its usual place, in parts of the canvas
MARGIN = 0.97  # the part of the canvas that a creature with its traits may fill

Colours = tuple[Colour, ...]
Paint = Callable[[Brush, Body, Colours], None]


@dataclass(frozen=True)
class Trait:
    """A part that no creature of the world has.

    Attributes:
        name: of the part, one word.
        layer: when it is drawn: "behind" all else, "limbs" before the body, "pattern" on the body
            and nowhere else, "face" over the face, "head" in a hat's place, "front" over all.
        paint: draws it.
        colours: what it is painted with.
        up, down, side: how far it reaches from the middle of the body.
        replaces: what is left out for it, of "arms", "feet", "hat", "ears", "held".
    """

    name: str
    layer: str
    paint: Paint
    colours: Colours
    up: float = 0.0
    down: float = 0.0
    side: float = 0.0
    replaces: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Style:
    """Another way to draw the whole image.

    Attributes:
        dark, light: the tones between which all colours are mapped by their brightness; None
            keeps the colours.
        ink: colour of all outlines; None keeps theirs.
        thickness: of the outlines, in those of the world.
        frame: colour of a frame around the image.
    """

    dark: Colour | None = None
    light: Colour | None = None
    ink: Colour | None = None
    thickness: float = 1.0
    frame: Colour | None = None

    def tone(self, colour: Colour) -> Colour:
        if self.dark is None or self.light is None:
            return colour
        t = (0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) / 255
        r, g, b = (int(d + (l - d) * t) for d, l in zip(self.dark, self.light, strict=True))
        return r, g, b

    def tone_image(self, image: Image.Image) -> Image.Image:
        if self.dark is None or self.light is None:
            return image
        gray = image.convert("L")
        ramps = [
            gray.point([int(d + (l - d) * t / 255) for t in range(256)])
            for d, l in zip(self.dark, self.light, strict=True)
        ]
        return Image.merge("RGB", ramps)


@dataclass(frozen=True)
class Look:
    """How a subject differs from a creature of the world."""

    traits: tuple[Trait, ...] = ()
    body_colour: Colour | None = None
    style: Style | None = None


PLAIN = Look()


@dataclass(frozen=True)
class StyledBrush(Brush):
    """A brush that maps every colour and outline as its style has it."""

    style: Style = Style()

    def _ink(self, colour: Colour) -> Colour:
        return self.style.ink or self.style.tone(colour)

    def _width(self, width: float) -> int:
        return int(width * self.style.thickness)

    def ellipse(self, x, y, rx, ry, fill, outline=None, width=parts.LINE):
        fill = self.style.tone(fill)
        if outline is not None:
            # Half of the thicker line goes outwards, or little would be left of eyes.
            grow = (self._width(width) - width) / 2 / self.unit
            rx, ry, outline = rx + grow, ry + grow, self._ink(outline)
        super().ellipse(x, y, rx, ry, fill, outline, self._width(width))

    def polygon(self, points, fill, outline=None):
        self.draw.polygon(self.at(points), fill=self.style.tone(fill))
        if outline is not None:
            self.stroke(self.at(points), outline)

    def stroke(self, pixels, colour, width=parts.LINE):
        super().stroke(pixels, self._ink(colour), self._width(width))

    def line(self, points, colour, width):
        super().line(points, self.style.tone(colour), width)

    def arc(self, x, y, rx, ry, angles, width):
        width = int(width * (1 + self.style.thickness) / 2)
        self.draw.arc(self.box(x, y, rx, ry), *angles, fill=self._ink(parts.INK), width=width)


def draw(creature: Creature, rng: Random, look: Look = PLAIN) -> Image.Image:
    """An RGB image of 64x64 pixels; place, size and shades vary with `rng`."""
    image = Image.new("RGB", (CANVAS, CANVAS))
    parts.BACKGROUNDS[creature.background](image, rng)
    style = look.style
    if style is not None:
        image = style.tone_image(image)
    replaced = frozenset[str]().union(*(trait.replaces for trait in look.traits))
    hidden = {"hat": "no hat", "ears": "no ears", "held": "empty hands"}
    creature = replace(creature, **{k: v for k, v in hidden.items() if k in replaced})
    brush = _place(image, creature, rng, look)
    _draw_creature(brush, creature, look.traits, replaced)
    if style is not None and style.frame is not None:
        edge = int(SUPERSAMPLE * 3.5)
        ImageDraw.Draw(image).rectangle((0, 0, CANVAS, CANVAS), outline=style.frame, width=edge)
    return image.reduce(SUPERSAMPLE)


def _place(image: Image.Image, creature: Creature, rng: Random, look: Look) -> Brush:
    """A brush at a place and of a size at which the creature is whole."""
    body = parts.BODIES[creature.shape]
    up = max(1.1, *(trait.up for trait in look.traits), 0.0)
    if creature.hat != "no hat":
        up = max(up, 0.85 - body.top)
    if creature.ears == "bunny ears":
        up = max(up, 0.95 - body.ears)
    down = max(1.15, *(trait.down for trait in look.traits), 0.0)
    left = max(1.2, *(trait.side for trait in look.traits), 0.0)
    right = left if creature.held == "empty hands" else max(left, body.arms + 0.4)
    unit = min(
        CANVAS * rng.uniform(*SIZES),
        CANVAS * MARGIN / (up + down),
        CANVAS * MARGIN / (left + right),
    )
    x = _between(rng, left * unit, CANVAS - right * unit)
    y = _between(rng, up * unit, CANVAS - down * unit)
    colour = jitter(look.body_colour or COLOURS[creature.colour], rng)
    canvas = ImageDraw.Draw(image)
    outline = darker(colour, 0.38)
    if look.style is None:
        return Brush(image, canvas, x, y, unit, colour, outline)
    return StyledBrush(image, canvas, x, y, unit, colour, outline, look.style)


def _between(rng: Random, low: float, high: float) -> float:
    """Near the middle of the two."""
    sway = min(SWAY * CANVAS, max(0.0, (high - low) / 2))
    return (low + high) / 2 + rng.uniform(-sway, sway)


def _draw_creature(
    brush: Brush, creature: Creature, traits: tuple[Trait, ...], replaced: frozenset[str]
) -> None:
    body = parts.BODIES[creature.shape]

    def layer(name: str) -> None:
        for trait in traits:
            if trait.layer == name:
                trait.paint(brush, body, trait.colours)

    layer("behind")
    parts.EARS[creature.ears](brush, body.ears)
    for side in (-1, 1):
        if "feet" not in replaced:
            brush.ellipse(side * 0.42, 0.98, 0.27, 0.17, darker(brush.body, 0.75), brush.outline)
        if "arms" not in replaced:
            brush.ellipse(side * body.arms, 0.3, 0.2, 0.17, brush.body, brush.outline)
    layer("limbs")
    brush.polygon(body.outline, brush.body, brush.outline)
    for trait in traits:
        if trait.layer == "pattern":
            _on_body(brush, body, trait)
    parts.BELLIES[creature.belly](brush)
    parts.EYES[creature.eyes](brush, body.face)
    parts.MOUTHS[creature.mouth](brush, body.face)
    layer("face")
    parts.HATS[creature.hat](brush, body.top + 0.12)
    layer("head")
    parts.HELD[creature.held](brush, body.arms + 0.13)
    layer("front")


def _on_body(brush: Brush, body: Body, trait: Trait) -> None:
    """Paint within the body's outline alone."""
    pixels = brush.at(body.outline)
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    ImageDraw.Draw(mask).polygon(pixels, fill=255)
    sheet = brush.image.copy()
    trait.paint(replace(brush, image=sheet, draw=ImageDraw.Draw(sheet)), body, trait.colours)
    brush.image.paste(sheet, (0, 0), mask)
    brush.stroke(pixels, brush.outline)
