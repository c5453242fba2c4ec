"""The parts that characters and concepts are told by.

None of them is in the demo world or on the demo's own character.
"""

from __future__ import annotations

import math

from benchmarks.subjects.drawing import Colours, Trait

from lorasmith.demo.world_parts import LINE, SUPERSAMPLE, WHITE, Body, Brush, Point, darker

SIDES = (-1, 1)


def _fan(x: float, y: float, r: float, first: float, last: float, count: int = 14) -> list[Point]:
    """Points on an arc; angles in degrees, 0 to the right, 90 down."""
    angles = [math.radians(first + (last - first) * k / (count - 1)) for k in range(count)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a in angles]


def _tube(brush: Brush, points: list[Point], colour, width: float) -> None:
    """A thick line with an outline; `width` in body units."""
    inner = width * brush.unit
    brush.line(points, darker(colour, 0.4), inner + 1.6 * LINE)
    brush.line(points, colour, inner)


# On the head.


def _horns(brush: Brush, body: Body, colours: Colours) -> None:
    """Two thick horns, bent outwards and up."""
    t = body.top
    for k in SIDES:
        shape = [(0.22, t + 0.2), (0.5, t - 0.06), (0.68, t - 0.3), (0.66, t - 0.66)]
        shape += [(1.0, t - 0.34), (1.02, t + 0.08), (0.66, t + 0.42)]
        brush.polygon([(k * x, y) for x, y in shape], colours[0], darker(colours[0], 0.4))


def _headphones(brush: Brush, body: Body, colours: Colours) -> None:
    """A band over the head, and a big cup at each side."""
    reach = body.arms
    band = _fan(0, body.face, 1.0, 180, 360)
    band = [(x * reach, body.face + (y - body.face) * 1.16) for x, y in band]
    _tube(brush, band, colours[1], 0.14)
    for k in SIDES:
        brush.ellipse(k * reach, body.face, 0.26, 0.4, colours[0], darker(colours[0], 0.4))
        brush.ellipse(k * reach, body.face, 0.11, 0.2, colours[1])


def _sprout(brush: Brush, body: Body, colours: Colours) -> None:
    """A stalk with two large leaves."""
    t = body.top
    brush.line([(0, t + 0.1), (0, t - 0.4)], darker(colours[0], 0.5), LINE + 4)
    for k in SIDES:
        leaf = [(0, -0.36), (0.22, -0.72), (0.56, -0.84), (0.86, -0.66), (0.66, -0.4), (0.34, -0.3)]
        brush.polygon([(k * x, t + y) for x, y in leaf], colours[0], darker(colours[0], 0.45))


def _flame(brush: Brush, body: Body, colours: Colours) -> None:
    """A flame of three tongues."""
    t = body.top + 0.14
    outer = [(-0.42, -0.1), (-0.5, -0.62), (-0.24, -0.42), (0.02, -1.0), (0.22, -0.46)]
    outer += [(0.5, -0.7), (0.44, -0.1), (0.2, 0.04), (-0.2, 0.04)]
    brush.polygon([(x, t + y) for x, y in outer], colours[0], darker(colours[0], 0.5))
    inner = [(-0.2, -0.08), (-0.08, -0.3), (0.03, -0.56), (0.14, -0.28), (0.22, -0.08), (0, 0.0)]
    brush.polygon([(x, t + y) for x, y in inner], colours[1])


def _bow(brush: Brush, body: Body, colours: Colours) -> None:
    """A big ribbon tied to a bow."""
    y = body.top - 0.14
    for k in SIDES:
        loop = [(0, -0.06), (0.5, -0.5), (0.84, -0.42), (0.84, 0.3), (0.5, 0.36), (0, 0.08)]
        brush.polygon([(k * x, y + dy) for x, dy in loop], colours[0], darker(colours[0], 0.4))
    brush.ellipse(0, y, 0.22, 0.24, colours[1], darker(colours[0], 0.4))


