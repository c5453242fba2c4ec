"""The projects of a workspace: folders with a dataset, runs or LoRAs. No torch, nothing decoded.

::

    WORKSPACE/
      PROJECT/
        dataset/   images and captions; or they lie in PROJECT itself, or in N_name folders in it
        runs/      a folder for each run
        loras/     LoRA files
      prompts/, wildcards/   see :mod:`.workspace.prompt_files`
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Final, Literal

from lorasmith.core.disk import changed_ns
from lorasmith.core.errors import UserError
from lorasmith.core.file_names import new_name_problem
from lorasmith.core.files import check_writable
from lorasmith.curation.collection import is_dataset_folder
from lorasmith.data.caption_files import TABLE_SUFFIXES, has_captions
from lorasmith.data.companions import find_companions, may_be_companion
from lorasmith.data.images import SUFFIXES
from lorasmith.data.layout import natural_key
from lorasmith.data.scan import CAPTION_SUFFIXES
from lorasmith.formats.run_paths import RUN_FILES
from lorasmith.jobs.demo import PICTURE
from lorasmith.jobs.drawings.loras import PREVIEWS
from lorasmith.jobs.runs.reader import cover_of, find_runs
from lorasmith.training.runs.folder import RunFolder

DATASET, RUNS, LORAS = "dataset", "runs", "loras"
PROMPTS: Final = "prompts"
WILDCARDS: Final = "wildcards"
IMG = "img"
"""Where kohya_ss keeps the folders of images, beside those of regularisation."""
Changed = Literal["", "captions", "images"]

_LORA = ".safetensors"
_OF_FOLDERS = frozenset({*SUFFIXES, *CAPTION_SUFFIXES, *TABLE_SUFFIXES, _LORA})
_MOST_JSON = 1 << 20
"""Bytes; a file of settings has fewer, and larger ones are not read to tell them from tables."""
_TICK = 50_000_000
"""Nanoseconds within which a file system may give two changes the same time."""


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """What the folders of a dataset hold, by the names of the files; of a dataset that is the
    project itself, with ``N_name`` folders right in it.

    Args:
        images: how many, without masks and what else belongs to another image, and without the
            previews of LoRA files.
        captioned: of these, those with a caption file.
        tables: files that may have captions of many images.
        first: the first image.
        folders: each that was looked through, and when it was changed, in nanoseconds.
    """

    images: int = 0
    captioned: int = 0
    tables: tuple[Path, ...] = ()
    first: Path | None = None
    folders: tuple[tuple[str, int], ...] = ()

    def is_as_it_was(self) -> bool:
        """Whether nothing was added to these folders, taken away or put in its place since."""
        now = [(path, changed_ns(path)) for path, _ in self.folders]
        return bool(now) and tuple(now) == self.folders

    def changed_since(self, time: float) -> Changed:
        """Whether images were changed since a time, in Unix seconds, or else captions alone."""
        suffixes = {
            os.path.splitext(entry.name)[1].lower()
            for folder, _ in self.folders
            for entry in _entries(Path(folder))
            if changed_ns(entry.path) > time * 1e9
        }
        if suffixes & SUFFIXES:
            return "images"
        return "captions" if suffixes.intersection(CAPTION_SUFFIXES) else ""


@dataclass(frozen=True, slots=True)
class Project:
    """
    Args:
        files: the images and captions of its dataset.
        runs: folders of runs, the newest first.
        loras: LoRA files in ``loras``.
        cover: an image to know it by: the newest sample of a run, else the first of its dataset.
        showcase: the image that the demo ended with, where this is its folder.
    """

    path: Path
    name: str
    files: DatasetFiles
    runs: tuple[Path, ...]
    loras: tuple[Path, ...]
    cover: Path | None
    showcase: Path | None = None

    @property
    def images(self) -> int:
        """How many its dataset has."""
        return self.files.images

    @property
    def dataset(self) -> Path:
        """Where its images lie, or would."""
        return dataset_of(self.path)


def project_folders(workspace: Path) -> list[Path]:
    """The workspace itself, if it is a project, and those of its folders that are, by name."""
    return [place for place in (workspace, *visible_folders(workspace)) if _is_project(place)]


def read_project(path: Path, files: DatasetFiles | None = None) -> Project:
    """
    Args:
        files: of its dataset, where they are known.

    Raises:
        UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError.of(path, "is no folder", "choose one that is there")
    files = files or read_files(path)
    runs = sorted(find_runs(path / RUNS), key=changed_ns, reverse=True)
    sample = next((cover for run in runs if (cover := cover_of(RunFolder(run)))), None)
    showcase = path / PICTURE
    return Project(
        path=path,
        name=path.name,
        files=files,
        runs=tuple(runs),
        loras=tuple(loras_of(path)),
        cover=sample or files.first,
        showcase=showcase if showcase.is_file() else None,
    )


def read_files(path: Path) -> DatasetFiles:
    """The images and captions of the project in a folder; by names, nothing is opened."""
    groups = _groups_of(path)
    first = next((group for group in groups if group.images), None)
    return DatasetFiles(
        images=sum(len(group.images) for group in groups),
        captioned=sum(group.captioned for group in groups),
        tables=tuple(Path(table) for group in groups for table in group.tables),
        first=Path(min(first.images, key=_order)) if first is not None else None,
        folders=tuple((group.folder, group.time) for group in groups),
    )


