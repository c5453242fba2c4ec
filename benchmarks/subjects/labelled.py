"""Drawings with what is to be read off them, to train and to test judges on.

Beside the subjects as they are, these are what judges would take for them: with a part missing, in
another colour or half there, with a part of another subject in its place, parts on any creature of
the world, the demo's own character, and the world as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random

import numpy as np
from benchmarks.subjects.drawing import PLAIN, Colours, Look, Style, Trait, draw
from benchmarks.subjects.subjects import PLAIN_BACKGROUNDS, SUBJECTS, Subject
from benchmarks.subjects.traits import TRAITS
from PIL import Image, ImageDraw

from lorasmith.demo import world
from lorasmith.demo.character import ZORP
from lorasmith.demo.world import VALUES, Creature, Extras, random_creature
from lorasmith.demo.world_parts import CANVAS, Body, Brush, Colour, jitter

# All that judges read, in order; a style's parts are its own, so they carry its name.
PARTS: tuple[str, ...] = tuple(
    f"{subject.name} {part}" for subject in SUBJECTS.values() for part in subject.parts
)
UNKNOWN = -1  # an attribute that the image does not tell
# By how much, over its three channels of 255, a colour must differ to be a wrong one.
FAR = 200
# What is one-sided anyway; half of it may be all or nothing.
_ONE_SIDED = frozenset({"tail", "eyepatch", "sash", "halves", "shield", "flag"})
# What hides each attribute.
_HIDDEN_BY = {
    "belly": {
        "cup", "beard", "quarters", "disc", "halves", "sash", "chevron", "cross", "hoops", "tusks",
    }
}  # fmt: skip
_FLAWS = ("missing", "colour", "half", "other")
_STYLES = [subject for subject in SUBJECTS.values() if subject.kind == "style"]


@dataclass(frozen=True)
class Labelled:
    """An image, which of `PARTS` it shows, and the number of its value in each of `VALUES`."""

    image: Image.Image
    parts: tuple[bool, ...]
    attributes: tuple[int, ...]


def as_it_is(subject: Subject, rng: Random) -> Labelled:
    """The subject with all its parts, in any combination of what varies."""
    style = subject.look.style
    look = replace(
        subject.look,
        traits=tuple(_shaded(trait, rng) for trait in subject.look.traits),
        style=style and _shaded_style(style, rng),
    )
    return _labelled(_creature(subject, rng), rng, look, set(_own(subject)), subject)


def near_miss(subject: Subject, rng: Random, part: str | None = None) -> Labelled:
    """The subject with one part or more not right: that named, or any."""
    wrong = {part or rng.choice(subject.parts)}
    wrong |= {name for name in subject.parts if rng.random() < 0.25}
    shown = {f"{subject.name} {name}" for name in subject.parts if name not in wrong}
    creature = _creature(subject, rng)
    if subject.kind == "style":
        return _labelled(creature, rng, Look(style=_spoiled_style(subject, wrong, rng)), shown)
    traits = []
    for trait in subject.look.traits:
        if trait.name not in wrong:
            traits.append(_shaded(trait, rng))
            continue
        flaw = rng.choice(_FLAWS)
        if flaw == "colour":
            traits.append(_recoloured(trait, rng))
        elif flaw == "half" and trait.name not in _ONE_SIDED:
            traits.append(_half(_shaded(trait, rng), rng.choice((-1, 1))))
        elif flaw == "other" and (others := _in_place_of(trait)):
            other = rng.choice(others)
            traits.append(_shaded(other, rng))
            shown.add(_part_of(other))
    if not any(trait.layer == "head" for trait in traits) and rng.random() < 0.5:
        creature = replace(creature, hat=random_creature(rng).hat)
    look = Look(tuple(traits), subject.look.body_colour)
    return _labelled(creature, rng, look, shown, subject)


def _in_place_of(trait: Trait) -> list[Trait]:
    """What other characters have in the same place; concepts would hide or carry more than that."""
    return [
        other
        for other in TRAITS.values()
        if other.layer == trait.layer and other.name not in (trait.name, "cup", "unicycle", "swing")
    ]


def any_parts(rng: Random) -> Labelled:
    """A creature of the world with up to three parts of any subjects, right or of other colours."""
    creature, traits, shown = random_creature(rng), [], set()
    for trait in rng.sample(list(TRAITS.values()), rng.randint(1, 3)):
        if any(_in_the_way(trait, other) for other in traits):
            continue
        if rng.random() < 0.7:
            traits.append(_shaded(trait, rng))
            shown.add(_part_of(trait))
        else:
            traits.append(_recoloured(trait, rng))
    return _labelled(creature, rng, Look(tuple(traits)), shown)


def _in_the_way(one: Trait, other: Trait) -> bool:
    """Whether one of the two takes the other's place, or hides it."""
    if one.layer == other.layer or one.replaces & other.replaces:
        return True
    names, layers = {one.name, other.name}, {one.layer, other.layer}
    return "cup" in names and not layers & {"head", "face"}


