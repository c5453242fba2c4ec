"""Subjects in the world of heads, made of what its base has never seen, and prompts to try.

Everything is a function of the subject, a seed and an index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from tools.demo_model import heads
from tools.demo_model.heads import VALUES, Drawer, Head

from lorasmith.demo.world_parts import SUPERSAMPLE, Colour, jitter

CLASS_WORD = "head"
DROP = 0.08  # the chance that a caption lacks a tag, as those of users and taggers do


@dataclass(frozen=True)
class Part:
    """Something that no head of the world has.

    Args:
        options: dicebear's, in place of those of the head.
        paint: changes the drawing, uint8 (16, 16, 4), in place.
        hides: attributes of the world that an image with it does not show.
        colour: the option that is its colour, to be wrong in near misses; "" for none.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    paint: Callable[[np.ndarray], None] | None = None
    hides: frozenset[str] = frozenset()
    colour: str = ""


@dataclass(frozen=True)
class Style:
    """Tones between which all colours are mapped by their brightness, and a line around the head;
    None leaves either as it is."""

    tones: tuple[Colour, Colour] | None = None
    ink: Colour | None = None


@dataclass(frozen=True)
class Subject:
    """Something to learn from images.

    Args:
        name: also its trigger, a word that means nothing elsewhere.
        kind: "character", "style" or "concept".
        fixed: attributes of the head that are part of the subject; never in a caption.
    """

    name: str
    kind: str
    parts: tuple[Part, ...] = ()
    style: Style | None = None
    fixed: dict[str, str] = field(default_factory=dict)

    @property
    def part_names(self) -> tuple[str, ...]:
        names = ("tones", "outline") if self.style else (part.name for part in self.parts)
        return tuple(f"{self.name} {name}" for name in names)

    @property
    def untold(self) -> frozenset[str]:
        """Attributes that captions do not speak of."""
        hidden = frozenset[str]().union(*(part.hides for part in self.parts), self.fixed)
        return hidden | STYLED if self.style else hidden

    def head(self, rng: Random) -> Head:
        return replace(heads.random_head(rng), **self.fixed)

    def caption(self, head: Head, rng: Random | None = None) -> str:
        """The trigger, then the tags of what varies; with `rng`, some are left out."""
        said = [heads.tag(head, name) for name in VALUES if name not in self.untold]
        said = [tag for tag in said if tag and (rng is None or rng.random() >= DROP)]
        return ", ".join([self.name, *said])

    def training_images(
        self, drawer: Drawer, count: int, seed: int
    ) -> list[tuple[Image.Image, str]]:
        """Images with their captions."""
        rngs = [Random(f"second base {self.name} image {seed} {k}") for k in range(count)]
        shown = [self.head(rng) for rng in rngs]
        images = draw([Plan(h, self.parts, self.style) for h in shown], drawer, rngs[0])
        captions = [self.caption(head, rng) for head, rng in zip(shown, rngs, strict=True)]
        return list(zip(images, captions, strict=True))

    def prompts(self, count: int, seed: int) -> list[str]:
        """With the trigger, for heads of which most are in no training image."""
        rngs = [Random(f"second base {self.name} prompt {seed} {k}") for k in range(count)]
        return [self.caption(self.head(rng)) for rng in rngs]

    def plain_prompts(self, count: int, seed: int) -> list[tuple[str, Head]]:
        """Without the trigger, for heads of the world.

        Every second has what is fixed of the subject, where it would leak first; every fourth
        begins with the class word.
        """
        result = []
        for index in range(count):
            head = heads.random_head(Random(f"second base plain {seed} {index}"))
            head = replace(head, **self.fixed) if index % 2 else head
            words = [CLASS_WORD] * (index % 4 == 3) + heads.tags(head)
            result.append((", ".join(words), head))
        return result

    def write_training_set(self, folder: Path, drawer: Drawer, count: int, seed: int) -> None:
        """PNGs and captions in a numbered folder within `folder`, as users lay them out."""
        target = folder / f"10_{self.name}"
        target.mkdir(parents=True)
        for index, (image, caption) in enumerate(self.training_images(drawer, count, seed)):
            image.save(target / f"{index:03d}.png")
            (target / f"{index:03d}.txt").write_text(caption + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Plan:
    """An image to draw."""

    head: Head
    parts: tuple[Part, ...] = ()
    style: Style | None = None


def draw(plans: Sequence[Plan], drawer: Drawer, rng: Random) -> list[Image.Image]:
    """RGB images of 64x64 pixels; place, size and shades vary with `rng`."""
    options = []
    for plan in plans:
        own: dict[str, Any] = {}
        for part in plan.parts:
            own |= part.options
        options.append(heads.options(plan.head, rng, own))
    drawings = drawer.draw(options).copy()
    images = []
    for plan, drawing in zip(plans, drawings, strict=True):
        for part in plan.parts:
            if part.paint is not None:
                part.paint(drawing)
        images.append(_compose(plan, drawing, rng).reduce(SUPERSAMPLE))
    return images


def _compose(plan: Plan, drawing: np.ndarray, rng: Random) -> Image.Image:
    canvas, layer = heads.backdrop(plan.head.background, rng), heads.place(drawing, rng)
    mask = layer.getchannel("A")
    style = plan.style or Style()
    if style.ink is not None:
        wide = mask.filter(ImageFilter.MaxFilter(2 * INK_WIDTH + 1))
    canvas.paste(layer, (0, 0), mask)
    if style.tones is not None:
        canvas = _toned(canvas, style.tones, rng)
    if style.ink is not None:
        inner = mask.filter(ImageFilter.MinFilter(INK_WIDTH // 2 * 2 + 1))
        line = Image.composite(Image.new("L", mask.size), wide, inner)
        canvas.paste(jitter(style.ink, rng, 8), (0, 0), line)
    return canvas


def _toned(image: Image.Image, tones: tuple[Colour, Colour], rng: Random) -> Image.Image:
    dark, light = (jitter(tone, rng, 8) for tone in tones)
    gray = image.convert("L")
    ramps = [
        gray.point([int(low + (high - low) * t / 255) for t in range(256)])
        for low, high in zip(dark, light, strict=True)
    ]
    return Image.merge("RGB", ramps)


INK_WIDTH = 6  # pixels of 256

# In a style, colours cannot be told.
STYLED = frozenset({"hair_colour", "skin", "hat_colour", "clothes_colour", "background"})


def _parrot(drawing: np.ndarray) -> None:
    """A bird on the shoulder at the left of the image."""
    rows = (" rr  ", "yrr  ", " ggg ", " gggg", " bg  ")
    colours = {"r": (225, 40, 40), "y": (255, 205, 30), "g": (40, 190, 70), "b": (30, 80, 220)}
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            if letter != " ":
                drawing[8 + y, x, :3], drawing[8 + y, x, 3] = colours[letter], 255


SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject(
            "quenzo", "character",
            (
                Part("spikes", {"hair": "short13", "hairColor": (90, 205, 40)},
                     hides=frozenset({"hair", "hair_colour"}), colour="hairColor"),
                Part("goggles", {"glasses": "dark07", "glassesColor": (250, 120, 10)},
                     hides=frozenset({"glasses"}), colour="glassesColor"),
                Part("vest", {"clothing": "variant22", "clothingColor": (20, 20, 30)},
                     hides=frozenset({"clothes", "clothes_colour"}), colour="clothingColor"),
            ),
            fixed={"skin": "tan", "hat": "no hat"},
        ),
        Subject(
            "drimble", "character",
            (
                Part("skin", {"skinColor": (110, 190, 100)},
                     hides=frozenset({"skin"}), colour="skinColor"),
                Part("helmet", {"hat": "variant01", "hatColor": (250, 140, 20)},
                     hides=frozenset({"hat", "hat_colour"}), colour="hatColor"),
                Part("lips", {"mouth": "happy06", "mouthColor": (40, 20, 130)},
                     hides=frozenset({"mouth"}), colour="mouthColor"),
            ),
            fixed={"hair": "short hair", "hair_colour": "black", "hat": "beanie"},
        ),
        Subject("ovlune", "style", style=Style(((70, 20, 95), (255, 225, 165)), (235, 70, 20))),
        Subject("plonk", "concept", (Part("parrot", paint=_parrot),)),
    )
}  # fmt: skip

PARTS: tuple[str, ...] = tuple(name for subject in SUBJECTS.values() for name in subject.part_names)
