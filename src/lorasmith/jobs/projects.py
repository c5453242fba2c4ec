"""The projects of a workspace: folders with a dataset, runs or LoRAs. No torch, nothing decoded.

::

    WORKSPACE/
      PROJECT/
        dataset/   images and captions; or they lie in PROJECT itself, or in N_name folders in it
        runs/      a folder for each run
        loras/     LoRA files
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.core.file_names import name_problem
from lorasmith.core.files import check_writable
from lorasmith.curation.collection import is_dataset_folder
from lorasmith.data.companions import find_companions, may_be_companion
from lorasmith.data.images import SUFFIXES
from lorasmith.data.layout import natural_key
from lorasmith.data.scan import CAPTION_SUFFIXES
from lorasmith.formats.run_paths import RUN_FILES
from lorasmith.jobs.demo import PICTURE
from lorasmith.jobs.runs.reader import cover_of, find_runs
from lorasmith.training.runs.folder import RunFolder

DATASET, RUNS, LORAS = "dataset", "runs", "loras"
IMG = "img"
"""Where kohya_ss keeps the folders of images, beside those of regularisation."""


@dataclass(frozen=True, slots=True)
class Project:
    """
    Args:
        images: how many its dataset has, without masks and what else belongs to another image;
            of one that is the project itself, with those of ``N_name`` folders right in it.
        runs: folders of runs, the newest first.
        loras: LoRA files in ``loras``.
        cover: an image to know it by: the newest sample of a run, else the first of its dataset.
        showcase: the image that the demo ended with, where this is its folder.
    """

    path: Path
    name: str
    images: int
    runs: tuple[Path, ...]
    loras: tuple[Path, ...]
    cover: Path | None
    showcase: Path | None = None

    @property
    def dataset(self) -> Path:
        """Where its images lie, or would."""
        return dataset_of(self.path)


def list_projects(workspace: Path) -> list[Project]:
    """The workspace itself, if it is one, and those of its folders that are, by their names."""
    places = [workspace, *_folders(workspace)]
    return [read_project(place) for place in places if _is_project(place)]


def read_project(path: Path) -> Project:
    """
    Raises:
        UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError.of(path, "is no folder", "choose one that is there")
    dataset = dataset_of(path)
    # Below a folder that is anybody's home there may be everything; below this one are images.
    groups = list(_images(dataset) if dataset == path else _images_below(dataset))
    first = min(groups[0], key=_order) if groups else None
    runs = sorted(find_runs(path / RUNS), key=_time, reverse=True)
    loras = sorted(_files(path / LORAS, {".safetensors"}), key=_order)
    sample = next((cover for run in runs if (cover := cover_of(RunFolder(run)))), None)
    showcase = path / PICTURE
    return Project(
        path=path,
        name=path.name,
        images=sum(map(len, groups)),
        runs=tuple(runs),
        loras=tuple(map(Path, loras)),
        cover=sample or (Path(first) if first is not None else None),
        showcase=showcase if showcase.is_file() else None,
    )


def create_project(workspace: Path, name: str) -> Project:
    """A new folder with an empty dataset.

    Raises:
        UserError: it is there already, or some system takes no folder of that name.
        RunError: nothing can be written there.
    """
    problem = name_problem(name) if name.strip() else "it is empty"
    if not problem and name.startswith((".", "-", "~")):
        problem = f"it begins with {name[0]!r}"
    if not problem and len(os.fsencode(name)) > 200:
        problem = "it is longer than 200 bytes"
    if problem:
        raise UserError.of("name", f"is no name for a project: {problem}", "choose another")
    path = workspace / name
    if path.exists() or path.is_symlink():
        raise UserError.of("name", f"{name} is there already", "choose another")
    check_writable(path / DATASET)
    return read_project(path)


def dataset_of(path: Path) -> Path:
    inner = path / DATASET
    return inner if inner.is_dir() else path


def _is_project(path: Path) -> bool:
    if any((path / name).is_dir() for name in (DATASET, RUNS, LORAS)):
        return True
    return any(True for _ in _images(path))


def _images(folder: Path) -> Iterator[list[str]]:
    """Those right in it, then those of each folder right in it, in no order; without empty groups.
    Not below: a folder may be anybody's home."""
    if right := _images_right_in(folder):
        yield right
    for inner in _folders(folder, links=True):
        if is_numbered(inner.name):
            if some := _images_right_in(inner):
                yield some
        elif inner.name == IMG:
            yield from _images(inner)


def _images_below(folder: Path) -> Iterator[list[str]]:
    """Those of a folder and of all in it that are of the dataset, one by one."""
    waiting = [folder]
    while waiting:
        place = waiting.pop(0)
        if place != folder and all((place / name).is_file() for name in RUN_FILES):
            continue  # What a run drew.
        if right := _images_right_in(place):
            yield right
        waiting += [inner for inner in _folders(place) if is_dataset_folder(inner.name)]


def _images_right_in(folder: Path) -> list[str]:
    files = _files(folder, SUFFIXES)
    if not any(may_be_companion(os.path.basename(file)) for file in files):
        return files
    captions = {os.path.splitext(file)[0] for file in _files(folder, CAPTION_SUFFIXES)}
    captioned = {Path(file) for file in files if os.path.splitext(file)[0] in captions}
    companions = {str(one.path) for one in find_companions(list(map(Path, files)), captioned)}
    return [file for file in files if file not in companions]


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


def _folders(folder: Path, *, links: bool = False) -> list[Path]:
    """In natural order."""
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


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