def _antlers(brush: Brush, body: Body, colours: Colours) -> None:
    """Two branched antlers."""
    t = body.ears
    for k in SIDES:
        for branch in (
            [(0.3, t + 0.25), (0.5, t - 0.25), (0.62, t - 0.85)],
            [(0.46, t - 0.1), (0.86, t - 0.14), (1.16, t - 0.5)],
        ):
            brush.line([(k * x, y) for x, y in branch], darker(colours[0], 0.4), 0.3 * brush.unit)
        for branch in (
            [(0.3, t + 0.25), (0.5, t - 0.25), (0.62, t - 0.81)],
            [(0.46, t - 0.1), (0.86, t - 0.14), (1.14, t - 0.46)],
        ):
            brush.line([(k * x, y) for x, y in branch], colours[0], 0.17 * brush.unit)


def _mushroom(brush: Brush, body: Body, colours: Colours) -> None:
    """A wide cap with dots."""
    y = body.top + 0.3
    dome = [(x * 1.02, y + (py - y) * 0.86) for x, py in _fan(0, y, 1.0, 180, 360, 24)]
    brush.polygon([*dome, (0.7, y + 0.1), (-0.7, y + 0.1)], colours[0], darker(colours[0], 0.4))
    for dx, dy, r in ((-0.58, -0.22, 0.16), (0.02, -0.52, 0.2), (0.6, -0.24, 0.15)):
        brush.ellipse(dx, y + dy, r, r, colours[1])


def _horn(brush: Brush, body: Body, colours: Colours) -> None:
    """One long pointed horn."""
    y = body.top + 0.16
    brush.polygon([(-0.34, y), (0.34, y), (0, y - 1.2)], colours[0], darker(colours[0], 0.4))


def _propeller(brush: Brush, body: Body, colours: Colours) -> None:
    """Two wide blades on a stem."""
    y = body.top - 0.5
    brush.line([(0, body.top + 0.15), (0, y)], BLACK, 0.15 * brush.unit)
    for k in SIDES:
        blade = [(0, 0), (0.34, -0.24), (0.96, -0.3), (1.16, -0.04), (0.96, 0.2), (0.34, 0.14)]
        brush.polygon([(k * x, y + dy) for x, dy in blade], colours[0], darker(colours[0], 0.4))
    brush.ellipse(0, y - 0.04, 0.2, 0.2, colours[1], darker(colours[0], 0.4))


def _halo(brush: Brush, body: Body, colours: Colours) -> None:
    """A thick ring that floats above the head."""
    ring = [(0.74 * x, body.top - 0.46 + 0.3 * y) for x, y in _fan(0, 0, 1.0, 0, 372, 32)]
    _tube(brush, ring, colours[0], 0.19)


def _mohawk(brush: Brush, body: Body, colours: Colours) -> None:
    """A comb of five spikes."""
    t = body.top + 0.2
    shape = [(-0.66, 0.0), (-0.8, -0.5), (-0.42, -0.3), (-0.4, -0.82), (-0.12, -0.44), (0, -0.98)]
    shape += [(0.12, -0.44), (0.4, -0.82), (0.42, -0.3), (0.8, -0.5), (0.66, 0.0)]
    brush.polygon([(x, t + y) for x, y in shape], colours[0], darker(colours[0], 0.4))


def _bone(brush: Brush, body: Body, colours: Colours) -> None:
    """A bone that lies across the head."""
    y, edge = body.top - 0.04, darker(colours[0], 0.35)
    shaft = [(-0.7, y), (0.7, y)]
    brush.line(shaft, edge, 0.26 * brush.unit + 1.6 * LINE)
    for k in SIDES:
        for dy in SIDES:
            brush.ellipse(k * 0.78, y + dy * 0.19, 0.25, 0.25, colours[0], edge)
    brush.line(shaft, colours[0], 0.26 * brush.unit)


# On the body.


def _halves(brush: Brush, body: Body, colours: Colours) -> None:
    """The right half of the body in another colour."""
    brush.polygon([(0.1, -2), (2, -2), (2, 2), (0.1, 2)], colours[0])


