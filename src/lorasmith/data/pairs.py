"""Pairs of images that differ in one thing: the two folders they are in, and who belongs to whom.

The layout is that of the Concept Sliders' own code: two folders, and in both the same file names.
Pairs show the same, in the same size, so that both are placed, cropped and mirrored alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.data.dataset import Dataset
from lorasmith.data.layout import FolderSpec, entries_of
from lorasmith.data.scan import DatasetImage, Scan, scan

SIDES = (("low", "high"), ("bad", "good"), ("before", "after"))
"""What the two folders may be called: the one with less of the attribute, and the one with more."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pairs:
    """The images of both sides, in the same order: ``low.images[n]`` belongs to
    ``high.images[n]``."""

    low: Scan
    high: Scan

    def repeated(self, repeats: int) -> Pairs:
        """The same with so many uses of each pair in an epoch."""
        low, high = (
            replace(side, folders=tuple(replace(one, repeats=repeats) for one in side.folders))
            for side in (self.low, self.high)
        )
        return Pairs(low, high)

    def opposites(self, dataset: Dataset) -> Dataset:
        """The other side of a dataset that was built from :attr:`high`: each item in the place and
        the views of its partner."""
        partners = {
            high.path: low for low, high in zip(self.low.images, self.high.images, strict=True)
        }
        items = [
            replace(item, image=partners[item.image.path], views_name=item.image.path.name)
            for item in dataset.items
        ]
        return Dataset(items, dataset.rules, dataset.groups, dataset.augmentation)


def scan_pairs(path: Path, caption: str) -> Pairs:
    """All pairs in a folder.

    Args:
        path: with two folders in it, called as one of :data:`SIDES`.
        caption: of every image; what is written beside them is not read.

    Raises:
        DatasetError: a folder is missing, an image has no partner or one of another size, or cannot
            be read.
    """
    scans = [scan([FolderSpec(folder, caption=caption)]) for folder in find_sides(Path(path))]
    problems = [problem for one in scans for problem in one.problems]
    if problems:
        raise DatasetError(dict.fromkeys(problems))
    sides = [_by_stem(one.images, problems) for one in scans]
    less, more = sides
    problems += _unpaired(less, more, [one.folders[0].path for one in scans])
    stems = [stem for stem in more if stem in less]
    problems += _unlike((less[stem], more[stem]) for stem in stems)
    if problems:
        raise DatasetError(problems)
    written = sum(image.caption_path is not None for side in sides for image in side.values())
    notes: tuple[Problem, ...] = ()
    if written:
        what = f"{quantity(written, 'caption', 'is')} not read: "
        what += "all pairs have one, and it says nothing of what differs"
        notes = (Problem(str(path), what),)
    low, high = (
        replace(
            one,
            images=tuple(replace(side[stem], caption=caption, caption_path=None) for stem in stems),
            warnings=(*one.warnings, *notes * number),
        )
        for number, (one, side) in enumerate(zip(scans, sides, strict=True))
    )
    return Pairs(low, high)


def find_sides(path: Path) -> tuple[Path, Path]:
    """The folder with less of the attribute, and the one with more.

    Raises:
        DatasetError: they are not there, or there are several.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise DatasetError.of(path, what, "give the folder that the two sides of the pairs are in")
    folders = {entry.name.casefold(): entry for entry in entries_of(path) if entry.is_dir()}
    known = " or ".join(f"{low}/ and {high}/" for low, high in SIDES)
    matches = [names for names in SIDES if any(name in folders for name in names)]
    if not matches:
        there = ", ".join(sorted(folders)[:_SHOWN])
        what = f"has no folders for the two sides of pairs{f', only {there}' * bool(there)}"
        raise DatasetError.of(path, what, f"put pictures of the same names into {known}")
    if len(matches) > 1:
        what = f"has several pairs of folders: {', '.join(map('/'.join, matches))}"
        raise DatasetError.of(path, what, "leave one of them there")
    low, high = matches[0]
    for name, other in ((low, high), (high, low)):
        if name not in folders:
            what = f"has {other}/ and no {name}/, which the other side of each pair is in"
            raise DatasetError.of(path, what, f"put pictures of the same names into {name}/")
    return folders[low], folders[high]


def _by_stem(images: Iterable[DatasetImage], problems: list[Problem]) -> dict[str, DatasetImage]:
    found: dict[str, DatasetImage] = {}
    for image in images:
        if (other := found.get(image.path.stem)) is not None:
            what = f"has the name of {other.path.name}, so which of them is paired is not known"
            problems.append(Problem(str(image.path), what, "rename or remove one"))
        found.setdefault(image.path.stem, image)
    return found


def _unpaired(
    low: Mapping[str, DatasetImage], high: Mapping[str, DatasetImage], folders: list[Path]
) -> Iterator[Problem]:
    for side, other, folder in ((low, high, folders[1]), (high, low, folders[0])):
        alone = [image.path for stem, image in side.items() if stem not in other]
        for path in alone[:_SHOWN]:
            what = f"has no partner: there is no picture called {path.stem} in {folder.name}/"
            yield Problem(str(path), what, "put it there, or remove this one")
        if len(alone) > _SHOWN:
            what = f"{len(alone) - _SHOWN} more have no partner in {folder.name}/"
            yield Problem(str(alone[0].parent), what)


def _unlike(pairs: Iterable[tuple[DatasetImage, DatasetImage]]) -> Iterator[Problem]:
    for low, high in pairs:
        if low.whole_size != high.whole_size:
            sizes = ["{} x {}".format(*image.whole_size) for image in (high, low)]
            what = f"is {sizes[0]} px, and its partner in {low.path.parent.name}/ {sizes[1]} px"
            yield Problem(str(high.path), what, "save both in the same size")
        elif low.region != high.region:
            what = "has another recorded crop than its partner"
            yield Problem(str(high.path), what, "record the same for both, or for none")