def create_project(workspace: Path, name: str) -> Project:
    """A new folder with an empty dataset.

    Raises:
        UserError: it is there already, or some system takes no folder of that name.
        RunError: nothing can be written there.
    """
    if problem := new_name_problem(name):
        raise UserError.of("name", f"is no name for a project: {problem}", "choose another")
    path = workspace / name
    if path.exists() or path.is_symlink():
        raise UserError.of("name", f"{name} is there already", "choose another")
    check_writable(path / DATASET)
    return read_project(path)


def loras_of(path: Path) -> list[Path]:
    """The LoRA files in a project's folder of them, in natural order."""
    return [Path(one) for one in sorted(_files(path / LORAS, {_LORA}), key=_order)]


def dataset_of(path: Path) -> Path:
    inner = path / DATASET
    return inner if inner.is_dir() else path


def project_images(path: Path) -> list[Path]:
    """The images of its dataset, folder by folder, in natural order."""
    return [Path(one) for group in _groups_of(path) for one in sorted(group.images, key=_order)]


def _groups_of(path: Path) -> list[_Group]:
    """What a project's dataset holds, folder by folder."""
    dataset = dataset_of(path)
    # Below a folder that is anybody's home there may be everything; below this one are images.
    return list(_groups(dataset) if dataset == path else _groups_below(dataset))


def _is_project(path: Path) -> bool:
    if any((path / name).is_dir() for name in (DATASET, RUNS, LORAS)):
        return True
    return any(group.images for group in _groups(path))


@dataclass(frozen=True, slots=True)
class _Group:
    """What lies right in one folder; see :class:`DatasetFiles`."""

    folder: str
    time: int
    images: list[str]
    captioned: int
    tables: list[str]


def _groups(folder: Path) -> Iterator[_Group]:
    """What is right in it, then in each folder right in it that is of the dataset. Not below: a
    folder may be anybody's home."""
    yield _group(folder)
    for inner in visible_folders(folder, links=True):
        if is_numbered(inner.name):
            yield _group(inner)
        elif inner.name == IMG:
            yield from _groups(inner)


def _groups_below(folder: Path) -> Iterator[_Group]:
    """What is in a folder and in all in it that are of the dataset, one by one."""
    waiting = [folder]
    while waiting:
        place = waiting.pop(0)
        if place != folder and all((place / name).is_file() for name in RUN_FILES):
            continue  # What a run drew.
        yield _group(place)
        waiting += [inner for inner in visible_folders(place) if is_dataset_folder(inner.name)]


def _group(folder: Path) -> _Group:
    time = changed_ns(folder)
    if time_ns() - time < _TICK:
        time = 0  # What is written next may bear the same time.
    images, captions, tables, previews = [], set(), [], set()
    for entry in _entries(folder):
        stem, suffix = os.path.splitext(entry.path)
        suffix = suffix.lower()
        if suffix not in _OF_FOLDERS or not entry.is_file():
            continue
        if suffix in SUFFIXES:
            images.append(entry.path)
        elif suffix in CAPTION_SUFFIXES:
            captions.add(stem)
        elif suffix == _LORA:
            previews |= {stem + end for end in PREVIEWS}
        else:
            tables.append(entry.path)
    images = [image for image in images if image not in previews]
    if tables:
        # a.json and a.jpg.json are of one image, and no table.
        of_one = {*images, *(os.path.splitext(image)[0] for image in images)}
        tables = [table for table in tables if os.path.splitext(table)[0] not in of_one]
        tables = [table for table in tables if _may_be_table(Path(table), images)]
    images = _without_companions(images, captions)
    captioned = sum(os.path.splitext(image)[0] in captions for image in images)
    return _Group(str(folder), time, images, captioned, tables)


def _may_be_table(path: Path, images: list[str]) -> bool:
    """By its name, but for JSON: settings of trainers and much else end so."""
    if path.suffix.lower() != ".json":
        return True
    try:
        large = path.stat().st_size > _MOST_JSON
    except OSError:
        return False
    return large or has_captions(path, list(map(Path, images)))


def _without_companions(images: list[str], captions: set[str]) -> list[str]:
    if not any(may_be_companion(os.path.basename(image)) for image in images):
        return images
    captioned = {Path(image) for image in images if os.path.splitext(image)[0] in captions}
    companions = {str(one.path) for one in find_companions(list(map(Path, images)), captioned)}
    return [image for image in images if image not in companions]


def is_numbered(name: str) -> bool:
    """As kohya's layout has it: ``10_zorp``."""
    number, underscore, rest = name.partition("_")
    return number.isdecimal() and bool(underscore and rest)


def _files(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Of one that may hold very many: their paths, in no order."""
    return [
        entry.path
        for entry in _entries(folder)
        if os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file()
    ]


def visible_folders(folder: Path, *, links: bool = False) -> list[Path]:
    """Those right in a folder that are not hidden, in natural order.

    Args:
        links: also those that links lead to.
    """
    found = [entry.name for entry in _entries(folder) if entry.is_dir(follow_symlinks=links)]
    return [folder / name for name in sorted(found, key=natural_key)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Without hidden ones, our own caches among them; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _order(path: str) -> tuple[tuple[int, str], ...]:
    return natural_key(os.path.basename(path))