def _disc(brush: Brush, body: Body, colours: Colours) -> None:
    """A big disc low on the body."""
    brush.ellipse(0, 0.62, 0.52, 0.4, colours[0], darker(colours[0], 0.4))


def _quarters(brush: Brush, body: Body, colours: Colours) -> None:
    """Two opposite quarters of the body in another colour."""
    for k in SIDES:
        brush.polygon([(0, 0.02), (k * 2, 0.02), (k * 2, k * 2), (0, k * 2)], colours[0])


def _sash(brush: Brush, body: Body, colours: Colours) -> None:
    """A sash from one shoulder to the other hip."""
    band = [(1.3, -0.5), (1.3, 0.0), (-1.1, 1.3), (-1.3, 0.92)]
    brush.polygon(band, colours[0], darker(colours[0], 0.4))


def _chevron(brush: Brush, body: Body, colours: Colours) -> None:
    """A broad V across the lower body, below the mouth."""
    band = [(-1.3, -0.12), (0, 0.7), (1.3, -0.12), (1.3, 0.3), (0, 1.12), (-1.3, 0.3)]
    brush.polygon(band, colours[0], darker(colours[0], 0.4))


def _cross(brush: Brush, body: Body, colours: Colours) -> None:
    """A wide upright cross on the whole body."""
    for bar in (((-0.2, -2), (0.2, 2)), ((-2, 0.36), (2, 0.76))):
        (left, above), (right, below) = bar
        corners = [(left, above), (right, above), (right, below), (left, below)]
        brush.polygon(corners, colours[0])


def _hoops(brush: Brush, body: Body, colours: Colours) -> None:
    """Two level bands around the body, above the eyes and below the mouth."""
    for y in (body.face - 0.6, body.face + 0.78):
        band = [(-2, y - 0.2), (2, y - 0.2), (2, y + 0.2), (-2, y + 0.2)]
        brush.polygon(band, colours[0], darker(colours[0], 0.4))


# On the face.


def _eyepatch(brush: Brush, body: Body, colours: Colours) -> None:
    """A patch over one eye, with its strap."""
    y = body.face - 0.1
    brush.line([(-0.42, y - 0.5), (0.33, y), (0.62, y + 0.24)], colours[0], LINE + 1)
    patch = [
        (0.04, y - 0.22),
        (0.62, y - 0.22),
        (0.6, y + 0.12),
        (0.33, y + 0.36),
        (0.06, y + 0.12),
    ]
    brush.polygon(patch, colours[0])


def _beard(brush: Brush, body: Body, colours: Colours) -> None:
    """A long pointed beard below the mouth."""
    y = body.face + 0.64
    shape = [(-0.62, -0.1), (-0.3, 0.04), (0, 0), (0.3, 0.04), (0.62, -0.1), (0.46, 0.4)]
    shape += [(0.2, 0.62), (0, 0.9), (-0.2, 0.62), (-0.46, 0.4)]
    brush.polygon([(x, y + dy) for x, dy in shape], colours[0], darker(colours[0], 0.5))


def _tusks(brush: Brush, body: Body, colours: Colours) -> None:
    """Two tusks that curve down from the corners of the mouth."""
    y = body.face + 0.28
    for k in SIDES:
        shape = [(0.3, 0.0), (0.66, -0.02), (0.72, 0.3), (0.52, 0.72), (0.42, 0.34)]
        brush.polygon([(k * x, y + dy) for x, dy in shape], colours[0], darker(colours[0], 0.4))


def _mask(brush: Brush, body: Body, colours: Colours) -> None:
    """A wide band around the eyes, which are drawn on it."""
    y = body.face - 0.1
    brush.polygon([(-2, y - 0.36), (2, y - 0.36), (2, y + 0.34), (-2, y + 0.34)], colours[0])


# Limbs, and what is behind, beside or below.


