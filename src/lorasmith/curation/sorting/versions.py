"""Images that are another one mirrored, or a part of another one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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
_AT_A_TIME = 2_500_000  # pairs of patterns, 10 MB
_NARROWED = 1000  # thumbnails at a time, 2 MB
_ROUNDED = 1e-5  # of squared distances of patterns: more than rounding makes of them
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
        data = b"".join(one.greys for one in usable.values())
        greys = np.frombuffer(data, np.uint8).reshape(-1, _SIDE * _SIDE)
        shown = _spread(greys) > _FLAT
        self.paths = [path for path, shows in zip(usable, shown, strict=True) if shows]
        self.greys = greys[shown].reshape(-1, _SIDE, _SIDE).astype(np.float32)
        data = b"".join(usable[path].colours for path in self.paths)
        colours = np.frombuffer(data, np.uint8).reshape(-1, 4, 4, 3)
        self.colours = colours.astype(np.float32)
        self._patterns = _patterns(self.greys)

    def near(self, versions: np.ndarray) -> Iterator[tuple[int, int]]:
        """Which images a version of one is near to: pairs of the one and the other, of each at most
        the nearest four, the nearest first.

        All are compared with all: in 36 dimensions a tree passes over next to none of them, and a
        product of matrices is fifteen times as quick.

        Args:
            versions: (images, 24, 24).
        """
        patterns = _patterns(versions)
        step = max(1, _AT_A_TIME // max(1, len(self.paths)))
        for begin in range(0, len(patterns), step):
            some = patterns[begin : begin + step]
            squares = _squared_distances(some, self._patterns)
            near = squares < _NEAR**2
            crowded = np.flatnonzero(np.count_nonzero(near, axis=1) > _NEIGHBOURS)
            for row in crowded.tolist():
                farthest = np.partition(squares[row], _NEIGHBOURS - 1)[_NEIGHBOURS - 1]
                others = np.flatnonzero(near[row] & (squares[row] <= farthest + _ROUNDED))
                distances = np.linalg.norm(self._patterns[others] - some[row], axis=1)
                near[row] = False
                near[row, others[np.argsort(distances, kind="stable")[:_NEIGHBOURS]]] = True
            # Of a flat table; a nested one takes ten times as long to look through.
            rows, columns = np.divmod(np.flatnonzero(near), near.shape[1])
            distances = np.linalg.norm(some[rows] - self._patterns[columns], axis=1)
            order = np.lexsort((distances, rows))
            yield from zip((rows[order] + begin).tolist(), columns[order].tolist(), strict=True)

    def windows(self, inset: float) -> np.ndarray:
        """The thumbnails without their edges, (images, 24, 24)."""
        # Rows of many images in one picture, as Pillow takes longer to begin than to resize; it
        # works on rows and columns one after the other as well.
        windows = np.empty_like(self.greys)
        for begin in range(0, len(windows), _NARROWED):
            across = _narrowed(self.greys[begin : begin + _NARROWED], inset)
            narrow = _narrowed(across.transpose(0, 2, 1), inset)
            windows[begin : begin + _NARROWED] = narrow.transpose(0, 2, 1)
        return windows

    def distance(self, first: int, second: int) -> float:
        return float(np.linalg.norm(self._patterns[first] - self._patterns[second]))

    def fit(self, first: int, second: int) -> float:
        """As :func:`_fit`, by what is remembered, whatever the shape."""
        whole, part = (Image.fromarray(self.greys[index]) for index in (first, second))
        return _fit(whole, part, _SIDE, _STEPS[:2])

    def alike(self, first: int, second: int) -> bool:
        """Whether they are nearly the same as they are."""
        return _difference(self.greys[first], self.greys[second]) <= MIRRORED


def _spread(greys: np.ndarray) -> np.ndarray:
    """(images, cells), 0 to 255 -> (images,): standard deviation of brightness."""
    count = greys.shape[1]
    sums = greys.sum(axis=1, dtype=np.int64)
    squares = np.einsum("ij,ij->i", greys, greys, dtype=np.int64, casting="unsafe")
    return np.sqrt(squares * count - sums**2) / count


def _narrowed(greys: np.ndarray, inset: float) -> np.ndarray:
    """Rows without their ends, as long as before.

    Args:
        greys: (images, 24, 24).
        inset: what is cut off each end, as a share.
    """
    rows = Image.fromarray(np.ascontiguousarray(greys).reshape(-1, _SIDE))
    box = (inset * _SIDE, 0, (1 - inset) * _SIDE, rows.height)
    narrow = rows.resize((_SIDE, rows.height), Image.Resampling.BILINEAR, box)
    return np.asarray(narrow).reshape(-1, _SIDE, _SIDE)


def _patterns(greys: np.ndarray) -> np.ndarray:
    """(images, 24, 24) -> (images, 36): brightness by parts, of mean 0 and length 1."""
    part = _SIDE // _COARSE
    cells = greys.reshape(-1, _COARSE, part, _COARSE, part).mean(axis=(2, 4))
    flat = cells.reshape(len(cells), _COARSE * _COARSE)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _squared_distances(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(a, 36), (b, 36) -> (a, b), but for rounding: |one|² + |other|² - 2 one·other."""
    lengths, other_lengths = ((each**2).sum(axis=1, keepdims=True) for each in (ones, others))
    left = np.hstack([-2 * ones, lengths, np.ones_like(lengths)])
    right = np.hstack([others, np.ones_like(other_lengths), other_lengths])
    return left @ right.T


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
