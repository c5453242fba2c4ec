"""All that lies beside images, found by their names and put together.

For ``a.jpg``: a caption ``a.txt``; tags in ``a.jpg.txt`` or ``a.tags.txt``; JSON in ``a.jpg.json``
or ``a.json``; rows of tables in its folder or one above; the prompt inside it. A caption goes
before all: the others then tell of which kind its tags are. Without one the tags of all files
together count, and the prompt where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.file_names import folded
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.sidecars.booru_json import parse_json_text, posts_in, read_post
from lorasmith.curation.sidecars.tables import ImageNames, read_table
from lorasmith.curation.sidecars.tags import SideCar, merge, merge_tags
from lorasmith.curation.sidecars.text_files import (
    MOST_BYTES,
    parse_caption_file,
    parse_tags_file,
    text_of,
)
from lorasmith.data.caption_files import MAX_BYTES, TABLE_SUFFIXES

_CAPTIONS = ("{stem}.txt", "{stem}.caption")
_TAGS = ("{name}.txt", "{name}.tags.txt", "{stem}.tags.txt", "{name}.tags", "{stem}.tags")
_JSON = ("{name}.json", "{stem}.json")
# Hydrus' other side-cars, which hold no tags.
_OTHERS = ("{name}.urls.txt", "{stem}.urls.txt", "{name}.notes.txt", "{stem}.notes.txt")

SUFFIXES = frozenset({".txt", ".caption", ".tags", *TABLE_SUFFIXES})
"""Endings of what may lie beside images."""


class Entry(Protocol):
    """A file that can be read, on a disk or in an archive."""

    @property
    def path(self) -> Path:
        """Where it lies, as it is called in messages; within its archive, below that's path."""

    def read(self, most: int) -> bytes:
        """
        Raises:
            DatasetError: it cannot be read, or has more bytes.
        """


@dataclass
class SideCars:
    """What was found beside images.

    Args:
        cars: by image; none where nothing is said of one.
        problems: files that could not be read.
        orphans: side-cars of images that are not there.
    """

    cars: dict[Path, SideCar] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)


@dataclass
class _Beside:
    caption: SideCar = field(default_factory=SideCar)
    others: list[SideCar] = field(default_factory=list)


def read_sidecars(
    images: Sequence[Path],
    files: Sequence[Entry],
    prompt_of: Callable[[Path], SideCar] = lambda path: SideCar(),
    everywhere: Collection[Path] = (),
) -> SideCars:
    """What files say of the images.

    Args:
        images: of any folders.
        files: all other files of those folders that end in one of :data:`SUFFIXES`.
        everywhere: those of the files that, as tables, may speak of all images, not only of those
            in their folder and below.
        prompt_of: what the prompt inside an image says; asked where nothing else does.
    """
    side_cars = SideCars()
    by_name = {(entry.path.parent, folded(entry.path.name)): entry for entry in files}
    beside = {path: _Beside() for path in images}
    paths_read: set[Path] = set()
    for image in images:
        _read_beside(image, by_name, beside[image], paths_read, side_cars)
    _read_tables(images, files, everywhere, beside, paths_read, side_cars)
    for image in images:
        car = _together(beside[image])
        if not any(tag.category != "rating" for tag in car.tags) and not car.text:
            prompt = prompt_of(image)
            car = merge([prompt, car]) if prompt else car
        if car:
            side_cars.cars[image] = car
    return side_cars


def _together(beside: _Beside) -> SideCar:
    if not beside.caption:
        return merge(beside.others)
    all_tags = merge_tags([beside.caption.tags, *(car.tags for car in beside.others)])
    return SideCar(all_tags[: len(beside.caption.tags)], beside.caption.text)


def _read_beside(
    image: Path,
    by_name: Mapping[tuple[Path, str], Entry],
    beside: _Beside,
    paths_read: set[Path],
    side_cars: SideCars,
) -> None:
    def there(patterns: Sequence[str]) -> list[Entry]:
        names = [folded(each.format(stem=image.stem, name=image.name)) for each in patterns]
        entries = [by_name.get((image.parent, name)) for name in names]
        entries_there = [entry for entry in entries if entry is not None]
        paths_read.update(entry.path for entry in entries_there)
        return entries_there

    there(_OTHERS)
    for entry in there(_CAPTIONS):
        car = _read(entry, side_cars, lambda text, _: parse_caption_file(text))
        beside.caption = beside.caption or car
    for entry in there(_TAGS):
        beside.others.append(_read(entry, side_cars, lambda text, _: parse_tags_file(text)))
    for entry in there(_JSON):
        beside.others.append(_read(entry, side_cars, _read_json))


def _read_json(text: str, path: Path) -> SideCar:
    posts = posts_in(parse_json_text(text.encode(), path))
    return read_post(posts[0]) if len(posts) == 1 else SideCar()


def _read(entry: Entry, side_cars: SideCars, parse: Callable[[str, Path], SideCar]) -> SideCar:
    """What a file says; nothing, and a problem, of one that cannot be read."""
    try:
        return parse(text_of(entry.read(MOST_BYTES), entry.path), entry.path)
    except DatasetError as error:
        side_cars.problems += [each for each in error.problems if each not in side_cars.problems]
        return SideCar()


def _read_tables(
    images: Sequence[Path],
    files: Sequence[Entry],
    everywhere: Collection[Path],
    beside: Mapping[Path, _Beside],
    paths_read: set[Path],
    side_cars: SideCars,
) -> None:
    """Rows of tables about images of their folder and of folders in it; the nearest table first."""
    names: dict[Path | None, ImageNames] = {}
    nearest_first = sorted(files, key=lambda entry: -len(entry.path.parts))
    for entry in nearest_first:
        path = entry.path
        if path in paths_read:
            continue
        folder = None if path in everywhere else path.parent
        if folder not in names:
            names[folder] = ImageNames(
                [image for image in images if folder is None or image.is_relative_to(folder)]
            )
        try:
            rows = read_table(path, entry.read(MAX_BYTES), names[folder])
        except DatasetError as error:
            side_cars.problems += error.problems
            continue
        side_cars.problems += rows.problems
        for image, car in rows.cars.items():
            beside[image].others.append(car)
        if not rows.cars:
            side_cars.orphans.append(path)
        elif rows.missing:
            verb = "is" if len(rows.missing) == 1 else "are"
            pictures = f"{quantity(len(rows.missing), 'picture')} that {verb}"
            what = f"names {pictures} not there ({shortlist(rows.missing)[:100]})"
            side_cars.problems.append(Problem(str(path), what, "put the pictures beside it"))