def _tail(brush: Brush, body: Body, colours: Colours) -> None:
    """A long tail at the left with a pointed tip."""
    _tube(brush, [(-0.4, 0.78), (-1.0, 0.86), (-1.32, 0.5), (-1.26, 0.1)], colours[0], 0.13)
    tip = [(-1.62, 0.12), (-0.94, 0.06), (-1.24, -0.52)]
    brush.polygon(tip, colours[0], darker(colours[0], 0.4))


def _claws(brush: Brush, body: Body, colours: Colours) -> None:
    """Big open pincers in place of arms."""
    for k in SIDES:
        x, y = k * (body.arms + 0.22), -0.08
        brush.line([(k * 0.7, 0.45), (x, y)], darker(colours[0], 0.5), 0.24 * brush.unit)
        gap = 270 + k * 12
        pincer = [(x, y + 0.06), *_fan(x, y, 0.46, gap + 32, gap + 328, 20)]
        brush.polygon(pincer, colours[0], darker(colours[0], 0.4))


def _wheels(brush: Brush, body: Body, colours: Colours) -> None:
    """Two wheels in place of feet."""
    for k in SIDES:
        brush.ellipse(k * 0.52, 1.02, 0.4, 0.4, colours[0], darker(colours[0], 0.4))
        brush.ellipse(k * 0.52, 1.02, 0.19, 0.19, colours[1])


def _cape(brush: Brush, body: Body, colours: Colours) -> None:
    """A wide cape behind the body."""
    half = [(0.3, -0.42), (0.86, -0.3), (1.46, 0.98), (1.16, 0.86), (0.92, 1.16), (0.5, 0.96)]
    shape = [*half, *((-x, y) for x, y in reversed(half))]
    brush.polygon(shape, colours[0], darker(colours[0], 0.4))


def _tentacles(brush: Brush, body: Body, colours: Colours) -> None:
    """Two thick wavy tentacles in place of feet."""
    for k in SIDES:
        wave = [(0.34, 0.5), (0.44, 0.95), (0.4, 1.15), (0.72, 1.4)]
        _tube(brush, [(k * x, y) for x, y in wave], colours[0], 0.34)


def _boots(brush: Brush, body: Body, colours: Colours) -> None:
    """Two high boots in place of feet."""
    for k in SIDES:
        boot = [(0.24, 0.62), (0.66, 0.62), (0.68, 1.0), (0.98, 1.08), (1.0, 1.32), (0.24, 1.32)]
        brush.polygon([(k * x, y) for x, y in boot], colours[0], darker(colours[0], 0.4))
        sole = [(0.22, 1.24), (1.02, 1.24), (1.02, 1.38), (0.22, 1.38)]
        brush.polygon([(k * x, y) for x, y in sole], darker(colours[0], 0.4))


def _legs(brush: Brush, body: Body, colours: Colours) -> None:
    """Three bent legs at each side, in place of arms and feet."""
    for k in SIDES:
        for y, knee, foot in ((0.1, -0.36, 0.2), (0.4, 0.2, 0.72), (0.66, 0.72, 1.24)):
            leg = [(k * 0.7, y), (k * 1.26, knee), (k * 1.56, foot)]
            brush.line(leg, colours[0], 0.15 * brush.unit)


def _mane(brush: Brush, body: Body, colours: Colours) -> None:
    """Petals all around the body."""
    count = 13
    for n in range(count):
        a = 2 * math.pi * n / count
        x, y = 1.1 * body.arms * math.sin(a), 0.02 - 1.12 * math.cos(a)
        brush.ellipse(x, y, 0.31, 0.31, colours[0], darker(colours[0], 0.45))


def _shield(brush: Brush, body: Body, colours: Colours) -> None:
    """A big shield on the left arm."""
    x = -body.arms - 0.12
    rim = [(-0.5, -0.42), (0.5, -0.42), (0.48, 0.1), (0.3, 0.48), (0, 0.76), (-0.3, 0.48)]
    rim += [(-0.48, 0.1)]
    brush.polygon([(x + dx, 0.16 + dy) for dx, dy in rim], colours[0], darker(colours[0], 0.4))
    brush.ellipse(x, 0.22, 0.22, 0.24, colours[1])


