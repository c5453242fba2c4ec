"""Images that are another one mirrored, or a part of another one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls
from lorasmith.curation.facts import ImageFacts
from lorasmith.data.images import decoded_image

MIRRORED = 8.0
"""Of 24x24 thumbnails, one of them mirrored, 98 % of the cells differ by no more than this, of 255.
Mirrored files differ by 1 to 3; different drawings of one person by 34 or more."""

CROPPED = 6.0
"""The same of 32x32 thumbnails, one of them of the part that fits the other best. Crops differ by
1 to 4."""

_CELLS = 0.98
_COLOURS = 20.0  # mean difference of 4x4 thumbnails, of 255
_COARSE = 6
_SIDE = 24
_FLAT = 4.0  # spread of brightness, of 255, below which anything is alike
# What is cut off each side of the parts that are looked for first, as shares; what fits is sought
# from there.
_INSETS = (0.03, 0.07, 0.12)
_WIDEST = 0.25
_NEAR = 0.55  # between patterns of length 1: a correlation of 0.85
_NEIGHBOURS = 4
_MOST = 100  # pairs are looked at closely
_FINE = 32
_STEPS = (0.03, 0.015, 0.007, 0.003, 0.0015)
_WORTH_A_LOOK = 35.0
_DETAIL = 256  # px
# Of left, top, right and bottom: each side alone, and the whole part to and fro.
_MOVES = [
    tuple(sign if axis == side else 0 for axis in range(4)) for side in range(4) for sign in (1, -1)
] + [(1, 0, -1, 0), (-1, 0, 1, 0), (0, 1, 0, -1), (0, -1, 0, 1)]
_STRETCHED = 0.04  # by which shapes of a part and of what it is in may differ


@dataclass(frozen=True, slots=True)
class Version:
    """One image that is made of another.

    Args:
        whole: the other.
        copy: made of it.
        difference: of their thumbnails, 0 to 255.
    """

    whole: Path
    copy: Path
    difference: float


def mirrored_copies(facts: Mapping[Path, ImageFacts]) -> list[Version]:
    """Pairs, by the thumbnails that are remembered: nothing is decoded."""
    table = _Table(facts)
    pairs = []
    for first, second in table.near(table.greys[:, :, ::-1]):
        if first >= second or table.alike(first, second):
            continue
        colours = table.colours[first][:, ::-1]
        if np.abs(colours - table.colours[second]).mean() > _COLOURS:
            continue
        difference = _difference(table.greys[first][:, ::-1], table.greys[second])
        if difference <= MIRRORED:
            pairs.append(Version(table.paths[first], table.paths[second], difference))
    return pairs


def cropped_copies(
    facts: Mapping[Path, ImageFacts], controls: Controls | None = None
) -> list[Version]:
    """Pairs of which one is a part of the other, with up to a quarter cut off each side. The few
    that may be are decoded.

    Raises:
        Stopped: by ``controls``.
    """
    table = _Table(facts)
    candidates: dict[tuple[int, int], float] = {}
    for inset in _INSETS:
        for first, second in table.near(table.windows(inset)):
            if first == second or table.alike(first, second):
                continue
            if np.abs(table.colours[first] - table.colours[second]).mean() > _COLOURS:
                continue
            distance = table.distance(first, second)
            candidates[first, second] = min(candidates.get((first, second), 9.0), distance)
    closest = sorted(candidates, key=lambda pair: candidates[pair])[:_MOST]
    images: dict[int, Image.Image | None] = {}
    pairs: dict[frozenset[int], Version] = {}
    for pair in closest:
        if controls is not None:
            controls.check("stopped while looking at the pictures")
        if table.fit(*pair) > _WORTH_A_LOOK:
            continue
        for index in pair:
            if index not in images:
                images[index] = _small(table.paths[index])
        whole, part = (images[index] for index in pair)
        if whole is None or part is None:
            continue
        difference = _fit(whole, part, _FINE, _STEPS)
        known = pairs.get(frozenset(pair))
        if difference <= CROPPED and (known is None or difference < known.difference):
            paths = [table.paths[index] for index in pair]
            pairs[frozenset(pair)] = Version(paths[0], paths[1], difference)
    return list(pairs.values())


class _Table:
    """Thumbnails of the images that show something.

    greys: (images, 24, 24); colours: (images, 4, 4, 3), both 0 to 255.
    """

    def __init__(self, facts: Mapping[Path, ImageFacts]) -> None:
        usable = {path: one for path, one in facts.items() if not one.problem}
        greys = {
            path: np.frombuffer(one.greys, np.uint8).reshape(_SIDE, _SIDE)
            for path, one in usable.items()
        }
        self.paths = [path for path, grey in greys.items() if grey.std() > _FLAT]
        shape = (-1, _SIDE, _SIDE)
        self.greys = np.array([greys[path] for path in self.paths], np.float32).reshape(shape)
        colours = [np.frombuffer(usable[path].colours, np.uint8) for path in self.paths]
        self.colours = np.array(colours, np.float32).reshape(-1, 4, 4, 3)
        self._patterns = _patterns(self.greys)
        self._tree = cKDTree(self._patterns) if self.paths else None

    def near(self, versions: np.ndarray) -> Iterator[tuple[int, int]]:
        """Which images a version of one is near to: pairs of the one and the other.

        Args:
            versions: (images, 24, 24).
        """
        if self._tree is None:
            return
        count = min(_NEIGHBOURS, len(self.paths))
        _, indices = self._tree.query(
            _patterns(versions), k=count, distance_upper_bound=_NEAR, workers=1
        )
        for first, others in enumerate(np.reshape(indices, (-1, count)).tolist()):
            for second in others:
                if second < len(self.paths):  # fewer are near
                    yield first, second

    def windows(self, inset: float) -> np.ndarray:
        """The thumbnails without their edges, (images, 24, 24)."""
        low, high = inset * _SIDE, (1 - inset) * _SIDE
        box = (low, low, high, high)
        return np.array(
            [
                np.asarray(
                    Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box)
                )
                for grey in self.greys
            ]
        )

    def distance(self, first: int, second: int) -> float:
        return float(np.linalg.norm(self._patterns[first] - self._patterns[second]))

    def fit(self, first: int, second: int) -> float:
        """As :func:`_fit`, by what is remembered, whatever the shape."""
        whole, part = (Image.fromarray(self.greys[index]) for index in (first, second))
        return _fit(whole, part, _SIDE, _STEPS[:2])

    def alike(self, first: int, second: int) -> bool:
        """Whether they are nearly the same as they are."""
        return _difference(self.greys[first], self.greys[second]) <= MIRRORED


def _patterns(greys: np.ndarray) -> np.ndarray:
    """(images, 24, 24) -> (images, 36): brightness by parts, of mean 0 and length 1."""
    part = _SIDE // _COARSE
    cells = greys.reshape(-1, _COARSE, part, _COARSE, part).mean(axis=(2, 4))
    flat = cells.reshape(len(cells), _COARSE * _COARSE)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """What 98 % of the cells differ by at most, once brightness is made equal."""
    one, other = first.ravel(), second.ravel()
    differences = np.abs(one - one.mean() - other + other.mean())
    place = int(_CELLS * differences.size)
    return float(np.partition(differences, place)[place])


def _small(path: Path) -> Image.Image | None:
    """Mode L, its shorter side about 256 px."""
    try:
        with decoded_image(path) as image:
            factor = max(1, min(image.size) // _DETAIL)
            return image.convert("L").reduce(factor)
    except DatasetError:
        return None


def _fit(whole: Image.Image, part: Image.Image, side: int, steps: Sequence[float]) -> float:
    """The difference between ``part`` and the part of ``whole`` that is most like it, both
    ``side`` px; infinite where that has another shape."""
    goal = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR), np.float32)

    def box(cuts: Sequence[float]) -> tuple[float, float, float, float]:
        left, top, right, bottom = cuts
        width, height = whole.size
        return left * width, top * height, (1 - right) * width, (1 - bottom) * height

    def window(cuts: Sequence[float]) -> np.ndarray:
        small = whole.resize((side, side), Image.Resampling.BILINEAR, box(cuts))
        return np.asarray(small, np.float32)

    def mean_difference(cuts: Sequence[float]) -> float:
        if min(cuts) < 0 or max(cuts) > _WIDEST:
            return math.inf
        return float(np.abs(window(cuts) - goal).mean())

    cuts: tuple[float, ...] = min(((inset,) * 4 for inset in _INSETS), key=mean_difference)
    least = mean_difference(cuts)
    for step in steps:
        improved = True
        while improved:
            improved = False
            for move in _MOVES:
                other = tuple(cut + step * by for cut, by in zip(cuts, move, strict=True))
                difference = mean_difference(other)
                if difference < least:
                    cuts, least, improved = other, difference, True
    left, top, right, bottom = box(cuts)
    shape = (right - left) / (bottom - top)
    if abs(math.log(shape * part.height / part.width)) > _STRETCHED:
        return math.inf
    return _difference(window(cuts), goal)
