"""What training sees of an image: augmentation as a pure function.

A *view* is all that is done to an image's pixels: scaling, crop, mirroring, colour. Each image
has a number of *slots*: the image as it is, then views drawn at random. Over as many uses as
there are slots, each slot comes once, in an order that the seed decides. An image that is cut into
slices shows one in every second use, in turn likewise: more would lose sight of the whole.

Random views are drawn once for good, from the file's name, so that they can be cached, and another
seed or more images leave the cache as it is; or else afresh in every use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.rng import python_rng
from lorasmith.data.augmentation.crops import FaceBox, face_crop, has_room, random_crop, slices
from lorasmith.data.buckets import Placement
from lorasmith.data.images import decoded_image, fit
from lorasmith.data.recorded_crops import Region


@dataclass(frozen=True, slots=True)
class View:
    """One way to see an image, down to the last pixel.

    Args:
        placement: scaling and crop.
        flip: mirrored left to right, after the crop.
        colour: ``None`` leaves colours as they are.
        region: the part of the image that the placement is of; ``None`` is the whole.
    """

    placement: Placement
    flip: bool = False
    colour: Colour | None = None
    region: Region | None = None

    def size_condition(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's six numbers for what is really seen; see :meth:`Placement.size_condition`."""
        return self.placement.size_condition(flipped=self.flip)


PLAIN = AugmentSettings()

# With fresh variants, of as many uses of an image one shows it as it is.
FRESH_VARIANTS = 4


@dataclass(frozen=True, slots=True)
class AugmentedViews:
    """The views of one image.

    Args:
        placement: the image's own.
        name: the file's name, which random views that are cached are drawn from.
        face: where it is known.
        region: the part of the image that is used; ``None`` is the whole.
    """

    augmentation: AugmentSettings
    placement: Placement
    name: str
    face: FaceBox | None = None
    region: Region | None = None

    @property
    def sliced(self) -> int:
        """How many slices the image is cut into; 0 for one that is not large."""
        return len(slices(self.placement, self.augmentation.slices))

    @property
    def varied(self) -> int:
        """How many random views it has."""
        a = self.augmentation
        moves = a.random_crop and (a.zoom > 1 or has_room(self.placement))
        faces = a.face_crop is not None and self.face is not None
        variants = FRESH_VARIANTS if a.variants == "fresh" else a.variants
        return variants - 1 if a.colour or moves or faces else 0

    @property
    def slots(self) -> int:
        """The image as it is, and its random views."""
        return 1 + self.varied

    def all(self) -> Iterator[View]:
        """Every view that can come, where none is drawn afresh; may hold equal ones."""
        for flip in (False, True) if self.augmentation.flip else (False,):
            for slot in range(self.slots):
                yield self._at(slot, flip, self._fixed_rng(slot))
            for slice_ in range(self.sliced):
                yield self._slice(slice_, flip)

    def at(self, seed: int, epoch: int, sample: int, *, item: int, use: int) -> View:
        """The view in one use.

        Args:
            seed: the run's.
            epoch: from 0.
            sample: number of the sample in each epoch.
            item: number of the image.
            use: how often the image has come before in the run.
        """
        flip = False
        if self.augmentation.flip:
            flip = python_rng(seed, "flip", epoch, sample).random() < 0.5
        if self.sliced:
            # Not every image shows a slice in the same epoch: its loss would go up and down.
            use, part = divmod(use + item % 2, 2)
            if part:
                return self._slice(_turn(self.sliced, use, seed, "slices", item), flip)
        slot = _turn(self.slots, use, seed, "views", item)
        if self.augmentation.variants == "fresh":
            return self._at(slot, flip, python_rng(seed, "view", epoch, sample))
        return self._at(slot, flip, self._fixed_rng(slot))

    def _fixed_rng(self, slot: int) -> Random:
        return python_rng(0, f"view/{self.name}", slot)

    def _slice(self, number: int, flip: bool) -> View:
        placement = slices(self.placement, self.augmentation.slices)[number]
        return View(placement, flip, region=self.region)

    def _at(self, slot: int, flip: bool, rng: Random) -> View:
        if slot == 0:
            return View(self.placement, flip, region=self.region)
        a, placement = self.augmentation, self.placement
        if a.face_crop is not None and self.face is not None:
            placement = face_crop(placement, self.face, a.face_crop, rng)
        elif a.random_crop:
            placement = random_crop(placement, rng, a.zoom)
        colour = draw_colour(a.colour, rng) if a.colour else None
        return View(placement, flip, colour, self.region)


def _turn(count: int, use: int, seed: int, purpose: str, item: int) -> int:
    """Whose turn it is of ``count``: each comes once in as many uses, shuffled anew each time."""
    if count == 1:
        return 0
    cycle, position = divmod(use, count)
    order = list(range(count))
    python_rng(seed, purpose, item, cycle).shuffle(order)
    return order[position]


# Gentle changes of colour, worked out on values 0..1: sd-scripts takes gamma of 0..255, which
# darkens an image by a quarter or clips it.

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


def render(path: Path, view: View, background: str = "white") -> np.ndarray:
    """uint8 (H, W, 3), H and W those of the view's bucket.

    Args:
        path: the image.
        background: colour under transparent parts.

    Raises:
        DatasetError: the image cannot be decoded.
    """
    with decoded_image(path, background) as whole:
        image = whole if view.region is None else whole.crop(view.region.within(whole.size))
        pixels = fit(image, view.placement.resized, view.placement.crop)
    if view.colour is not None:
        pixels = recolour(pixels, view.colour)
    return np.ascontiguousarray(pixels[:, ::-1]) if view.flip else pixels
