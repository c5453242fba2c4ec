"""A look at every image: does it decode to its end, is it transparent, which ones are alike."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

from PIL import Image

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.curation.facts import perceptual_hash
from lorasmith.data.cache.file_memo import FileMemo, hash_file
from lorasmith.data.images import glance

# Of 64 bits; re-encoded or slightly retouched copies differ by 0 to 6, different images by ~32.
MAX_DISTANCE = 6
# The hash sees patterns of brightness only. What is alike to it must also have nearly the same
# colours: mean difference of 4x4 thumbnails, of 255.
MAX_COLOUR_DIFFERENCE = 12.0
_BANDS = MAX_DISTANCE + 1
_BITS = 64


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What one look at a file gave.

    Args:
        problem: why it cannot be used, or ``None``.
        transparent: some pixel lets the background through.
        phash: 64-bit perceptual hash.
        colours: 48 numbers 0..255, a 4x4 RGB thumbnail.
    """

    path: Path
    problem: Problem | None = None
    transparent: bool = False
    phash: int = 0
    colours: bytes = b""


def fingerprint_images(
    paths: Sequence[Path],
    *,
    memo: Path | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> list[ImageFingerprint]:
    """Decode every image (in threads: Pillow lets go of Python's lock).

    Args:
        memo: a JSON file in which results are remembered, so that only new files are decoded.
        observer: told of progress ("looking at images").
        controls: asked after each image.

    Raises:
        Stopped: by ``controls``.
    """
    file_memo = FileMemo(memo)
    fingerprints = {path: _remembered(path, file_memo) for path in paths}
    unknown = [path for path, look in fingerprints.items() if look is None]
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        for done, look in enumerate(pool.map(_fingerprint, unknown), 1):
            if controls is not None:
                controls.check("stopped while looking at the pictures")
            fingerprints[look.path] = look
            if look.problem is None:
                file_memo.set(look.path, [look.transparent, look.phash, look.colours.hex()])
            observer(Progress("looking at pictures", done, len(unknown)))
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C too: at once, not after the last image
    file_memo.save()
    return [look for look in fingerprints.values() if look is not None]


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


def near_duplicates(fingerprints: Sequence[ImageFingerprint]) -> list[list[Path]]:
    """Groups of images that a person would call the same.

    Two hashes that differ in at most n bits agree in one of n + 1 bands, so only images that
    share a band are compared: nearly linear, where all pairs of 10 000 would be 50 million.
    """
    good = [look for look in fingerprints if look.problem is None]
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
    for index, look in enumerate(good):
        groups[find(index)].append(look.path)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(fingerprints: Sequence[ImageFingerprint]) -> Iterator[tuple[int, int]]:
    by_hash: dict[int, list[int]] = defaultdict(list)
    for index, look in enumerate(fingerprints):
        by_hash[look.phash].append(index)
    for same in by_hash.values():  # neighbours only: blank images may all have one hash
        yield from pairwise(sorted(same, key=lambda index: fingerprints[index].colours))
    edges = [_BITS * band // _BANDS for band in range(_BANDS + 1)]
    for low, high in pairwise(edges):
        shelves: dict[int, list[int]] = defaultdict(list)
        for phash, same in by_hash.items():
            shelves[(phash >> low) & ((1 << (high - low)) - 1)].append(same[0])
        for shelf in shelves.values():
            yield from combinations(shelf, 2)


def alike(first: ImageFingerprint, second: ImageFingerprint) -> bool:
    """Whether a person would call two images the same."""
    if (first.phash ^ second.phash).bit_count() > MAX_DISTANCE:
        return False
    difference = sum(abs(a - b) for a, b in zip(first.colours, second.colours, strict=True))
    return difference <= MAX_COLOUR_DIFFERENCE * len(first.colours)


def _fingerprint(path: Path) -> ImageFingerprint:
    try:
        image = glance(path)
    except DatasetError as error:
        return ImageFingerprint(path, error.problems[0])
    phash = perceptual_hash(image.thumbnail.convert("L"))
    colours = image.thumbnail.resize((4, 4), Image.Resampling.BOX).tobytes()
    return ImageFingerprint(path, None, image.transparent, phash, colours)


def _remembered(path: Path, file_memo: FileMemo) -> ImageFingerprint | None:
    try:
        value = file_memo.get(path)
    except DatasetError as error:
        return ImageFingerprint(path, error.problems[0])
    if not (isinstance(value, list) and len(value) == 3):
        return None
    transparent, phash, colours = value
    return ImageFingerprint(path, None, bool(transparent), int(phash), bytes.fromhex(colours))