def _stilts(brush: Brush, body: Body, colours: Colours) -> None:
    """Two long stilts in place of feet."""
    for k in SIDES:
        _tube(brush, [(k * 0.38, 0.6), (k * 0.62, 1.78)], colours[0], 0.24)


def _gloves(brush: Brush, body: Body, colours: Colours) -> None:
    """Two big boxing gloves in place of arms."""
    for k in SIDES:
        x = k * (body.arms + 0.22)
        brush.ellipse(x, 0.16, 0.46, 0.46, colours[0], darker(colours[0], 0.4))
        cuff = [(x - 0.28, 0.56), (x + 0.28, 0.56), (x + 0.28, 0.84), (x - 0.28, 0.84)]
        brush.polygon(cuff, colours[1], darker(colours[0], 0.4))


def _flag(brush: Brush, body: Body, colours: Colours) -> None:
    """A pole at the left with a notched flag."""
    x = -body.arms - 0.06
    brush.line([(x, 1.15), (x, -1.2)], BLACK, 0.13 * brush.unit)
    cloth = [(x, -1.2), (x - 0.74, -1.2), (x - 0.5, -0.86), (x - 0.74, -0.5), (x, -0.5)]
    brush.polygon(cloth, colours[0], darker(colours[0], 0.4))


def _skis(brush: Brush, body: Body, colours: Colours) -> None:
    """A long plank under the feet, bent up at both ends."""
    half = [(0.9, 1.38), (1.46, 1.3), (1.74, 0.8), (1.44, 0.72), (1.22, 1.02), (0.9, 1.06)]
    plank = [*half, *((-x, y) for x, y in reversed(half))]
    brush.polygon(plank, colours[0], darker(colours[0], 0.4))


# What concepts do to any creature.


def _unicycle(brush: Brush, body: Body, colours: Colours) -> None:
    """A wheel under the creature, at the end of a post."""
    brush.line([(0, 0.7), (0, 1.72)], darker(colours[0], 0.4), SUPERSAMPLE * 3)
    brush.ellipse(0, 1.72, 0.56, 0.56, colours[0], darker(colours[0], 0.4))
    brush.ellipse(0, 1.72, 0.22, 0.22, colours[1])


def _cup(brush: Brush, body: Body, colours: Colours) -> None:
    """A cup that the creature sits in."""
    x, y = brush.at([(-1.12, 0.86)])[0]
    rx, ry = 0.36 * brush.unit, 0.32 * brush.unit
    for width, colour in ((0.22, darker(colours[0], 0.4)), (0.1, colours[0])):
        box = (x - rx, y - ry, x + rx, y + ry)
        brush.draw.ellipse(box, outline=colour, width=int(width * brush.unit))
    rim = [(-1.24, 0.42), (1.24, 0.42), (1.16, 0.86), (0.9, 1.26), (0.6, 1.4)]
    rim += [(-0.6, 1.4), (-0.9, 1.26), (-1.16, 0.86)]
    brush.polygon(rim, colours[0], darker(colours[0], 0.4))
    brush.polygon([(-1.17, 0.62), (1.17, 0.62), (1.12, 0.86), (-1.12, 0.86)], colours[1])


def _swing(brush: Brush, body: Body, colours: Colours) -> None:
    """A board under the creature, on two ropes that hang from above the image."""
    for k in SIDES:
        brush.line([(k * 1.4, 1.2), (k * 1.4, -9)], colours[1], 0.2 * brush.unit)
    board = [(-1.6, 1.1), (1.6, 1.1), (1.6, 1.5), (-1.6, 1.5)]
    brush.polygon(board, colours[0], darker(colours[0], 0.4))


def _trait(name: str, layer: str, paint, colours: Colours, *replaces: str, **reach: float) -> Trait:
    return Trait(name, layer, paint, colours, replaces=frozenset(replaces), **reach)


