"""The worlds that a small base can be pretrained on: the demo's creatures, and drawn heads.

A world says how wide its base is, what its images show, and how a caption puts that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from tools.demo_model import heads
from tools.demo_model.clutter import (
    autoencoder_image,
    doodled_image,
    random_colour,
    scribble,
    scribbles_only,
)

from lorasmith.demo.world import Creature, draw, random_creature, tags
from lorasmith.demo.world_parts import SUPERSAMPLE

DOODLED_SHARE = 0.1  # of the images; they teach the UNet more than the world's own shapes
DROPS = (0.0, 0.1, 0.1, 0.5)  # a caption leaves out each tag with one of these chances
DOODLES = "doodles"  # the tag of what is scribbled over

AnyImage = tuple[Any, np.ndarray]  # what it shows, and its pixels, uint8 (64, 64, 3)


class World(Protocol):
    """What pretraining needs to know of a world.

    Attributes:
        channels: of the UNet, by level.
        from_demo: autoencoder and text encoder begin as those of the demo base; the UNet, of
            another width, untrained.
    """

    channels: tuple[int, ...]
    from_demo: bool

    def draw(self, count: int, rng: Random) -> list[AnyImage]:
        """Training images for the UNet."""

    def caption(self, image: Any, rng: Random) -> list[str]:
        """Tags of what an image shows, some left out."""

    def for_autoencoder(self, count: int, rng: Random) -> list[np.ndarray]:
        """Training images for the autoencoder: not of the world alone."""

    def plain(self, count: int, rng: Random) -> list[np.ndarray]:
        """Images of the world alone."""

    def prompts(self, count: int) -> list[str]:
        """Prompts with all tags of images of the world; the same at every call."""


@dataclass(frozen=True)
class DrawnImage:
    """What a training image shows; `untrue` is a tag of the creature that its pixels deny."""

    creature: Creature
    doodles: bool = False
    untrue: str = ""


class Creatures:
    """The demo's own world."""

    channels: tuple[int, ...] = (48, 64, 96)
    from_demo = False

    def draw(self, count: int, rng: Random) -> list[AnyImage]:
        return [self._draw_one(rng) for _ in range(count)]

    def _draw_one(self, rng: Random) -> AnyImage:
        creature = random_creature(rng)
        if rng.random() >= DOODLED_SHARE:
            return DrawnImage(creature), draw(creature, rng)
        odd_colour = rng.random() < 0.5
        untrue = f"{creature.colour} body" if odd_colour else ""
        return DrawnImage(creature, True, untrue), doodled_image(creature, rng, odd_colour)

    def caption(self, image: DrawnImage, rng: Random) -> list[str]:
        said = tags(image.creature, rng, drop=rng.choice(DROPS))
        return [tag for tag in said if tag != image.untrue] + [DOODLES] * image.doodles

    def for_autoencoder(self, count: int, rng: Random) -> list[np.ndarray]:
        return [autoencoder_image(rng) for _ in range(count)]

    def plain(self, count: int, rng: Random) -> list[np.ndarray]:
        return [draw(random_creature(rng), rng) for _ in range(count)]

    def prompts(self, count: int) -> list[str]:
        rng = Random("prompts")
        return [", ".join(tags(random_creature(rng))) for _ in range(count)]


_OPTIONS = {"skin": "skinColor", "clothes": "clothingColor"}


@dataclass(frozen=True)
class HeadImage:
    """What a training image shows; `untrue` is an attribute of the head that its pixels deny."""

    head: heads.Head
    doodles: bool = False
    untrue: str = ""


class Heads:
    """Heads of dicebear's pixel-art; see `tools/demo_model/heads.py`.

    Args:
        packages: folder of dicebear's packages, made where it is missing (needs npm).
    """

    channels: tuple[int, ...] = (32, 48, 64)
    from_demo = True

    def __init__(self, packages: Path) -> None:
        self.packages = packages

    @cached_property
    def drawer(self) -> heads.Drawer:
        return heads.Drawer(self.packages)

    def draw(self, count: int, rng: Random) -> list[AnyImage]:
        shown, options = [], []
        for _ in range(count):
            image, own = HeadImage(heads.random_head(rng)), {}
            if rng.random() < DOODLED_SHARE:
                image = HeadImage(image.head, True, rng.choice(("", "skin", "clothes")))
                if image.untrue:
                    own = {_OPTIONS[image.untrue]: random_colour(rng)}
            shown.append(image)
            options.append(heads.options(image.head, rng, own))
        drawings = self.drawer.draw(options)
        return [
            (image, self._compose(image, drawing, rng))
            for image, drawing in zip(shown, drawings, strict=True)
        ]

    def _compose(self, image: HeadImage, drawing: np.ndarray, rng: Random) -> np.ndarray:
        canvas = heads.compose(drawing, image.head.background, rng)
        if image.doodles:
            scribble(canvas, rng.randint(2, 6), rng)
        return np.asarray(canvas.reduce(SUPERSAMPLE))

    def caption(self, image: HeadImage, rng: Random) -> list[str]:
        said = heads.tags(image.head, rng, drop=rng.choice(DROPS))
        untrue = heads.tag(image.head, image.untrue) if image.untrue else ""
        return [tag for tag in said if tag != untrue] + [DOODLES] * image.doodles

    @cached_property
    def _some(self) -> list[tuple[heads.Head, np.ndarray]]:
        rng = Random("some heads")
        shown = [heads.random_head(rng) for _ in range(4000)]
        drawings = self.drawer.draw([heads.options(head, rng) for head in shown])
        return list(zip(shown, drawings, strict=True))

    def for_autoencoder(self, count: int, rng: Random) -> list[np.ndarray]:
        result = []
        for _ in range(count):
            head, drawing = rng.choice(self._some)
            kind = rng.random()
            if kind >= 0.8:
                canvas = scribbles_only(rng)
            else:
                canvas = heads.compose(drawing, head.background, rng)
            if 0.6 <= kind < 0.8:
                scribble(canvas, rng.randint(2, 9), rng)
            result.append(np.asarray(canvas.reduce(SUPERSAMPLE)))
        return result

    def plain(self, count: int, rng: Random) -> list[np.ndarray]:
        return heads.draw_all(self.drawer, [heads.random_head(rng) for _ in range(count)], rng)

    def prompts(self, count: int) -> list[str]:
        rng = Random("prompts")
        return [", ".join(heads.tags(heads.random_head(rng))) for _ in range(count)]


WORLDS: dict[str, Callable[[Path], World]] = {
    "creatures": lambda work: Creatures(),
    "heads": lambda work: Heads(work / "packages"),
}
