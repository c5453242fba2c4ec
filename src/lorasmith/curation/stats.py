"""What the captions of a dataset say: how often each tag stands, where, with which others.

A tag that is on some images and off others can be switched on and off in prompts; one that is on
all of them is part of what a trigger means.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.filter import folded, tag_test
from lorasmith.curation.token_counts import TokenCounts, count_captions

# Of the pairs of tags, those that belong together most.
_MOST_PAIRS = 500


@dataclass(frozen=True, slots=True)
class TagCount:
    """
    Args:
        images: how many have it.
        folders: how many of each folder, without folders where none has it.
    """

    tag: str
    images: int
    folders: dict[str, int]


@dataclass(frozen=True, slots=True)
class TagPair:
    """Two tags and the images that have both.

    Args:
        likeness: those with both by those with either, 0 to 1: 1 = never one without the other.
    """

    first: str
    second: str
    images: int
    likeness: float


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """
    Args:
        images: how many there are.
        captioned: how many have a caption.
        folders: images by folder.
        tags: the most frequent first.
        pairs: of tags that some images have, but not all; those most alike first.
        tokens: ``None`` without captions.
    """

    images: int
    captioned: int
    folders: dict[str, int]
    tags: tuple[TagCount, ...]
    pairs: tuple[TagPair, ...]
    tokens: TokenCounts | None

    @property
    def everywhere(self) -> list[str]:
        """Tags of every image."""
        return [tag.tag for tag in self.tags if tag.images == self.images]

    @property
    def once(self) -> list[str]:
        """Tags of a single image, where there are more."""
        return [tag.tag for tag in self.tags if tag.images == 1 < self.images]

    def to_json(self) -> dict[str, Any]:
        tags = [{**asdict(tag), "share": tag.images / self.images} for tag in self.tags]
        return {
            "images": self.images,
            "captioned": self.captioned,
            "folders": self.folders,
            "tokens": asdict(self.tokens) if self.tokens else None,
            "everywhere": self.everywhere,
            "once": self.once,
            "tags": tags,
            "pairs": [asdict(pair) for pair in self.pairs],
        }

    def rows(self) -> list[list[str]]:
        """A table: a tag, images with it, without it, the share, and images of each folder."""
        folders = list(self.folders) if len(self.folders) > 1 else []
        heading = ["tag", "on", "off", "share", *(folder or "." for folder in folders)]
        return [heading] + [
            [tag.tag, str(tag.images), str(self.images - tag.images)]
            + [f"{tag.images / self.images:.4f}"]
            + [str(tag.folders.get(folder, 0)) for folder in folders]
            for tag in self.tags
        ]


def dataset_stats(images: Sequence[CollectionImage]) -> DatasetStats:
    """
    Raises:
        DatasetError: a caption cannot be read.
    """
    by_folder = Counter(image.folder for image in images)
    counts: Counter[str] = Counter()
    in_folders: dict[str, Counter[str]] = {}
    for image in images:
        for tag in dict.fromkeys(image.tags):
            counts[tag] += 1
            in_folders.setdefault(tag, Counter())[image.folder] += 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return DatasetStats(
        len(images),
        sum(bool(image.caption) for image in images),
        dict(by_folder),
        tuple(TagCount(tag, count, dict(in_folders[tag])) for tag, count in ranked),
        tuple(_pairs(images, counts)),
        count_captions(image.caption for image in images),
    )


def _pairs(images: Sequence[CollectionImage], counts: Counter[str]) -> list[TagPair]:
    """Of tags on two images or more, and not on all of them."""
    names = sorted(tag for tag, count in counts.items() if 1 < count < len(images))
    numbers = {tag: number for number, tag in enumerate(names)}
    codes = []
    for image in images:
        present = np.array(sorted({numbers[tag] for tag in image.tags if tag in numbers}), np.int64)
        first, second = _upper(len(present))
        codes.append(present[first] * len(names) + present[second])
    pairs, together = np.unique(np.concatenate([np.zeros(0, np.int64), *codes]), return_counts=True)
    pairs, together = pairs[together > 1], together[together > 1]
    if not len(pairs):
        return []
    sizes = np.array([counts[tag] for tag in names])
    first, second = np.divmod(pairs, len(names))
    likeness = together / (sizes[first] + sizes[second] - together)
    order = np.lexsort((pairs, -together, -likeness))[:_MOST_PAIRS]
    return [
        TagPair(names[first[i]], names[second[i]], int(together[i]), float(likeness[i]))
        for i in order
    ]


@cache
def _upper(count: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(count, 1)
    return first, second


# Tags of single files


@dataclass(frozen=True, slots=True)
class TaggedFile:
    """
    Args:
        position: of the tag in the caption, from 1; 0 where it has none.
    """

    path: Path
    tag: str
    position: int

    def row(self) -> list[str]:
        return [str(self.path), self.tag, str(self.position or "")]


@dataclass(frozen=True, slots=True)
class TaggedFiles:
    """Images and a tag of each.

    Args:
        question: what was asked for.
    """

    question: str
    files: tuple[TaggedFile, ...]

    @property
    def counts(self) -> dict[str, int]:
        """By tag, the most frequent first; "" counts files that have none."""
        counts = Counter(file.tag for file in self.files)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> dict[str, Any]:
        files = [{"path": str(f.path), "tag": f.tag, "position": f.position} for f in self.files]
        return {"question": self.question, "counts": self.counts, "files": files}

    def rows(self) -> list[list[str]]:
        return [["file", "tag", "position"], *(file.row() for file in self.files)]


def find_tag(images: Sequence[CollectionImage], tag: str) -> TaggedFiles:
    """The images that have a tag, which may have * and ? for other characters."""
    fits = tag_test(tag)
    files = []
    for image in images:
        for position, each in enumerate(image.tags, 1):
            if fits(folded(each)):
                files.append(TaggedFile(image.path, each, position))
    return TaggedFiles(f"find {tag}", tuple(files))


def tags_at(images: Sequence[CollectionImage], position: int) -> TaggedFiles:
    """The tag of every image at a position.

    Args:
        position: from 1, or from the end: -1 is the last.
    """
    files = []
    for image in images:
        count = len(image.tags)
        number = position if position > 0 else count + position + 1
        inside = 1 <= number <= count
        files.append(
            TaggedFile(image.path, image.tags[number - 1], number)
            if inside
            else TaggedFile(image.path, "", 0)
        )
    return TaggedFiles(f"position {position}", tuple(files))


@dataclass(frozen=True, slots=True)
class Triggers:
    """Different triggers of a dataset, in the order in which they come.

    Args:
        counts: images of each.
        missing: images that have no such tags.
    """

    counts: dict[str, int]
    missing: int

    @property
    def line(self) -> str:
        """As the web UI's Prompt S/R and ``grid`` take them: separated by commas, in quotes where
        they have some themselves."""
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(self.counts)
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        return {"triggers": list(self.counts), "counts": self.counts, "missing": self.missing}

    def rows(self) -> list[list[str]]:
        return [["trigger", "pictures"], *([tag, str(n)] for tag, n in self.counts.items())]


def parse_range(text: str, where: str = "triggers") -> tuple[int, int]:
    """The two positions of ``1:3``; ``2`` is ``2:2``, ``2:`` goes to the end.

    Raises:
        DatasetError: it is none, or empty.
    """
    first, colon, last = (part.strip() for part in text.partition(":"))
    try:
        numbers = int(first or 1), int(last or -1) if colon else int(first)
    except ValueError:
        numbers = (0, 0)
    if not all(0 < abs(number) < 10_000 for number in numbers):
        what = f'"{text}" are not two positions'
        hint = "write them as in 1:2; they count from 1, and from the end as -1"
        if any(text.strip("+-") and not text.strip("+-0") for text in (first, last)):
            what = "there is no position 0"
        raise DatasetError(Problem(where, what, hint))
    if (numbers[0] > 0) == (numbers[1] > 0) and numbers[0] > numbers[1]:
        what = f'the range "{text}" is empty: it ends before it begins'
        raise DatasetError(Problem(where, what, f"write {numbers[1]}:{numbers[0]}"))
    return numbers


def triggers_of(images: Sequence[CollectionImage], first: int = 1, last: int = 1) -> Triggers:
    """The tags from one position to another, of all images, each text once.

    Args:
        first, last: positions, from 1, or from the end as -1; both are part of it.
    """
    counts: Counter[str] = Counter()
    for image in images:
        begin = first - 1 if first > 0 else max(0, len(image.tags) + first)
        end = last if last > 0 else len(image.tags) + last + 1
        counts[", ".join(image.tags[begin : max(0, end)])] += 1
    missing = counts.pop("", 0)
    return Triggers(dict(counts), missing)
