"""Images that are the same, or nearly the same to look at."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

from lorasmith.curation.facts import ImageFacts
from lorasmith.data.cache.file_memo import hash_file

# Of 64 bits; re-encoded or slightly retouched copies differ by 0 to 6, different images by ~32.
MAX_DISTANCE = 6
# The hash sees patterns of brightness only. What is alike to it must also have nearly the same
# colours: mean difference of 4x4 thumbnails, of 255.
MAX_COLOUR_DIFFERENCE = 12.0
# Line drawings of one style, white for the most part, are alike to both. Of copies that were made
# smaller, compressed, brightened or cut by a hundredth, cells of 24x24 thumbnails differ by 1 to 20
# of 255; of different drawings by 14 to 150, and half of them by more than 50.
MAX_GREY_DIFFERENCE = 20.0
_CELLS = 0.98  # of them: a mark in a corner does not count
_GAIN = (0.8, 1.25)  # contrast that is made equal
_BANDS = MAX_DISTANCE + 1
_BITS = 64


def exact_duplicates(paths: Sequence[Path]) -> list[list[Path]]:
    """Groups of files with the same bytes; only what is of one size is read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        with contextlib.suppress(OSError):  # whoever opens it says so
            by_size[path.stat().st_size].append(path)
    groups: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for size, same in by_size.items():
        for path in same if len(same) > 1 else ():
            with contextlib.suppress(OSError):
                groups[size, hash_file(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(facts: Mapping[Path, ImageFacts]) -> list[list[Path]]:
    """Groups of images that a person would call the same.

    Two hashes that differ in at most n bits agree in one of n + 1 bands, so only images that
    share a band are compared: nearly linear, where all pairs of 10 000 would be 50 million.
    """
    paths = [path for path, one in facts.items() if not one.problem]
    good = [facts[path] for path in paths]
    leader = list(range(len(good)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for first, second in _candidates(good):
        if alike(good[first], good[second]) and find(first) != find(second):
            leader[max(find(first), find(second))] = min(find(first), find(second))
    groups: dict[int, list[Path]] = defaultdict(list)
    for index, path in enumerate(paths):
        groups[find(index)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(facts: Sequence[ImageFacts]) -> Iterator[tuple[int, int]]:
    by_hash: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(facts):
        by_hash[one.phash].append(index)
    for same in by_hash.values():  # neighbours only: blank images may all have one hash
        yield from pairwise(sorted(same, key=lambda index: facts[index].colours))
    edges = [_BITS * band // _BANDS for band in range(_BANDS + 1)]
    for low, high in pairwise(edges):
        shelves: dict[int, list[int]] = defaultdict(list)
        for phash, same in by_hash.items():
            shelves[(phash >> low) & ((1 << (high - low)) - 1)].append(same[0])
        for shelf in shelves.values():
            for first, second in combinations(shelf, 2):
                # Most are not, and are not worth another call.
                if (facts[first].phash ^ facts[second].phash).bit_count() <= MAX_DISTANCE:
                    yield first, second


def alike(first: ImageFacts, second: ImageFacts) -> bool:
    """Whether a person would call two images the same."""
    if (first.phash ^ second.phash).bit_count() > MAX_DISTANCE:
        return False
    difference = sum(abs(a - b) for a, b in zip(first.colours, second.colours, strict=True))
    if difference > MAX_COLOUR_DIFFERENCE * len(first.colours):
        return False
    return grey_difference(first, second) <= MAX_GREY_DIFFERENCE


def grey_difference(first: ImageFacts, second: ImageFacts) -> float:
    """Of 24x24 thumbnails, 0 to 255: what 98 % of the cells differ by at most, once brightness and
    contrast are made equal."""
    import numpy as np

    one, other = (
        np.frombuffer(each.greys, np.uint8).astype(np.float32) for each in (first, second)
    )
    one, other = one - one.mean(), other - other.mean()
    gain = float(one @ other) / max(float(one @ one), 1.0)
    low, high = _GAIN
    differences = np.abs(one * min(max(gain, low), high) - other)
    return float(np.partition(differences, int(_CELLS * differences.size))[
        int(_CELLS * differences.size)
    ])  # fmt: skip