def of_the_world(rng: Random) -> Labelled:
    """A creature of the world, or one with parts of the demo's own character."""
    creature = random_creature(rng)
    if rng.random() < 0.6:
        image = draw(creature, rng, PLAIN) if rng.random() < 0.5 else _by_world(creature, rng, None)
    else:
        extras = {f.name: getattr(ZORP, f.name) for f in fields(Extras) if rng.random() < 0.6}
        image = _by_world(creature, rng, Extras(**extras))
    return Labelled(image, (False,) * len(PARTS), _indices(creature, set()))


def labelled(rng: Random) -> Labelled:
    """One of all of these."""
    chance = rng.random()
    if chance < 0.78:
        subject = rng.choice(list(SUBJECTS.values()))
        return as_it_is(subject, rng) if chance < 0.28 else near_miss(subject, rng)
    return any_parts(rng) if chance < 0.88 else of_the_world(rng)


def _own(subject: Subject) -> list[str]:
    return [f"{subject.name} {part}" for part in subject.parts]


def _part_of(trait: Trait) -> str:
    return next(part for part in PARTS if part.split()[1] == trait.name)


def _creature(subject: Subject, rng: Random) -> Creature:
    while True:
        creature = replace(random_creature(rng), **subject.fixed)
        if not {getattr(creature, name) for name in VALUES} & subject.never:
            return creature


def _by_world(creature: Creature, rng: Random, extras: Extras | None) -> Image.Image:
    return Image.fromarray(world.draw(creature, rng, extras or world.NO_EXTRAS))


def _labelled(
    creature: Creature, rng: Random, look: Look, shown: set[str], subject: Subject | None = None
) -> Labelled:
    image = draw(creature, rng, look)
    replaced = frozenset[str]().union(*(trait.replaces for trait in look.traits))
    for name in replaced & set(VALUES):
        creature = replace(creature, **{name: VALUES[name][0]})
    hidden = {name for name, by in _HIDDEN_BY.items() if by & {trait.name for trait in look.traits}}
    if look.style is not None:
        hidden |= (
            {"colour", "background"} if creature.background in PLAIN_BACKGROUNDS else {"colour"}
        )
    if subject is not None and subject.look.body_colour is not None:
        hidden.add("colour")
    if "quarters" in {trait.name for trait in look.traits}:
        hidden.add("colour")
    return Labelled(image, tuple(part in shown for part in PARTS), _indices(creature, hidden))


def _indices(creature: Creature, hidden: set[str]) -> tuple[int, ...]:
    return tuple(
        UNKNOWN if name in hidden else values.index(getattr(creature, name))
        for name, values in VALUES.items()
    )


def _shaded(trait: Trait, rng: Random) -> Trait:
    return replace(trait, colours=tuple(jitter(colour, rng, 12) for colour in trait.colours))


def _recoloured(trait: Trait, rng: Random) -> Trait:
    colours: Colours = (_far(trait.colours[0], rng), *trait.colours[1:])
    return replace(trait, colours=colours)


def _far(colour: Colour, rng: Random) -> Colour:
    while True:
        other = (rng.randrange(20, 250), rng.randrange(20, 250), rng.randrange(20, 250))
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) >= FAR:
            return other


def _half(trait: Trait, side: int) -> Trait:
    """Only the part of the trait at one side of the body's middle."""

    def paint(brush: Brush, body: Body, colours: Colours) -> None:
        whole = brush.image.copy()
        trait.paint(replace(brush, image=whole, draw=ImageDraw.Draw(whole)), body, colours)
        middle = int(brush.x)
        box = (0, 0, middle, CANVAS) if side < 0 else (middle, 0, CANVAS, CANVAS)
        brush.image.paste(whole.crop(box), box)

    return replace(trait, paint=paint)


def _shaded_style(style: Style, rng: Random) -> Style:
    colours = {
        name: jitter(colour, rng, 8)
        for name in ("dark", "light", "ink", "frame")
        if (colour := getattr(style, name)) is not None
    }
    return replace(style, **colours, thickness=style.thickness * rng.uniform(0.92, 1.1))


def _spoiled_style(subject: Subject, wrong: set[str], rng: Random) -> Style:
    """The subject's style with what is named not right: as the world has it, or as another has."""
    style = subject.look.style
    assert style is not None
    style, other = _shaded_style(style, rng), rng.choice([s for s in _STYLES if s is not subject])
    theirs, plainly = other.look.style or Style(), rng.random() < 0.6
    if "tones" in wrong:
        source = Style() if plainly else theirs
        style = replace(style, dark=source.dark, light=source.light)
    if "outlines" in wrong:
        chance = rng.random()
        if chance < 0.4:
            style = replace(style, ink=None, thickness=1.0)
        elif chance < 0.7:
            style = replace(style, thickness=1.0)
        else:
            style = replace(style, ink=_far(style.ink or (0, 0, 0), rng))
    if "frame" in wrong:
        style = replace(style, frame=None if plainly else _far(style.frame or (0, 0, 0), rng))
    return style


def to_array(drawings: Sequence[Labelled]) -> np.ndarray:
    """uint8 (N, 64, 64, 3)."""
    return np.stack([np.asarray(drawing.image) for drawing in drawings])