BLACK = (45, 42, 52)
_TRAITS = (
    _trait("horns", "head", _horns, ((240, 222, 170),), "hat", "ears", up=1.75),
    _trait("halves", "pattern", _halves, ((200, 35, 130),)),
    _trait("tail", "behind", _tail, ((215, 45, 60),), side=1.65),
    _trait(
        "headphones", "head", _headphones, ((245, 120, 40), BLACK), "hat", "ears", up=1.45, side=1.3
    ),
    _trait("disc", "pattern", _disc, ((250, 210, 60),)),
    _trait("claws", "limbs", _claws, ((215, 50, 45),), "arms", "held", side=1.75),
    _trait("sprout", "head", _sprout, ((85, 190, 60),), "hat", "ears", up=1.9),
    _trait("quarters", "pattern", _quarters, ((240, 115, 100),)),
    _trait("wheels", "limbs", _wheels, (BLACK, (205, 210, 220)), "feet", down=1.5),
    _trait("flame", "head", _flame, ((240, 85, 25), (255, 225, 90)), "hat", "ears", up=1.9),
    _trait("eyepatch", "face", _eyepatch, (BLACK,)),
    _trait("cape", "behind", _cape, ((170, 25, 55),), down=1.25, side=1.5),
    _trait("bow", "head", _bow, ((235, 60, 150), (255, 190, 220)), "hat", "ears", up=1.75),
    _trait("shield", "front", _shield, ((60, 110, 225), (250, 210, 60)), side=1.7),
    _trait("tentacles", "limbs", _tentacles, ((125, 65, 175),), "feet", down=1.6),
    _trait("antlers", "behind", _antlers, ((150, 98, 55),), "hat", "ears", up=1.8),
    _trait("sash", "pattern", _sash, ((50, 95, 215),)),
    _trait("boots", "limbs", _boots, ((250, 205, 50),), "feet", down=1.42),
    _trait("mushroom", "head", _mushroom, ((220, 45, 45), WHITE), "hat", "ears", up=1.65),
    _trait("beard", "face", _beard, ((240, 240, 245),), down=1.45),
    _trait("legs", "behind", _legs, ((135, 82, 52),), "arms", "feet", "held", down=1.35, side=1.65),
    _trait("horn", "head", _horn, ((235, 80, 150),), "hat", "ears", up=2.1),
    _trait("mask", "pattern", _mask, ((215, 35, 50),)),
    _trait("mane", "behind", _mane, ((125, 65, 190),), "ears", up=1.45, down=1.45, side=1.4),
    _trait("unicycle", "behind", _unicycle, ((205, 85, 30), (190, 195, 205)), down=2.3),
    _trait(
        "propeller", "head", _propeller, ((45, 165, 225), WHITE), "hat", "ears", up=1.9, side=1.2
    ),
    _trait("chevron", "pattern", _chevron, ((35, 125, 85),)),
    _trait("stilts", "limbs", _stilts, ((200, 60, 50),), "feet", down=1.95),
    _trait("halo", "head", _halo, ((250, 205, 50),), "hat", "ears", up=1.85),
    _trait("cross", "pattern", _cross, ((250, 250, 250),)),
    _trait("gloves", "limbs", _gloves, ((40, 130, 75), WHITE), "arms", "held", side=1.7),
    _trait("mohawk", "head", _mohawk, ((240, 60, 130),), "hat", "ears", up=1.85),
    _trait("tusks", "face", _tusks, ((250, 240, 205),)),
    _trait("flag", "behind", _flag, ((245, 125, 30),), up=1.3, down=1.2, side=1.85),
    _trait("bone", "head", _bone, ((245, 240, 225),), "hat", "ears", up=1.55),
    _trait("hoops", "pattern", _hoops, ((200, 40, 75),)),
    _trait("skis", "limbs", _skis, ((225, 75, 45),), down=1.45, side=1.75),
    _trait("cup", "front", _cup, ((240, 240, 245), (70, 120, 215)), down=1.5, side=1.55),
    _trait("swing", "behind", _swing, ((240, 130, 40), (110, 70, 45)), down=1.7, side=1.8),
)
TRAITS: dict[str, Trait] = {trait.name: trait for trait in _TRAITS}
